"""The directions between the rooms, kept true by reading every import statement.

What may import what is the table below; a planted violation of each rule shows that the reader would notice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "orchestrator"

_BASE = {"config", "errors"}
_PURE = _BASE | {"storage", "models", "checkpoint", "data"}
ROOMS = {
    "errors": set(),
    "storage": {"errors"},
    "numerics": set(),
    "config": {"errors"},
    "models": _BASE,
    "checkpoint": _BASE | {"storage", "models"},
    "data": _BASE | {"storage"},
    "training": _PURE,
    "tracking": _BASE,
    "charts": {"errors"},
    "sweeps": _PURE | {"training", "charts"},
    "evaluation": _PURE | {"training", "charts"},
    "runtime": _PURE | {"training", "tracking", "charts", "sweeps", "evaluation"},
}
"""Room -> the rooms that it may import besides itself. Modules outside of these (cli, planning, ...) may import all."""
ENTRANCES = {"__init__", "__main__", "api", "cli", "demo", "doctor", "planning"}
"""What a person or a script touches: imports every room, but ray only inside functions, so that `--help` is fast."""
RAY_ROOMS = {"runtime"}
RAY_FILES = {f"{PACKAGE}.checkpoint.ray_bridge"}
MLFLOW_ROOMS = {"tracking"}
JOB_LINES = 30


@dataclass(frozen=True)
class Import:
    """One imported module, under its absolute dotted name."""

    name: str
    line: int
    lazy: bool


def test_rooms_import_only_what_they_may() -> None:
    assert [problem for path in _sources() for problem in import_problems(_module(path), path.read_text())] == []


def test_every_room_is_in_the_table() -> None:
    found = {path.stem if path.is_file() else path.name for path in (ROOT / PACKAGE).iterdir() if _is_python(path)}
    assert found - set(ROOMS) - ENTRANCES == set()


@pytest.mark.parametrize("folder", [PACKAGE, "jobs", "benchmarks", "tests"])
def test_every_file_says_what_it_is(folder: str) -> None:
    silent = [str(p.relative_to(ROOT)) for p in _sources(folder) if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


def test_jobs_hold_no_logic() -> None:
    assert [problem for path in _sources("jobs") for problem in job_problems(path.name, path.read_text())] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("orchestrator.config.schema", "from orchestrator.models import registry"),
        ("orchestrator.storage.remote", "from orchestrator.config import media"),
        ("orchestrator.models.base", "from orchestrator import checkpoint"),
        ("orchestrator.models.base", "from ..data import shards"),
        ("orchestrator.data.shards", "import orchestrator.training.loop"),
        ("orchestrator.training.loop", "def f():\n    import ray.train"),
        ("orchestrator.training.loop", "from mlflow import MlflowClient"),
        ("orchestrator.tracking.writer", "from orchestrator.runtime import train"),
        ("orchestrator.checkpoint.layout", "import ray"),
        ("orchestrator.runtime.train", "import mlflow"),
        ("orchestrator.runtime.train", "from orchestrator.cli import main"),
        ("orchestrator.cli", "import ray"),
        ("orchestrator.cli", "def f():\n    import mlflow"),
        ("orchestrator.doctor", "from jobs import train"),
        ("orchestrator.planning", "import cluster.vm"),
    ],
)
def test_a_planted_violation_is_noticed(module: str, source: str) -> None:
    assert len(import_problems(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("orchestrator.checkpoint.ray_bridge", "from ray.train import Checkpoint"),
        ("orchestrator.runtime.train", "import ray\nfrom orchestrator.tracking import RunWriter"),
        ("orchestrator.doctor", "def f():\n    import ray"),
        ("orchestrator.tracking.writer", "from mlflow import MlflowClient\nfrom .store import resolve_uri"),
        ("orchestrator.training.loop", "import torch\nfrom orchestrator.errors import RunError"),
    ],
)
def test_what_is_allowed_is_left_alone(module: str, source: str) -> None:
    assert import_problems(module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "class Job:\n    pass",
        "def helper():\n    pass",
        "for x in []:\n    print(x)",
        "def main():\n    a()\n    b()",
        "x = 1\n" * (JOB_LINES + 1),
    ],
)
def test_logic_in_a_job_is_noticed(source: str) -> None:
    assert job_problems("train.py", source)


def test_a_job_of_one_call_is_left_alone() -> None:
    source = (
        '"""Train."""\nimport sys\nfrom orchestrator.cli import main\n'
        'if __name__ == "__main__":\n    sys.exit(main(["train", *sys.argv[1:]]))\n'
    )
    assert job_problems("train.py", source) == []


def import_problems(module: str, source: str) -> list[str]:
    """Every import in `source` that a module of this dotted name must not have."""
    problems = (_problem(module, found) for found in _imports(module, ast.parse(source)))
    return [problem for problem in problems if problem]


def job_problems(name: str, source: str) -> list[str]:
    """What makes a job more than argv -> one library call -> exit code."""
    tree = ast.parse(source)
    body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    body = body[1:] if ast.get_docstring(tree) else body
    problems = [f"{name}:{node.lineno} is logic" for node in body if not _is_plain(node)]
    if len(source.splitlines()) > JOB_LINES:
        problems.append(f"{name} has more than {JOB_LINES} lines")
    return problems


def _problem(module: str, found: Import) -> str | None:
    """Why a module must not have this import, or none."""
    room = module.split(".")[1] if "." in module else "__init__"
    target, _, rest = found.name.partition(".")
    where = f"{module}:{found.line} imports {found.name}"
    if target in ("jobs", "cluster"):
        return f"{where}: the library imports neither jobs nor cluster"
    if target == "mlflow" and room not in MLFLOW_ROOMS:
        return f"{where}: only {MLFLOW_ROOMS} may"
    if target == "ray" and not (room in RAY_ROOMS or module in RAY_FILES or (room in ENTRANCES and found.lazy)):
        return f"{where}: only {RAY_ROOMS}, {RAY_FILES} and functions of {ENTRANCES} may"
    neighbour = rest.split(".")[0]
    if target != PACKAGE or room not in ROOMS or not neighbour or neighbour == room:
        return None
    return None if neighbour in ROOMS[room] else f"{where}: {room} may import {sorted(ROOMS[room])}"


def _imports(module: str, tree: ast.Module) -> Iterator[Import]:
    """Every import statement, those inside functions and under TYPE_CHECKING as lazy ones."""
    eager = {id(node) for node in _eager(tree)}
    for node in ast.walk(tree):
        lazy = id(node) not in eager
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            names = [f"{base}.{alias.name}" for alias in node.names] if base == PACKAGE else [base]
            yield from (Import(name, node.lineno, lazy) for name in names)


def _eager(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _eager(child)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """The absolute name of what an import statement imports from; relative ones count from the module's package."""
    if not node.level:
        return node.module or ""
    parents = module.split(".")[: -node.level]
    return ".".join([*parents, node.module] if node.module else parents)


def _is_plain(node: ast.stmt) -> bool:
    """Whether a statement of a job is its `main`, its start, or a constant."""
    if isinstance(node, ast.FunctionDef):
        statements = node.body[1:] if ast.get_docstring(node) else node.body
        return node.name == "main" and len([s for s in statements if not _is_import(s)]) <= 1
    if isinstance(node, ast.If):
        return "__name__" in ast.unparse(node.test) and len(node.body) == 1 and not node.orelse
    return isinstance(node, ast.Assign | ast.AnnAssign)


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _sources(folder: str = PACKAGE) -> list[Path]:
    """Every Python file below a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def _module(path: Path) -> str:
    """The dotted name of a file of the package; a package's `__init__` keeps that part of its name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _is_python(path: Path) -> bool:
    return path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
