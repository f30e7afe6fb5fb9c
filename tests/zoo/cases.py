"""All cases, in the order of the table."""

from __future__ import annotations

import importlib
from collections import Counter
from functools import cache

from tests.zoo.case import Case

MODULES = (
    "files",
    "sharded",
    "deepspeed",
    "dcp",
    "families",
    "wrappers",
    "averages",
    "layouts",
    "objects",
    "lightning_runs",
    "libraries",
    "not_checkpoints",
    "damaged",
    "payloads",
    "hostile",
    "escapes",
    "bombs",
    "wrong",
)
"""Each has a tuple `CASES`."""


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case once."""
    modules = [importlib.import_module(f"tests.zoo.{name}") for name in MODULES]
    cases = tuple(case for module in modules for case in module.CASES)
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    assert not twice, f"cases of the same name: {twice}"
    return cases
