"""Watches one case: what Python does meanwhile, how much memory it takes, how long it runs, what it leaves behind.

Contract: `Guard.watch` raises `Violation` when anything happens that must not; an audit hook cannot be taken away, so
there is one for the process, which is awake only while a case runs.
"""

from __future__ import annotations

import contextlib
import encodings
import importlib
import pkgutil
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FORBIDDEN = frozenset(
    (
        "exec", "import", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill",
        "os.putenv", "os.chmod", "os.symlink", "subprocess.Popen", "ctypes.dlopen", "socket.connect", "marshal.loads",
        "pickle.find_class", "pty.spawn", "webbrowser.open",
    )
)  # fmt: skip
_WRITES = 0o3  # O_WRONLY and O_RDWR
_SECONDS = 30
_BYTES = 400 << 20


class Violation(AssertionError):
    """Something happened that must not."""


class Guard:
    """One for the process.

    Args:
        root: the only folder in which something may be written.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.awake = False
        self.seen: list[str] = []
        tempfile.tempdir = self.root
        for module in pkgutil.iter_modules(encodings.__path__):  # which Python imports when it meets such text
            with contextlib.suppress(ImportError):
                importlib.import_module(f"encodings.{module.name}")
        sys.addaudithook(self._hook)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch what is done inside.

        Raises:
            Violation: a forbidden event, too much memory, or too much time.
        """
        before = _peak()
        start = time.monotonic()
        previous = signal.signal(signal.SIGALRM, _too_slow)
        signal.alarm(_SECONDS)
        self.seen, self.awake = [], True
        try:
            yield
        finally:
            self.awake = False
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)
        if self.seen:
            raise Violation(f"forbidden: {self.seen[:3]}")
        if _peak() - before > _BYTES:
            raise Violation(f"{(_peak() - before) >> 20} MB more memory, after {time.monotonic() - start:.1f} s")

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.awake:
            return
        if event in _FORBIDDEN:
            self.seen.append(f"{event} {str(args)[:200]}")
        elif event == "open" and (args[2] or 0) & _WRITES and not str(args[0]).startswith(self.root):
            self.seen.append(f"written: {args[0]}")


def _too_slow(*_: Any) -> None:
    raise Violation(f"more than {_SECONDS} seconds")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
