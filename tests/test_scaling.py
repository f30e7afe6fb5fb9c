"""The tables of docs/scaling.md are those that its script computes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.runtime import home, lease

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


def test_requests_are_as_often_as_runs_make_them(scaling: ModuleType) -> None:
    """A part of the journal, the status and a look at the journal's parts each time; and signs of life."""
    assert pytest.approx(3 / home._EVERY_S + 1 / lease._BEAT_S) == scaling.PUTS_PER_S


def test_the_price_of_a_run_is_its_gpu_hours(scaling: ModuleType) -> None:
    table = scaling.runs(scaling.count("16_pixel_attn"))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(rows) == 5
    for _, gpus, hours, gpu_hours, price in rows:
        assert float(gpu_hours) == pytest.approx(int(gpus) * float(hours), rel=0.1)
        assert float(price) == pytest.approx(float(gpu_hours) * scaling.GPU_HOUR_USD, abs=0.5)
    assert float(rows[1][2]) == pytest.approx(20_000 * 50.8e-3 / 3600, abs=0.01)  # the step of the document
