"""A contact sheet of prepared samples: frames over mel on one time axis, because people want to look before they train.

Contract: what is drawn is what training reads, through the same windows and with the clip's A/V offset applied; the
same corpus, seed and settings give the same picture. All samples are in sync by the corpus's own account: a mouth that
opens before or after the sound swells is a fault of the data.
"""

# n T frames, C channels, H W pixels, M mel bins, L mel columns

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import mel_columns
from orchestrator.data.corpus.corpus import CorpusSplit, offset_columns, picture_speech, usable_frames
from orchestrator.data.corpus.sheet import Shown, draw_sheet
from orchestrator.data.manifest import ManifestRow
from orchestrator.errors import DataError
from orchestrator.storage import atomic_writer

if TYPE_CHECKING:
    from orchestrator.data.corpus import Corpus

_CANDIDATES = 12
"""Windows of which the liveliest is shown: speech that sets in or stops says more than an even stretch of it."""
_PERCENTILES = 1, 99


@dataclass(frozen=True)
class _Pick:
    """A window to show."""

    clip: int
    start: int
    num_frames: int


def contact_sheet(
    corpus: Corpus,
    out_png: str | Path,
    count: int = 6,
    seed: int = 0,
    num_frames: int = 16,
    clips: Sequence[str] | None = None,
) -> Path:
    """Draw samples of a corpus: for each a strip of frames, how loud it is and how much the picture moves, and the mel.

    Args:
        corpus: what `prepare` wrote.
        out_png: the picture to write.
        count, seed, num_frames, clips: as `choose_samples`.

    Returns:
        The picture's path.

    Raises:
        DataError: as `choose_samples`; `not_written`.
    """
    samples = choose_samples(corpus, count, seed, num_frames, clips)
    title = f"{corpus.name}: {len(samples)} sample{'s' if len(samples) > 1 else ''}, seed {seed}"
    content = draw_sheet(samples, title)
    path = Path(out_png)
    try:
        with atomic_writer(path) as file:
            file.write(content)
    except OSError as error:
        message = f"the picture {path} cannot be written: {error.strerror or error}"
        raise DataError(message, reason="not_written", path=str(path), hint="name a file to write") from error
    return path


def choose_samples(
    corpus: Corpus, count: int = 6, seed: int = 0, num_frames: int = 16, clips: Sequence[str] | None = None
) -> list[Shown]:
    """Samples in which there is something to see and to hear, in sync by the corpus's own account.

    Args:
        corpus: what `prepare` wrote.
        count: how many, of as many speakers as there are. With `clips`, at least one of each clip.
        seed: another one chooses others.
        num_frames: frames per sample; a clip with fewer is shown whole.
        clips: ids or sources of the clips to choose from.

    Raises:
        DataError: `no_such_clip`; `no_usable_clips` when no clip has a single frame with sound; as `Corpus`.
    """
    split = corpus.split("all")
    rng = np.random.default_rng(seed)
    chosen = _of_many_speakers(split.clips, rng) if clips is None else [_index_of(split.clips, name) for name in clips]
    chosen = [clip for clip in dict.fromkeys(chosen) if usable_frames(split.clips[clip])[1] > 0]
    if not chosen:
        message = f"no clip of {corpus.name} that could be shown has picture and sound at once"
        raise DataError(message, reason="no_usable_clips", path=corpus.name, hint="look at the clips' A/V offsets")
    count = count if clips is None else max(count, len(chosen))
    times = {clip: len(range(place, count, len(chosen))) for place, clip in enumerate(chosen)}
    picks = [pick for clip in chosen for pick in _windows(split, clip, times[clip], num_frames, rng)]
    return [_shown(split, pick) for pick in picks]


def _of_many_speakers(clips: Sequence[ManifestRow], rng: np.random.Generator) -> list[int]:
    """All clips in a random order, in which every speaker comes once before any comes again."""
    turns: dict[str, int] = defaultdict(int)
    ordered: list[tuple[int, int, int]] = []
    for place, clip in enumerate(rng.permutation(len(clips)).tolist()):
        speaker = clips[clip].speaker
        ordered.append((turns[speaker], place, clip))
        turns[speaker] += 1
    return [clip for _, _, clip in sorted(ordered)]


