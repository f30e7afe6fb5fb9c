"""The one call of `torch.load`, always with `weights_only=True`, and what its failures mean."""

from __future__ import annotations

import re
import warnings
from pickle import UnpicklingError
from typing import Any

import torch

from orchestrator.checkpoint.formats.base import SourceFile, refuse
from orchestrator.checkpoint.formats.standins import allowed_globals
from orchestrator.errors import CheckpointError, RefusalReason

_FORBIDDEN = re.compile(r"(?:GLOBAL|function|but got) (?:<(?:class|function) )?'?([\w.]+)")
_RESAVE = (
    "where the file was made, save only its tensors: torch.save({'state_dict': model.state_dict()}, file); "
    "or ask its author for a safetensors file"
)


def load_tensors_only(source: SourceFile, *, mmap: bool) -> Any:
    """The object in a torch file, with stand-ins for the harmless classes on the fixed list.

    Raises:
        CheckpointError: `unsafe`, `unsupported` or `corrupt`.
    """
    try:
        with allowed_globals(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about pickle protocols that it then refuses
            return torch.load(source.path, map_location="cpu", weights_only=True, mmap=mmap)
    except UnpicklingError as error:
        raise _unpickling_refusal(source, str(error)) from error
    except Exception as error:  # a damaged pickle can make the reader fail in any way at all
        raise damaged(source, f"{type(error).__name__}: {_first_line(error)}") from error


def unsafe(source: SourceFile, names: list[str]) -> CheckpointError:
    """The refusal of a file that names code."""
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    whole_model = any(name.startswith(("torch.nn.", "models.", "model.", "__main__.")) for name in names)
    what = "holds a whole pickled model, whose reading" if whole_model else "names code, whose reading"
    return refuse(source, RefusalReason.UNSAFE, f"{what} would run: {listed}; nothing of it was run", _RESAVE)


def damaged(source: SourceFile, how: str) -> CheckpointError:
    """The refusal of a file that is cut short or changed."""
    return refuse(source, RefusalReason.CORRUPT, f"is damaged: {how}", "download or copy it again and compare sizes")


def _unpickling_refusal(source: SourceFile, message: str) -> CheckpointError:
    detail = message.partition("WeightsUnpickler error:")[2].strip() or message
    if "Unsupported operand" in detail:
        return refuse(
            source, RefusalReason.UNSUPPORTED, "is pickled in a way that torch's safe loader does not read", _RESAVE
        )
    found = _FORBIDDEN.search(detail)
    return unsafe(source, [found.group(1)]) if found else damaged(source, detail.splitlines()[0][:200])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
