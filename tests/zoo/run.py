"""Try one case: make the file, normalize it, and compare what came of it with what must.

Contract: `attempt` gives the problem in one line, or an empty string. Besides the results it watches that nothing was
written outside the output folder, the folder for temporary files included, and that no payload ran.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
import torch._dynamo  # its first import makes a folder for temporary files: now, and not while a case is watched
from torch import Tensor

from orchestrator.checkpoint import NormalizedCheckpoint, TrainState, load_model, normalize, read_state
from orchestrator.config.model import AnyModelConfig
from orchestrator.errors import CheckpointError
from tests.zoo.case import MARK, Bad, Case, Good
from tests.zoo.nets import embeddings, net_of
from tests.zoo.watch import watched

Embeddings = tuple[Tensor, Tensor]
MOST_DIFFERENCE = 1e-5
"""Between the embeddings of the net that was read and those of the original."""


def attempt(case: Case, folder: Path) -> str:
    """What is wrong with this case, if anything; `folder` is empty."""
    given, out, temporary = folder / "given", folder / "out", folder / "tmp"
    given.mkdir()
    temporary.mkdir()
    with temporary_files_in(temporary):
        path = case.build(given)
        before = _everything(folder)
        with watched(folder) as seen:
            problem = _read(case, path, out) if isinstance(case, Good) else _refuse(case, path, out)
        after = _everything(folder)
    if (given / MARK).exists():
        return "the payload ran"
    if seen:
        return f"while it was read: {seen[0]}"
    strays = sorted(name for name in before ^ after if name.parts[0] != "out")
    return problem or (f"files came or went: {', '.join(map(str, strays[:3]))}" if strays else "")


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Temporary files of this process go there."""
    usual, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = usual


def _everything(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def _read(case: Good, path: Path, out: Path) -> str:
    try:
        result = normalize(path, out, **case.options)
    except CheckpointError as error:
        return f"refused ({error.reason}): {error.message}"
    state = read_state(result.path)
    return (
        _different_weights(state.weights, case.expected())
        or _different_embeddings(result.path, case)
        or _different_moments(case, state)
        or _different_rest(case, state)
        or _missing_decisions(case, result)
    )


def _different_weights(got: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    if got.keys() != expected.keys():
        return f"other names: {sorted(got.keys() ^ expected.keys())[:3]}"
    wrong = [name for name, tensor in expected.items() if not torch.equal(got[name], tensor)]
    wrong += [name for name, tensor in expected.items() if got[name].dtype != tensor.dtype]
    return f"{len(wrong)} other weights, e.g. {wrong[0]}" if wrong else ""


def _different_embeddings(path: Path, case: Good) -> str:
    pairs = zip(embeddings(load_model(path)), _original(case.expected, case.model), strict=True)
    difference = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
    return "" if difference <= MOST_DIFFERENCE else f"embeddings differ by {difference:.2g}"


@cache
def _original(expected: Callable[[], dict[str, Tensor]], model: Callable[[], AnyModelConfig] | None) -> Embeddings:
    return embeddings(net_of(expected(), model() if model else None))


def _different_moments(case: Good, state: TrainState) -> str:
    if case.moments is None:
        return "" if state.optimizer is None else "an optimizer came out of a file without one"
    if state.optimizer is None:
        return "the optimizer was lost"
    expected = case.moments()
    if expected.keys() != state.optimizer.keys():
        return f"the optimizer has other names: {sorted(expected.keys() ^ state.optimizer.keys())[:3]}"
    for name, slots in expected.items():
        for slot in ("exp_avg", "exp_avg_sq", "step"):
            if not torch.equal(state.optimizer[name][slot].float(), torch.as_tensor(slots[slot]).float()):
                return f"the optimizer's {slot} of {name} differs"
    return ""


def _different_rest(case: Good, state: TrainState) -> str:
    best = state.best.value if state.best else None
    checks = (
        ("step", state.step, case.step),
        ("epoch", state.epoch, case.epoch),
        ("history", bool(state.history), case.history),
        ("scaler", state.scaler is not None, case.scaler),
        ("best", best, case.best),
    )
    wrong = [f"{what} is {got}, not {want}" for what, got, want in checks if want is not None and got != want]
    return "; ".join(wrong)


def _missing_decisions(case: Good, result: NormalizedCheckpoint) -> str:
    told = " ".join(str(decision.to_dict()) for decision in result.report.decisions).lower()
    missing = [word for word in case.decides if word.lower() not in told]
    return f"no decision says {', '.join(missing)}" if missing else ""


def _refuse(case: Bad, path: Path, out: Path) -> str:
    try:
        normalize(path, out, **case.options)
    except CheckpointError as error:
        silent = [word for word in case.says if word.lower() not in str(error).lower()]
        if error.reason not in case.reasons:
            return f"refused as {error.reason}, not {' or '.join(case.reasons)}: {error.message}"
        if silent:
            return f"the message does not say {', '.join(silent)}: {error.message}"
        if not error.hint:
            return f"no hint: {error.message}"
        return "something was written" if out.exists() else ""
    return "accepted"
