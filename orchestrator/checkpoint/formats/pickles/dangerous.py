"""Which names in a pickle would have run code in a reader that follows them? For the report; here nothing is followed.

The list is for words to a person only: no decision about what is read depends on it.
"""

from __future__ import annotations

_MODULES = frozenset(
    (
        "os", "posix", "nt", "subprocess", "pty", "sys", "shutil", "socket", "ctypes", "_ctypes", "importlib", "imp",
        "runpy", "code", "codeop", "pdb", "bdb", "timeit", "profile", "cProfile", "trace", "webbrowser", "pickle",
        "_pickle", "marshal", "shelve", "tempfile", "http", "urllib", "requests", "httpx", "ftplib", "smtplib",
        "telnetlib", "asyncio", "multiprocessing", "_posixsubprocess", "signal", "threading", "_thread", "pip",
        "ensurepip", "venv", "distutils", "setuptools", "dill", "cloudpickle", "joblib", "commands", "popen2", "io",
        "_io", "antigravity", "idlelib", "lib2to3", "doctest",
    )
)  # fmt: skip
_NAMES = frozenset(
    (
        "builtins.exec", "builtins.eval", "builtins.compile", "builtins.open", "builtins.__import__",
        "builtins.getattr", "builtins.setattr", "builtins.delattr", "builtins.globals", "builtins.vars",
        "builtins.breakpoint", "builtins.input", "builtins.apply", "builtins.map", "builtins.filter",
        "types.FunctionType", "types.CodeType", "operator.attrgetter", "operator.methodcaller", "functools.partial",
        "functools.reduce", "torch.load", "torch.hub.load", "torch.utils.cpp_extension.load", "numpy.load",
        "pandas.read_pickle", "platform.popen",
    )
)  # fmt: skip


def runs_code(name: str) -> bool:
    """Whether following `module.name` could run a command, read a file, or call something else by name."""
    return name.startswith("copyreg.extension_") or name in _NAMES or name.split(".")[0] in _MODULES
