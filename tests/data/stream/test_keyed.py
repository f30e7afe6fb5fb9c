"""Keyed randomness is numpy's Philox, whose raw words never change, and its permutations are permutations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.stream.keyed import ROUNDS, Domain, permute, scale, unit, words

keys = st.integers(0, 2**64 - 1)


@given(keys, keys, st.sampled_from(Domain), st.integers(0, 13))
def test_words_are_those_of_numpy(seed: int, index: int, domain: Domain, count: int) -> None:
    key = np.array([seed, index], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=np.array([0, 0, 0, domain], dtype=np.uint64))
    assert words(seed, index, domain, count) == [int(word) for word in generator.random_raw(count)]


@given(keys, st.integers(1, 300))
def test_a_permutation_sends_every_place_to_another(seed: int, count: int) -> None:
    order = [permute(place, count, words(seed, 0, Domain.EPOCH, ROUNDS)) for place in range(count)]
    assert sorted(order) == list(range(count))


def test_numbers_cover_their_range() -> None:
    drawn = [word for index in range(500) for word in words(1, index, Domain.PAIR, 4)]
    assert {scale(word, 7) for word in drawn} == set(range(7)) and scale(2**64 - 1, 7) == 6
    assert unit(0) == 0 and 0.999 < unit(2**64 - 1) < 1
    assert np.mean([unit(word) for word in drawn]) == pytest.approx(0.5, abs=0.04)
