"""The tables of docs/scaling.md are those that its script computes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaling_of_the_docs", DOCS / "scaling.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def test_the_document_shows_what_the_script_computes(scaling: ModuleType) -> None:
    document = (DOCS / "scaling.md").read_text()
    for table in scaling.tables():
        assert table in document


def test_the_arithmetic_of_an_all_reduce(scaling: ModuleType) -> None:
    alone, pair = (scaling.all_reduce_s(10**9, gpus, "100 Gb/s Ethernet") for gpus in (8, 16))
    assert alone == pytest.approx(2 * 7 / 8 * 4e9 / 360e9)
    assert pair - alone == pytest.approx(4e9 / 10e9 + 2 * 30e-6)
    half = scaling.all_reduce_s(10**9, 8, "100 Gb/s Ethernet", width=2)
    assert half == pytest.approx(alone / 2)
