"""Remote storage that is away or silent is told of within half a minute, and nothing waits or buffers without bounds.

Why: the storage libraries try for minutes, up to a quarter of an hour, before they say that nobody answers. Contract: a
storage is asked once in each process whether it is there, impatiently; what follows is more patient, because a large
file may take its time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

_S3_OPTIONS = {
    "connect_timeout": 10.0,
    "request_timeout": 20.0,
    "background_writes": False,
    "allow_delayed_open": True,
}
"""Timeouts in seconds: a storage that falls silent later is given up after three attempts, about a minute. Writes in
the background would keep in memory whatever the network is slower than, in the end the whole file. With a delayed
opening a small file is one request instead of three."""
_GCS_OPTIONS = {"retry_time_limit": timedelta(seconds=60)}
_S3_KNOCK = {"connect_timeout": 5.0, "request_timeout": 7.0}
_KNOCKS = 2
_GCS_KNOCK = {"retry_time_limit": timedelta(seconds=10)}
_PATIENCE_S = 20.0
"""Seconds for the first answer where the library itself cannot be told to be quick."""
_NOBODY = re.compile(r"NETWORK_CONNECTION|UNAVAILABLE|DEADLINE_EXCEEDED|no answer")
"""What the libraries say of a storage that does not answer; what else they say, it says."""
_answered: set[str] = set()
_Result = TypeVar("_Result")


def bounded(filesystem: Any) -> Any:
    """The same file system with bounded waiting and memory; in a URI pyarrow has no options for it."""
    # with pyarrow's usual three attempts; `from_uri` makes 25
    options: dict[str, dict[str, Any]] = {"s3": _S3_OPTIONS, "gcs": _GCS_OPTIONS}
    return _remade(filesystem, options.get(filesystem.type_name, {}))


def require_answer(filesystem: Any, path: str, address: str) -> None:
    """Ask a storage once whether it is there.

    Args:
        filesystem: a file system of pyarrow's own.
        path: bucket and path in it.
        address: by which it is remembered that it has answered.

    Raises:
        OSError: nobody answers.
    """
    if address in _answered or filesystem.type_name not in ("s3", "gcs"):
        return
    bucket = path.strip("/").partition("/")[0]
    try:
        in_time(lambda: _impatient(filesystem).get_file_info(bucket))
    except Exception as error:
        if _NOBODY.search(str(error)):
            raise
        # a refusal is an answer; whoever asks for a file gets it again
    _answered.add(address)


def in_time(work: Callable[[], _Result], seconds: float | None = None) -> _Result:
    """What work returns or raises, if it does so in time; else it goes on in a thread that nobody waits for.

    Raises:
        TimeoutError: it takes longer.
    """
    seconds = _PATIENCE_S if seconds is None else seconds
    results, errors = list[_Result](), list[BaseException]()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, name="storage", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]


def _impatient(filesystem: Any) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy

    if filesystem.type_name == "gcs":
        return _remade(filesystem, _GCS_KNOCK)
    return _remade(filesystem, {**_S3_KNOCK, "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=_KNOCKS)})


def _remade(filesystem: Any, changes: dict[str, Any]) -> Any:
    if not changes:
        return filesystem
    remake, (options,) = filesystem.__reduce__()
    known = {key: value for key, value in changes.items() if key in options or key == "retry_strategy"}
    return remake({**options, **known})
