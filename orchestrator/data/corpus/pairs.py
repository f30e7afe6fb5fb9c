"""The fixed validation pairs: made from a corpus, or read from a stored list that travels from run to run.

File contract of a list: Parquet with the columns `clip_id` string, `frame_start` and `audio_start` int32, `label` int8,
one row per pair in their order; the schema's metadata holds `syncnet.pairs_version`, `syncnet.num_frames`,
`syncnet.preparation` and `syncnet.pairs_hash`. Pairs are same-clip pairs only: two lists of other clips' sounds would
measure how well voices are told apart, not lip sync. `scores` has the same file with the cosines beside the pairs.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.config.data import DataConfig
from orchestrator.data.corpus import CorpusSplit
from orchestrator.data.stream import Clips, Sample, as_table
from orchestrator.data.stream.drawing import Drawing
from orchestrator.data.stream.keyed import Domain, scale, words
from orchestrator.data.stream.negatives import Negative
from orchestrator.errors import DataError
from orchestrator.storage import atomic_writer

PAIRS_VERSION = 1
"""Changes whenever the columns or their meaning change."""
METADATA = "syncnet."
"""What the keys of a file's metadata begin with."""
COLUMNS = ("clip_id", "frame_start", "audio_start", "label")
_TYPES = (pa.string(), pa.int32(), pa.int32(), pa.int8())


