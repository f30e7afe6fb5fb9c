"""`doctor`: numbered checks of this machine, each with what was found and, where it is bad, what to do.

Promises: it never raises, takes seconds and not minutes even where nothing answers, and leaves nothing behind but the
storage folder and the tracking store, which a run would make as well.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.doctor import machine, places, services
from orchestrator.doctor.finding import Finding

__all__ = ["Finding", "examine"]


def examine(storage: str, data: str | None = None) -> list[Finding]:
    """Run all checks; a check that fails never keeps the others from running.

    Args:
        storage: the folder that holds the runs.
        data: a prepared corpus to look at, too.
    """
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("Python", machine.python),
        ("packages", machine.packages),
        ("torch and torchaudio", machine.torch_pair),
        ("processors", machine.processors),
        ("memory", machine.memory),
        ("GPU", machine.accelerator),
        ("compiler", machine.compiler),
        ("open files", machine.open_files),
        ("shared memory", machine.shared_memory),
        ("process group", machine.process_group),
        ("storage", lambda: places.storage(storage)),
        ("free space", lambda: places.space(storage)),
        ("clock", lambda: places.clock(storage)),
        ("MLflow", lambda: places.tracking(storage)),
        ("Ray's version", services.ray_version),
        ("Ray", services.ray),
    ]
    if data is not None:
        checks.append(("data", lambda: places.corpus(data)))
    return [_carried_out(name, check) for name, check in checks]


def _carried_out(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # whatever a broken machine raises is what was found
        return Finding(name, f"the check failed: {type(error).__name__}: {error}", False, "see the message")
