"""Invented speech: a voice, the syllables it says, their sound, and what the mouth does meanwhile.

Why: a SyncNet can only learn from sound and mouth that were made by the same event. Here both are read off one plan
of phones on one clock, so they are in step by construction and everything works without any recording.
Contract: all is drawn from the given generator; frame n of the mouth tracks is the mouth at the middle of video
frame n, that is at (n + 0.5) / 25 s of the wave.

Shapes: S samples at 16 kHz, T video frames, C control ticks at 200 Hz, Q filter frames, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.config.media import FPS, SAMPLE_RATE

Floats = NDArray[np.floating]

Gain = Callable[[Floats, NDArray[np.int_]], Floats]
"""Frequencies (F,) and control ticks (Q,) to the gain (Q, F)."""

CONTROL_RATE = 200
"""Ticks per second of every track of the plan."""


@dataclass(frozen=True)
class Voice:
    """How one speaker sounds."""

    pitch: float
    """Mean fundamental frequency in Hz."""
    formant_scale: float
    """Factor on all formants: above 1 for a short vocal tract."""
    tempo: float
    """Factor on the speed of the syllables."""
    loudness: float
    """Peak of the wave."""
    breath: float
    """Share of noise in the voiced sound."""
    melody: float
    """How far the pitch moves, in octaves."""
    articulation: float
    """Factor on the movements of the mouth."""


@dataclass(frozen=True)
class Mouth:
    """The mouth in every video frame, each track (T,)."""

    opening: Floats
    """Gap between the lips: 0 closed, 1 wide open."""
    spread: Floats
    """Distance of the corners: 0 as in "oo", 0.5 at rest, 1 as in "ee"."""
    teeth: Floats
    """How much of the upper teeth shows, 0 to 1."""
    tongue: Floats
    """How high the tongue lies, 0 to 1."""


@dataclass(frozen=True)
class Speech:
    """One clip's sound and mouth."""

    wave: NDArray[np.float32]
    """(S,) in [-1, 1] at 16 kHz."""
    mouth: Mouth
    """What the mouth does, at 25 frames per second."""


@dataclass(frozen=True)
class Phone:
    """One speech sound: what the mouth does and what is heard."""

    opening: float
    spread: float
    teeth: float
    tongue: float
    formants: tuple[float, float, float]
    """First three resonances in Hz."""
    voiced: float
    """Level of the glottal source."""
    noise: float = 0.0
    """Level of the friction noise."""
    noise_hz: float = 3000.0
    """Centre of the friction noise."""


VOWELS = {
    "a": Phone(1.00, 0.55, 0.3, 0.2, (820, 1250, 2600), 1.00),
    "ae": Phone(0.85, 0.85, 0.6, 0.3, (690, 1750, 2500), 0.95),
    "e": Phone(0.60, 0.85, 0.7, 0.5, (520, 1950, 2600), 0.85),
    "i": Phone(0.42, 1.00, 1.0, 0.7, (300, 2350, 3050), 0.75),
    "o": Phone(0.68, 0.15, 0.1, 0.2, (500, 880, 2450), 0.85),
    "u": Phone(0.40, 0.00, 0.0, 0.1, (320, 720, 2250), 0.70),
}
"""The syllable centres."""

CONSONANTS = {
    "m": Phone(0.00, 0.50, 0.0, 0.2, (260, 1050, 2300), 0.12),
    "b": Phone(0.00, 0.45, 0.0, 0.2, (220, 800, 2200), 0.03),
    "p": Phone(0.00, 0.45, 0.0, 0.2, (400, 900, 2200), 0.00),
    "f": Phone(0.08, 0.60, 0.6, 0.2, (350, 1100, 2300), 0.00, 0.12, 5500),
    "s": Phone(0.14, 0.75, 1.0, 0.6, (320, 1700, 2600), 0.00, 0.22, 5800),
    "sh": Phone(0.18, 0.20, 0.9, 0.5, (320, 1800, 2500), 0.00, 0.25, 3000),
    "l": Phone(0.26, 0.55, 0.5, 1.0, (360, 1300, 2700), 0.30),
    "w": Phone(0.10, 0.00, 0.0, 0.1, (300, 650, 2200), 0.20),
    "t": Phone(0.14, 0.60, 0.7, 0.9, (380, 1800, 2700), 0.00),
    "k": Phone(0.20, 0.55, 0.4, 0.4, (350, 1900, 2400), 0.00),
}
"""What separates them; stops are silent here, their burst is a phone of its own."""

BILABIALS = ("m", "b", "p")
"""Consonants whose closure everybody sees; they come twice as often as the others."""

BURST_HZ = {"p": 1200.0, "b": 1000.0, "t": 4800.0, "k": 2200.0}
"""Stops and the centre of their burst."""

