"""A unit of preparation: a few clips become one shard, in any process that sees sources and output.

Promises: every finished clip is kept, so that a unit that was stopped anywhere goes on with the next clip; the shard is
put together from the finished clips, in order, and has the same bytes however often that was interrupted; it and its
records appear whole or not at all; a bad clip becomes a record with its reason, never an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.config.media import FPS
from orchestrator.data.files import printable
from orchestrator.data.importers import SourceClip
from orchestrator.data.manifest import ManifestRow
from orchestrator.data.media.features import log_mel
from orchestrator.data.media.frames import FrameChunks
from orchestrator.data.media.speech import frame_power, pack_bits, speech_frames
from orchestrator.data.prepare.records import PART_FOLDER, SHARD_FOLDER, Record, read_records, write_records
from orchestrator.data.prepare.settings import PreparationConfig
from orchestrator.data.shards import ClipWriter, ShardReader, ShardWriter
from orchestrator.data.sources import LocalClip, Sources
from orchestrator.data.work import ClipDone, ClipStarted, Message
from orchestrator.errors import DataError, StorageError
from orchestrator.storage import Folder, open_folder

_CHUNK = 32
"""Frames that are handed on, and encoded, at once."""


@dataclass(frozen=True)
class PrepareUnit:
    """Clips that become one shard."""

    root: str
    """Where the sources are: a path or URI."""
    out: str
    """The prepared folder: a path or URI."""
    clips: tuple[SourceClip, ...]
    """The clips, sorted."""
    config: PreparationConfig
    """The settings."""
    preparation: str
    """Their fingerprint."""
    given_up: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Clips to reject unseen: source -> reason and detail."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The clips' sources."""
        return tuple(clip.source for clip in self.clips)

    def without(self, source: str, reason: str, detail: str) -> PrepareUnit:
        """The same unit with a clip that is rejected unseen."""
        return replace(self, given_up={**self.given_up, source: (reason, detail)})

    def run(self) -> Iterator[Message]:
        """Prepare the clips; the shard and its records are there when the iterator is exhausted.

        Raises:
            OrchestratorError: the storage fails; no clip is to blame.
        """
        sources, out = Sources(open_folder(self.root)), open_folder(self.out)
        records: list[Record] = []
        for clip in self.clips:
            yield ClipStarted(clip.source)
            record, reused = self._finished(clip, sources, out)
            records.append(record)
            row = record.row
            yield ClipDone(clip.source, row.reason, row.detail, row.duration_s, reused)
        self._assemble(records, out)

    def _finished(self, clip: SourceClip, sources: Sources, out: Folder) -> tuple[Record, bool]:
        """The record of a clip, prepared now or before the unit was stopped."""
        state = sources.state(clip)  # read before the content, so that a later change is seen
        blank = ManifestRow(printable(clip.source), clip.source, "", "ok", preparation=self.preparation)
        with ExitStack() as stack:
            try:
                if state is None:
                    raise DataError("there is no such file", reason="missing")
                content = stack.enter_context(sources.local(clip))
                fingerprint = content.fingerprint()
            except (DataError, OSError) as error:
                return Record(_rejected(blank, "missing", _words(error, clip)), -1, 0), False
            clip_id = f"{blank.clip_id}#{fingerprint[:12]}"
            row = replace(blank, clip_id=clip_id, fingerprint=fingerprint)
            return self._kept(clip, content, Record(row, state.size, state.mtime_ns), out)

    def _kept(self, clip: SourceClip, content: LocalClip, identity: Record, out: Folder) -> tuple[Record, bool]:
        """The clip's own record and one-clip shard under `parts/`."""
        name = f"{PART_FOLDER}/{_key(self.preparation, identity.row.clip_id)}"
        for record in read_records(out, name):
            if record.stands(out.entry(record.row.shard)):
                return replace(record, size=identity.size, mtime_ns=identity.mtime_ns), True
        try:
            if clip.source in self.given_up:
                reason, detail = self.given_up[clip.source]
                raise DataError(detail, reason=reason)
            row = self._stored(content, identity.row, f"{name}.arrow", out)
        except DataError as error:
            row = _rejected(identity.row, error.reason, _words(error, clip))
        record = replace(identity, row=row, shard_size=_size(out, row.shard))
        write_records(out, name, [record])
        return record, False

    def _stored(self, content: LocalClip, row: ManifestRow, part: str, out: Folder) -> ManifestRow:
        """Decode a clip into a shard of its own."""
        with (
            out.writer(part) as file,
            ShardWriter(file, self.config.kind, self.preparation) as writer,
            writer.add_clip(row.clip_id) as target,
        ):
            wave, shape = self._decoded(content, target)
            rms = float(np.sqrt(frame_power(wave).mean()))
            self._judge(target.num_frames, rms)
            target.mel(log_mel(torch.from_numpy(wave)).numpy())
        speech = pack_bits(speech_frames(wave, self.config.min_rms))
        channels, height, width = shape
        return replace(
            row,
            num_frames=target.num_frames,
            duration_s=target.num_frames / FPS,
            channels=channels,
            height=height,
            width=width,
            rms=rms,
            speech=speech,
            shard=part,
            row=target.row,
            rows=target.rows,
        )

    def _decoded(self, content: LocalClip, target: ClipWriter) -> tuple[NDArray[np.float32], tuple[int, ...]]:
        """Stream the frames into `target`; returns the wave and (C, H, W) of a stored frame."""
        config, encode = self.config, _encoder(self.config.latents)
        shapes: list[tuple[int, ...]] = []

        def emit(frames: NDArray[np.uint8]) -> None:
            stored = encode(frames)
            shapes[:] = [stored.shape[1:]]
            target.frames(stored)

        sink = FrameChunks(
            emit, resolution=config.resolution, lower_half=config.lower_half, max_frames=config.max_frames, chunk=_CHUNK
        )
        wave = content.decode(sink)
        sink.finish()
        return wave, shapes[0]

    def _judge(self, num_frames: int, rms: float) -> None:
        if num_frames < self.config.min_frames:
            message = f"the clip has {num_frames} frames, but {self.config.min_frames} are needed"
            raise DataError(message, reason="too_short")
        if not rms >= self.config.min_rms:  # this way round, because a broken stream can also give NaN
            raise DataError(f"the sound is silent (root mean square {rms:.2g} of full scale)", reason="silent")

    def _assemble(self, records: list[Record], out: Folder) -> None:
        """The finished clips as one shard; its records say that it is whole; then the clips alone may go."""
        content = "\n".join([self.preparation, *(record.row.clip_id for record in records)])
        name = f"{SHARD_FOLDER}/{hashlib.sha256(content.encode()).hexdigest()[:20]}"
        try:
            placed = self._joined(records, f"{name}.arrow", out) if any(r.row.ok for r in records) else records
        except StorageError as error:
            if error.missing and read_records(out, name):
                return  # another run into the same folder has put the same shard together, and cleared its parts
            raise
        size = _size(out, f"{name}.arrow")
        write_records(out, name, [replace(record, shard_size=size if record.row.ok else 0) for record in placed])
        for record in records:
            part = f"{PART_FOLDER}/{_key(self.preparation, record.row.clip_id)}"
            out.delete(f"{part}.json")  # first, so that no record ever points to nothing
            out.delete(f"{part}.arrow")

    def _joined(self, records: list[Record], shard: str, out: Folder) -> list[Record]:
        placed = []
        with out.writer(shard) as file, ShardWriter(file, self.config.kind, self.preparation) as writer:
            for record in records:
                row = record.row
                if row.ok:
                    with out.local(row.shard) as path:
                        row = replace(
                            row, shard=shard, row=writer.copy_clip(ShardReader(path, mapped=False), row.row, row.rows)
                        )
                placed.append(replace(record, row=row))
        return placed


def _encoder(specification: str | None) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """What turns frames `(n, 3, H, W)` into what is stored of them: an image encoder, or nothing."""
    if specification is None:
        return lambda frames: frames
    from orchestrator.data.prepare.latents import latents_of, load_encoder

    return partial(latents_of, load_encoder(specification))


def _key(preparation: str, clip_id: str) -> str:
    """The name of a clip among the finished ones."""
    return hashlib.sha256(f"{preparation}\n{clip_id}".encode()).hexdigest()[:24]


def _size(out: Folder, shard: str) -> int:
    """Bytes of a shard; 0 where there is none."""
    entry = out.entry(shard) if shard else None
    return entry.size if entry is not None else 0


def _rejected(row: ManifestRow, reason: str, detail: str) -> ManifestRow:
    return replace(row, status="rejected", reason=reason, detail=detail)


def _words(error: Exception, clip: SourceClip) -> str:
    """The reason without the path, which the row names already and which differs between machines."""
    message = error.message if isinstance(error, DataError) else str(error)
    return message.rsplit(f"{clip.source}: ", 1)[-1]