def _index_of(clips: Sequence[ManifestRow], name: str) -> int:
    """The clip with this id or source."""
    for index, clip in enumerate(clips):
        if name in (clip.clip_id, clip.source):
            return index
    near = difflib.get_close_matches(name, [clip.source for clip in clips], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "give a clip's id or source, as the manifest has it"
    raise DataError(f"there is no usable clip {name!r} in the corpus", reason="no_such_clip", path=name, hint=hint)


def _windows(split: CorpusSplit, clip: int, count: int, num_frames: int, rng: np.random.Generator) -> list[_Pick]:
    """Lively windows of a clip in the order of time, one from each of `count` equal parts of it."""
    first, usable = usable_frames(split.clips[clip])
    length = min(num_frames, usable)
    starts = usable - length + 1
    picks = []
    for part in range(count):
        low, high = part * starts // count, max((part + 1) * starts // count, part * starts // count + 1)
        candidates = first + rng.integers(low, min(high, starts), _CANDIDATES)
        lively = max(candidates.tolist(), key=lambda start: _loudness(split.mel_window(clip, start, length)).std())
        picks.append(_Pick(clip, lively, length))
    return picks


def _shown(split: CorpusSplit, pick: _Pick) -> Shown:
    """Everything that is drawn of a window."""
    row = split.clips[pick.clip]
    channels = split.corpus.frame_shape[0]
    before = min(pick.start, 1)  # the first frame's movement is its difference to the one before
    shape = (pick.num_frames + before, channels, *split.corpus.frame_shape[1:])
    frames_TCHW = split.window(pick.clip, pick.start - before, pick.num_frames + before).reshape(shape)
    mel_ML = split.mel_window(pick.clip, pick.start, pick.num_frames)
    assert mel_ML.shape[1] == mel_columns(pick.num_frames)
    speech = np.unpackbits(np.frombuffer(picture_speech(row), np.uint8))[pick.start : pick.start + pick.num_frames]
    return Shown(
        clip_id=row.clip_id,
        speaker=row.speaker,
        split=row.split,
        start=pick.start,
        av_offset_s=row.av_offset_s,
        offset_columns=offset_columns(row),
        frames_THWC=visible_frames(frames_TCHW[before:]),
        movement_T=_movement(frames_TCHW, before),
        loudness_L=_loudness(mel_ML),
        mel_ML=mel_ML,
        speech_T=speech.astype(bool),
    )


def visible_frames(frames_TCHW: NDArray[Any]) -> NDArray[np.uint8]:
    """Frames as RGB. Of latents the first three channels, stretched: no true colours, but faces can be told."""
    frames_THWC = np.moveaxis(frames_TCHW[:, :3], 1, 3)
    if frames_THWC.shape[3] < 3:
        frames_THWC = np.repeat(frames_THWC[..., :1], 3, axis=3)
    if frames_THWC.dtype == np.uint8:
        return frames_THWC
    low, high = np.percentile(frames_THWC.astype(np.float32), _PERCENTILES)
    scaled = (frames_THWC.astype(np.float32) - low) / max(high - low, 1e-6)
    return (scaled.clip(0, 1) * 255).astype(np.uint8)


def _movement(frames_TCHW: NDArray[Any], before: int) -> NDArray[np.float32]:
    """How much each frame differs from the one before it, in the middle of its lower part, where the mouth is."""
    height, width = frames_TCHW.shape[2:]
    top = height // 2 if height > 0.75 * width else 0
    mouth = frames_TCHW[:, :, top:, width // 4 : max(width - width // 4, 1)].astype(np.float32)
    change = np.abs(np.diff(mouth, axis=0)).mean(axis=(1, 2, 3))
    return change if before else np.concatenate([np.full(1, np.nan, np.float32), change])


def _loudness(mel_ML: NDArray[np.float32]) -> NDArray[np.float32]:
    return mel_ML.mean(axis=0)