def evaluation_pairs(
    clips: Clips, num_frames: int, count: int, settings: DataConfig | None = None, *, seed: int = 0
) -> list[Sample]:
    """The fixed validation list: a positive and a same-clip negative of each of `count // 2` windows, side by side.

    Windows are spread evenly over the usable clips and, within a clip, over its possible pairs, which repeat only
    when the clip has fewer than are asked of it. A pure function of its arguments.

    Args:
        clips: the clips of a split.
        num_frames: video frames per window.
        count: how many pairs.
        settings: `min_shift`, `max_shift` and `min_speech` of it count.
        seed: seed of the draws.

    Raises:
        DataError: as `Drawing`.
    """
    table = as_table(clips)
    drawing = Drawing(table, num_frames, settings or DataConfig(), [Negative.SAME_CLIP])
    usable, windows = drawing.usable, count // 2
    samples: list[Sample] = []
    for number in range(windows):
        clip = int(usable[number * len(usable) // windows])
        pairs = drawing.pairs(clip, Negative.SAME_CLIP)
        video, audio = pairs.pair(_stratum(number, windows, len(usable), pairs.count, seed))
        first = int(table.firsts[clip])
        samples += [Sample(clip, first + video, first + video, 1), Sample(clip, first + video, first + audio, 0)]
    return samples


def pairs_hash(pairs: Sequence[Sample], clip_names: Sequence[str], preparation: str = "") -> str:
    """Hex SHA-256 of what the pairs show: two figures are comparable only if these agree.

    Args:
        pairs: the evaluation list; same-clip pairs only.
        clip_names: names by clip index that change with the clip's content.
        preparation: fingerprint of the preparation settings.
    """
    lines = (f"{clip_names[pair.clip]}\t{pair.frame_start}\t{pair.audio_start}\t{pair.label}" for pair in pairs)
    return hashlib.sha256("\n".join([preparation, *lines]).encode()).hexdigest()


def pairs_table(pairs: Sequence[Sample], clips: CorpusSplit, num_frames: int) -> pa.Table:
    """A list as the table that is stored, with its metadata."""
    names = clip_names(clips)
    columns = [
        pa.array([names[pair.clip] for pair in pairs], _TYPES[0]),
        *(
            pa.array([getattr(pair, name) for pair in pairs], kind)
            for name, kind in zip(COLUMNS[1:], _TYPES[1:], strict=True)
        ),
    ]
    preparation = clips.corpus.preparation
    facts = {
        "pairs_version": str(PAIRS_VERSION),
        "num_frames": str(num_frames),
        "preparation": preparation,
        "pairs_hash": pairs_hash(pairs, names, preparation),
    }
    metadata = {METADATA + key: value for key, value in facts.items()}
    return pa.Table.from_arrays(columns, names=list(COLUMNS)).replace_schema_metadata(metadata)


def to_parquet(table: pa.Table) -> bytes:
    """The bytes of a table's file."""
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def write_pairs(path: Path, pairs: Sequence[Sample], clips: CorpusSplit, num_frames: int) -> None:
    """Store a list, atomically.

    Raises:
        DataError: `not_written`.
    """
    store(path, to_parquet(pairs_table(pairs, clips, num_frames)))


def store(path: Path, content: bytes) -> None:
    """Write the file of a list, atomically.

    Raises:
        DataError: `not_written`.
    """
    try:
        with atomic_writer(path) as file:
            file.write(content)
    except OSError as error:
        message = f"the pair list {path} cannot be written: {error.strerror or error}"
        raise DataError(message, reason="not_written", path=str(path), hint="name another file") from error


def read_pairs(path: Path, clips: CorpusSplit, num_frames: int) -> list[Sample]:
    """A stored list, for a split that holds its clips with the same content.

    Args:
        path: the list.
        clips: the split, prepared in whichever way: its own preparation goes into the hash of what is measured.
        num_frames: video frames per window of the network.

    Raises:
        DataError: `missing`, `bad_pairs` for a file that is damaged or no such list, `other_pairs` for a list of
            another window or of clips that the split does not hold.
    """
    table, facts = open_list(path)
    found = list(zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True))
    if facts["num_frames"] != str(num_frames):
        wanted = f"windows of {facts['num_frames']} frames, but the network reads {num_frames}"
        raise _bad(path, "other_pairs", f"is a list of {wanted}")
    return _in_split(path, found, clips, num_frames)


def open_list(path: Path, more: Sequence[str] = ()) -> tuple[pa.Table, dict[str, str]]:
    """The table of a stored list and its metadata, whose hash agrees with the rows.

    Args:
        path: the file.
        more: columns that it has besides those of a list.

    Raises:
        DataError: `missing`, or `bad_pairs` for a file that is damaged or no such list.
    """
    try:
        table = pq.read_table(path, memory_map=False)
    except FileNotFoundError as error:
        raise DataError(f"there is no pair list {path}", reason="missing", path=str(path)) from error
    except (pa.ArrowException, OSError) as error:
        raise _bad(path, "bad_pairs", f"cannot be read: {error}") from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    facts = {key.removeprefix(METADATA): value for key, value in metadata.items()}
    expected = {"pairs_version", "num_frames", "preparation", "pairs_hash"}
    if not expected <= set(facts) or table.column_names != [*COLUMNS, *more]:
        raise _bad(path, "bad_pairs", "is not a pair list" + (f" with {', '.join(more)}" if more else ""))
    if facts["pairs_version"] != str(PAIRS_VERSION):
        raise _bad(path, "bad_pairs", f"has version {facts['pairs_version']}, but this version reads {PAIRS_VERSION}")
    if _hash_of(table, facts["preparation"]) != facts["pairs_hash"]:
        raise _bad(path, "bad_pairs", "is damaged: its hash does not agree with its rows")
    return table, facts


def clip_names(clips: CorpusSplit) -> list[str]:
    """What a clip shows, by index: its id, which holds the content's fingerprint, and its A/V offset if it has one."""
    offsets = [clip.av_offset_s for clip in clips.clips]
    return [f"{name}@{offset:+.6f}s" if offset else name for name, offset in zip(clips.clip_ids, offsets, strict=True)]


def _in_split(path: Path, rows: list[tuple[Any, ...]], clips: CorpusSplit, num_frames: int) -> list[Sample]:
    """The rows with the split's own clip indices."""
    place = {name: index for index, name in enumerate(clip_names(clips))}
    absent = sorted({row[0] for row in rows} - set(place))
    if absent:
        what = f"names {len(absent)} clips that the {clips.name!r} split of {clips.corpus.name} "
        raise _bad(path, "other_pairs", f"{what}does not hold with the same content, the first is {absent[0]}")
    samples = [Sample(place[name], video, audio, label) for name, video, audio, label in rows]
    table = clips.table
    for sample in samples:
        first = int(table.firsts[sample.clip])
        last = first + int(table.lengths[sample.clip]) - num_frames
        if not all(first <= start <= last for start in (sample.frame_start, sample.audio_start)):
            raise _bad(path, "other_pairs", f"has a window outside of {clips.clip_ids[sample.clip]}")
    return samples


def _hash_of(table: pa.Table, preparation: str) -> str:
    ids = table.column(COLUMNS[0]).to_pylist()
    names = list(dict.fromkeys(ids))
    own = {name: place for place, name in enumerate(names)}
    rest = (table.column(name).to_pylist() for name in COLUMNS[1:])
    return pairs_hash([Sample(own[name], *row) for name, *row in zip(ids, *rest, strict=True)], names, preparation)


def _bad(path: Path, reason: str, found: str) -> DataError:
    hint = "give the name of a new file: it is written from the corpus"
    return DataError(f"the pair list {path} {found}", reason=reason, path=str(path), hint=hint)


def _stratum(number: int, windows: int, clips: int, pair_count: int, seed: int) -> int:
    """The pair of evaluation window `number`: one draw from its own share of the clip's pairs."""
    place = number * clips // windows
    first = -(-place * windows // clips)
    share = -(-(place + 1) * windows // clips) - first
    low, high = ((number - first + k) * pair_count // share for k in (0, 1))
    return low + scale(words(seed, number, Domain.EVALUATION, 1)[0], max(high - low, 1))
