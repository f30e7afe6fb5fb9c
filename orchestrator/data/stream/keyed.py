"""Randomness without a state: words and permutations that belong to a key, whatever was drawn before.

Promises: `words` gives the raw output of Philox4x64-10, the same as numpy's `Philox(key, counter).random_raw`, which
never changes between versions; `permute` is a permutation of [0, count) in constant time and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

_WORD = 1 << 64
_MASK = _WORD - 1
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
ROUNDS = 6
"""Keys that `permute` needs."""


class Domain(IntEnum):
    """Independent domains of randomness under one seed. The numbers are part of every stream: never change them."""

    PAIR = 0
    """Which windows a training sample shows."""
    EPOCH = 1
    """The order of an epoch."""
    EVALUATION = 2
    """The validation pairs."""
    AUGMENT = 3
    """How a training sample is augmented."""


def words(seed: int, index: int, domain: Domain, count: int) -> list[int]:
    """`count` random 64-bit words that belong to (seed, index, domain) alone; fewer are a prefix of more."""
    seed %= _WORD
    blocks = -(-count // 4)
    # numpy counts up before it makes its first block
    return [word for block in range(1, blocks + 1) for word in _philox(seed, index, block, domain)][:count]


def scale(word: int, count: int) -> int:
    """A 64-bit word as a number in [0, count)."""
    return word * count >> 64


def unit(word: int) -> float:
    """A 64-bit word as a number in [0, 1), of 53 bits."""
    return (word >> 11) * 2.0**-53


def permute(place: int, count: int, keys: Sequence[int]) -> int:
    """Where a keyed permutation of [0, count) sends `place`, in constant time and memory.

    A Feistel network permutes the next power of four; walking its cycle until it is back inside keeps it a
    permutation of the smaller range.
    """
    half = max(((count - 1).bit_length() + 1) // 2, 1)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for key in keys:
            left, right = right, left ^ (_mix(right, key) & mask)
        place = left << half | right
        if place < count:
            return place


def _philox(key0: int, key1: int, count0: int, count3: int) -> tuple[int, int, int, int]:
    """One block. In Python it takes half as long as making a generator of numpy's, and holds no state."""
    multiplier0, multiplier1 = _MULTIPLIERS
    weyl0, weyl1 = _WEYL
    c0, c1, c2, c3 = count0, 0, 0, int(count3)
    for _ in range(10):
        product0, product1 = multiplier0 * c0, multiplier1 * c2
        c0, c1 = (product1 >> 64) ^ c1 ^ key0, product1 & _MASK
        c2, c3 = (product0 >> 64) ^ c3 ^ key1, product0 & _MASK
        key0, key1 = (key0 + weyl0) & _MASK, (key1 + weyl1) & _MASK
    return c0, c1, c2, c3


def _mix(value: int, key: int) -> int:
    """Scramble a word with a key: two rounds of multiply and shift, enough for neighbours to part."""
    value = ((value + 1) * 0x9E3779B97F4A7C15 ^ key) % _WORD
    value = (value ^ value >> 31) * 0xD6E8FEB86659FD93 % _WORD
    return value ^ value >> 32
