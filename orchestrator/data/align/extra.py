"""The optional libraries behind `align`, asked for in one place, so that their absence is one clear error."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from orchestrator.errors import RunError

INSTALL = "pip install 'syncnet-orchestrator[align]'"
_IMPORTED = ("cv2", "scenedetect")
_FILES_ONLY = "facenet_pytorch"


def check_extra() -> None:
    """See that all of them are there, before any work begins.

    Raises:
        RunError: one is not; the hint is the command that installs it.
    """
    for name in _IMPORTED:
        need(name)
    if find_spec(_FILES_ONLY) is None:
        raise missing(_FILES_ONLY, "it is not installed")


def need(module: str) -> Any:
    """The module, imported.

    Raises:
        RunError: it is not installed, or does not fit the rest.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(module.partition(".")[0], str(error)) from error


def missing(package: str, why: str) -> RunError:
    """The error for a package that cannot be used."""
    return RunError(f"aligning faces needs the optional package {package}: {why}", hint=INSTALL)