REST = Phone(0.02, 0.50, 0.0, 0.2, (500, 1500, 2500), 0.0)
"""Between the phrases."""


def invent_voice(rng: np.random.Generator) -> Voice:
    """One speaker's voice; low voices tend to have low formants, as in people."""
    height = rng.uniform(0, 1)
    return Voice(
        pitch=95 * 2 ** (1.25 * height) * rng.uniform(0.93, 1.07),
        formant_scale=0.92 + 0.24 * height + rng.uniform(-0.03, 0.03),
        tempo=rng.uniform(0.6, 0.85),
        loudness=rng.uniform(0.45, 0.8),
        breath=rng.uniform(0.01, 0.05),
        melody=rng.uniform(0.15, 0.4),
        articulation=rng.uniform(0.92, 1.08),
    )


def speak(voice: Voice, seconds: float, rng: np.random.Generator) -> Speech:
    """Say something new for `seconds`, which must be whole video frames."""
    plan = _plan(voice, seconds, rng)
    wave = _sound(plan, voice, round(seconds * SAMPLE_RATE), rng)
    return Speech(wave, _mouth(plan, voice, round(seconds * FPS)))


@dataclass(frozen=True)
class _Plan:
    """Targets at every control tick, each (C,) or (C, n): steps still, not yet smoothed."""

    shape: Floats
    """(C, 4): opening, spread, teeth, tongue."""
    formants: Floats
    """(C, 3) in Hz."""
    levels: Floats
    """(C, 2): voiced, noise."""
    noise_hz: Floats
    """(C,)."""
    accent: Floats
    """(C,) pitch movement, -1 to 1."""


@dataclass(frozen=True)
class _Said:
    """A phone with its length in seconds and its accent."""

    phone: Phone
    seconds: float
    accent: float = 0.0


def _plan(voice: Voice, seconds: float, rng: np.random.Generator) -> _Plan:
    """Phrases and pauses until the time is filled."""
    total = round(seconds * CONTROL_RATE)
    said = [_Said(REST, rng.uniform(0.05, 0.4))]
    while sum(item.seconds for item in said) < seconds:
        syllables = int(rng.integers(2, 7))
        for i in range(syllables):
            # the pitch falls through a phrase
            said += _syllable(voice, 0.6 - 1.2 * i / syllables, rng)
        said.append(_Said(REST, rng.uniform(0.15, 0.65)))
    ticks = np.diff(np.round(np.cumsum([0.0] + [item.seconds for item in said]) * CONTROL_RATE).astype(int))

    def track(values: list[tuple[float, ...]]) -> Floats:
        return np.repeat(np.array(values, dtype=np.float64), ticks, axis=0)[:total]

    return _Plan(
        shape=track([(s.phone.opening, s.phone.spread, s.phone.teeth, s.phone.tongue) for s in said]),
        formants=track([s.phone.formants for s in said]),
        levels=track([(s.phone.voiced, s.phone.noise) for s in said]),
        noise_hz=track([(s.phone.noise_hz,) for s in said])[:, 0],
        accent=track([(s.accent,) for s in said])[:, 0],
    )


def _syllable(voice: Voice, fall: float, rng: np.random.Generator) -> list[_Said]:
    """Usually a consonant, always a vowel, sometimes a closing consonant."""
    stress = rng.uniform(0.45, 1.0)
    vowel = VOWELS[str(rng.choice(list(VOWELS)))]
    # a stressed syllable is at once louder, wider and longer
    vowel = replace(vowel, opening=vowel.opening * (0.6 + 0.4 * stress), voiced=vowel.voiced * stress)
    accent = fall + (stress - 0.7)
    said = _consonant(voice, accent, rng) if rng.random() < 0.92 else []
    said.append(_Said(vowel, rng.uniform(0.10, 0.19) * (0.6 + 0.8 * stress) / voice.tempo, accent))
    if rng.random() < 0.25:
        said += _consonant(voice, accent, rng)
    return said


def _consonant(voice: Voice, accent: float, rng: np.random.Generator) -> list[_Said]:
    """A consonant, with its burst if it is a stop."""
    name = str(rng.choice([*CONSONANTS, *BILABIALS]))
    phone = CONSONANTS[name]
    said = [_Said(phone, rng.uniform(0.08, 0.13) / voice.tempo, accent)]
    if name in BURST_HZ:
        said.append(_Said(replace(phone, opening=0.15, noise=0.4, noise_hz=BURST_HZ[name]), 0.015, accent))
    return said


