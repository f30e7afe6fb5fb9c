"""CPUs with AVX-512 are limited to AVX2, others and explicit choices are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.numerics import use_avx2

LIMIT = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


@pytest.mark.parametrize(
    ("flags", "given", "expected"),
    [
        ("flags : fma avx2 avx512f avx512bw", {}, LIMIT),
        ("flags : fma avx2", {}, {}),
        ("Features : fp asimd", {}, {}),
        ("flags : avx512f", {"ONEDNN_MAX_CPU_ISA": "ALL"}, {**LIMIT, "ONEDNN_MAX_CPU_ISA": "ALL"}),
    ],
)
def test_the_limit(flags: str, given: dict[str, str], expected: dict[str, str], tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(flags)
    use_avx2(given, info)
    assert given == expected


def test_a_system_without_the_description_is_left_alone(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    use_avx2(environment, tmp_path / "none")
    assert environment == {}
