"""docs/checkpoints.md says what is: its code runs, and its tables have every reason, format and file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from orchestrator.checkpoint import ExportFormat, normalize
from orchestrator.checkpoint.directory import EMA, HISTORY, OPTIMIZER, REPORT, RNG, STATE, WEIGHTS
from orchestrator.checkpoint.manifest import MANIFEST
from orchestrator.errors import RefusalReason

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text("utf-8")


def test_plain_python_reads_and_verifies_a_state(
    save: Callable[..., Path], weights: dict[str, Tensor], tmp_path: Path
) -> None:
    stored = normalize(save({"state_dict": weights, "global_step": 3}), tmp_path / "states").path
    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "manifest" in block)
    names: dict[str, object] = {}
    exec(code.replace("states/<content hash>/", f"{stored}/"), names)
    assert names["state"]["step"] == 3  # type: ignore[index]
    assert names["weights"].keys() == weights.keys()  # type: ignore[attr-defined]


def test_every_reason_format_and_file_is_told() -> None:
    told = set(re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE))
    files = {WEIGHTS, EMA, OPTIMIZER, RNG, HISTORY, STATE, REPORT, MANIFEST}
    assert told == {*RefusalReason, *ExportFormat, *files}