def _mouth(plan: _Plan, voice: Voice, frames: int) -> Mouth:
    """Smooth the targets as muscles would and read them in the middle of every frame."""
    smooth = _smooth(plan.shape, 0.022)
    # lips meet before the muscle arrives at its target: subtract a little so that closures are closed
    smooth[:, 0] = np.clip((smooth[:, 0] - 0.06) * 1.06 * voice.articulation, 0, 1)
    middles = (np.arange(frames) + 0.5) / FPS
    ticks = (np.arange(len(smooth)) + 0.5) / CONTROL_RATE
    return Mouth(*(np.interp(middles, ticks, smooth[:, i]) for i in range(4)))


def _sound(plan: _Plan, voice: Voice, samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Source and filter: harmonics through the formants, noise through the friction band, a quiet room below."""
    levels = _upsample(_smooth(plan.levels, 0.009), samples)
    hertz = _pitch(plan, voice, samples, rng)
    noise = rng.standard_normal(samples)
    voiced = (_pulses(hertz) + voice.breath * noise) * levels[:, 0]
    formants = _smooth(plan.formants, 0.018) * voice.formant_scale
    wave = _filter(voiced, lambda hz, at: _vowel_gain(hz, formants[at]))
    wave += _filter(0.5 * noise * levels[:, 1], lambda hz, at: _band_gain(hz, plan.noise_hz[at]))
    wave *= voice.loudness / max(1e-3, float(np.abs(wave).max()))
    wave += rng.uniform(0.0003, 0.0015) * rng.standard_normal(samples)
    return np.clip(wave, -1, 1).astype(np.float32)


def _pitch(plan: _Plan, voice: Voice, samples: int, rng: np.random.Generator) -> Floats:
    """(S,) fundamental frequency: accents, and the slow unsteadiness of a throat."""
    drift = _smooth(rng.standard_normal((len(plan.accent), 1)), 0.05)[:, 0]
    octaves = _smooth(plan.accent[:, None], 0.06)[:, 0] * voice.melody + 0.05 * drift
    return voice.pitch * 2 ** _upsample(octaves[:, None], samples)[:, 0]


def _pulses(hertz: Floats) -> Floats:
    """(S,) pulse train of that frequency without aliasing: cosines that fall by 6 dB per octave."""
    phase = (2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE % (2 * np.pi)).astype(np.float32)
    wave = np.zeros(len(hertz), dtype=np.float32)
    for k in range(1, int(0.47 * SAMPLE_RATE / hertz.max()) + 1):
        wave += np.cos(np.float32(k) * phase) / np.float32(k)
    return wave.astype(np.float64)


def _filter(wave: Floats, gain: Gain) -> Floats:
    """Filter (S,) by a gain that changes over time; without any delay."""
    size, hop = 512, 128
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)
    count = len(wave) // hop + 4
    padded = np.pad(wave, (size // 2, count * hop + size - len(wave)))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, size)[: count * hop : hop] * window
    ticks = np.clip(
        np.arange(count) * hop * CONTROL_RATE // SAMPLE_RATE, 0, len(wave) * CONTROL_RATE // SAMPLE_RATE - 1
    )
    spectra = np.fft.rfft(pieces) * gain(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), ticks)
    pieces = np.fft.irfft(spectra, size) * window / 2
    out = np.zeros((count + 3, hop))
    for i in range(size // hop):
        out[i : i + count] += pieces[:, i * hop : (i + 1) * hop]
    return out.ravel()[size // 2 : size // 2 + len(wave)]


def _vowel_gain(hz: Floats, formants: Floats) -> Floats:
    """(Q, F) gain of a chain of resonances: the three given ones (Q, 3) and two fixed ones above them."""
    gain = np.ones((len(formants), len(hz)))
    for i in range(5):
        centre = formants[:, i, None] if i < 3 else np.full((len(formants), 1), (3600.0, 4600.0)[i - 3])
        ratio, width = hz[None] / centre, 50 + 0.05 * centre
        gain /= np.sqrt((1 - ratio**2) ** 2 + (ratio * width / centre) ** 2)
    return gain


def _band_gain(hz: Floats, centre: Floats) -> Floats:
    """(Q, F) gain of friction noise around `centre` (Q,)."""
    return np.exp(-0.5 * ((hz[None] - centre[:, None]) / (250 + 0.22 * centre[:, None])) ** 2)


def _smooth(track: Floats, seconds: float) -> Floats:
    """(C, n) blurred over time by a Gaussian of that standard deviation: moves nothing in time."""
    reach = int(np.ceil(4 * seconds * CONTROL_RATE))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (seconds * CONTROL_RATE)) ** 2)
    padded = np.pad(track, ((reach, reach), (0, 0)), mode="edge")
    columns = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, axis=1)


def _upsample(track: Floats, samples: int) -> Floats:
    """(C, n) control ticks to (S, n) samples."""
    ticks = (np.arange(len(track)) + 0.5) / CONTROL_RATE
    times = (np.arange(samples) + 0.5) / SAMPLE_RATE
    return np.stack([np.interp(times, ticks, column) for column in track.T], axis=1)
