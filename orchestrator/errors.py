"""Every error this product raises on purpose, each with a hint that says what to do.

Promises: all of them derive from `OrchestratorError`; `str(error)` is one readable message; all of them survive
pickling with their fields, because they cross process boundaries in Ray actors and tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any


class OrchestratorError(Exception):
    """The base of every deliberate error.

    Args:
        message: what is wrong: the thing, what was found, what was expected.
        hint: what the person can do about it; empty when the message says it all.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class ConfigError(OrchestratorError):
    """A configuration that cannot be used; `problems` lists all that is wrong with it, one line each."""

    def __init__(self, problems: Iterable[str], *, source: str = "the configuration", hint: str = "") -> None:
        self.problems = list(problems)
        self.source = source
        count = len(self.problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{source} has {count} problem{'s' if count != 1 else ''}:{lines}", hint=hint)


class RefusalReason(StrEnum):
    """Why a file was refused as a checkpoint."""

    MISSING = "missing"
    """There is no such file or folder."""
    NOT_A_CHECKPOINT = "not_a_checkpoint"
    """A web page, a Git LFS pointer, a config, an empty file, a cached mel: something else."""
    CORRUPT = "corrupt"
    """A checkpoint container that is cut short or damaged."""
    UNSAFE = "unsafe"
    """Reading it would need to run code that the file names."""
    NO_WEIGHTS = "no_weights"
    """A readable file without any model weights in it."""
    UNKNOWN_ARCHITECTURE = "unknown_architecture"
    """Weights that belong to no SyncNet this product knows, or whose layout the weights alone cannot settle."""
    MISMATCH = "mismatch"
    """Weights that do not fit the model they are asked to fill."""
    UNSUPPORTED = "unsupported"
    """A known kind of file that this version does not read."""
    EXISTS = "exists"
    """The place to write to holds something else."""
    STORAGE = "storage"
    """The place to read from or write to does not answer, is full, or is not allowed."""


class CheckpointError(OrchestratorError):
    """A checkpoint that cannot be read, written or used; `reason` says which way."""

    def __init__(self, message: str, *, reason: RefusalReason, path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.path = path


class DataError(OrchestratorError):
    """A clip, shard or corpus that cannot be used; `reason` is a short code such as `no_audio`."""

    def __init__(self, message: str, *, reason: str = "invalid", path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.path = path


class StorageError(OrchestratorError):
    """A file or folder, here or in remote storage, that is `missing` or cannot be read or written."""

    def __init__(self, message: str, *, missing: bool = False, path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.missing = missing
        self.path = path


class RunError(OrchestratorError):
    """A run or sweep that cannot start, continue or finish."""


class RunStopped(OrchestratorError):
    """A run that was asked to stop has saved a checkpoint and left: nothing is wrong with it.

    Args:
        step: the step of that checkpoint.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}; give the same command again to continue")
        self.step = step


class SweepStopped(RunStopped):
    """A sweep that was asked to stop: its trials have saved what they had.

    Args:
        ended: trials that have ended.
        total: trials in all.
    """

    def __init__(self, ended: int, total: int) -> None:
        super().__init__(ended)
        self.message = f"stopped, {ended} of {total} trials have ended; give the same command again to continue"
        self.args = (self.message,)


class TrackingError(OrchestratorError):
    """A tracking server or store that cannot be used."""


class RegistryError(OrchestratorError):
    """A tracking store without a model registry, or one that refuses to register."""


def _rebuild(cls: type[OrchestratorError], args: tuple[Any, ...], state: dict[str, Any]) -> OrchestratorError:
    """Rebuild an error after pickling without calling its constructor, whose keywords `args` does not hold."""
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error
