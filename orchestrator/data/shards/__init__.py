"""Shards: Arrow IPC files that hold prepared clips, in one of three kinds behind one reader.

Contract: `ShardWriter` turns the same clips into the same bytes; `ShardReader` maps a shard into memory, keeps no file
descriptor and opens in the same time however many clips there are; `schema` says what is in the file.
"""

from orchestrator.data.shards.reader import ShardReader, StoredClip
from orchestrator.data.shards.schema import PART_FRAMES, SHARD_VERSION, ShardKind
from orchestrator.data.shards.writer import ClipWriter, ShardWriter

__all__ = ["PART_FRAMES", "SHARD_VERSION", "ClipWriter", "ShardKind", "ShardReader", "ShardWriter", "StoredClip"]
