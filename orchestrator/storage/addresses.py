"""Addresses: which are paths on this machine, how names are appended, and how they are shown without credentials.

A `Location` is a path, a `file://` URI (this machine too), or the URI of remote storage. Percent signs are decoded in
the URIs of pyarrow's own schemes and kept as they are in all others, as the two libraries do it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urlsplit

from orchestrator.errors import StorageError

Location = str | Path
"""A path on this machine, or the URI of remote storage."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)(.*)", re.DOTALL)
_DECODED = frozenset({"s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"})
"""Schemes of which pyarrow decodes percent signs in the path."""


def local_path(where: Location) -> Path | None:
    """The path on this machine; none for remote storage."""
    match = _URI.fullmatch(str(where))
    # a URI that went through `Path` has lost a slash; a real folder of such a name wins
    if match is None or (not match[2] and Path(where).parent.exists()):
        return Path(where)
    if match[1].lower() != "file":
        return None
    return Path(unquote(urlsplit(repaired(where)).path))


def join(where: Location, name: str) -> str:
    """The URI of a file or folder below that of another; options after `?` stay."""
    parts = urlsplit(repaired(where))
    end = quote(name) if parts.scheme in _DECODED else name
    return _put_together(parts._replace(path=f"{parts.path.rstrip('/')}/{end}"))


def parent(where: Location) -> str:
    """The URI of the folder that a file or folder lies in; options after `?` stay."""
    parts = urlsplit(repaired(where))
    return _put_together(parts._replace(path=parts.path.rstrip("/").rpartition("/")[0]))


def redacted(where: Location) -> str:
    """A location as it may be shown: without user, password and options."""
    if local_path(where) is not None:
        return str(where)
    parts = urlsplit(repaired(where))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _put_together(parts: SplitResult) -> str:
    """The URI with both its slashes, which the standard library leaves out where nothing stands between them and the
    path."""
    end = f"?{parts.query}" * bool(parts.query) + f"#{parts.fragment}" * bool(parts.fragment)
    return f"{parts.scheme}://{parts.netloc}{parts.path}{end}"


def repaired(where: Location) -> str:
    """A URI with both its slashes."""
    match = _URI.fullmatch(str(where))
    return f"{match[1]}:/{match[2] or '/'}{match[3]}" if match else str(where)


def escaped(uri: str) -> str:
    """A URI as pyarrow takes it: blanks and letters beyond ASCII as percent signs, everything else as it is."""
    return quote(uri, safe=string.punctuation, errors="surrogateescape")


def inside(folder: str, name: str) -> str:
    """`name` as a plain POSIX path, which must not lead out of its folder: names come from lists that others wrote.

    Raises:
        StorageError: it is absolute or has `..` in it.
    """
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        what = f"{name[:200]!r} leads out of {folder}; nothing was read or written"
        raise StorageError(what, path=folder, hint="name files relative to their folder, without `..`")
    return parts.as_posix()


def secrets_of(uri: str) -> tuple[str, ...]:
    """What a URI holds beside the address."""
    parts = urlsplit(uri)
    user = parts.netloc.rpartition("@")[0]
    options: Mapping[str, str] = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
    found = {parts.query, user, *user.split(":"), *options.values()}
    return tuple(sorted((text for text in (*found, *map(unquote, found)) if len(text) > 3), key=len, reverse=True))


def without_secrets(error: Exception, secrets: Iterable[str]) -> str:
    """The first line of an error's text, with everything that looks like a credential taken out."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    for secret in secrets:
        text = text.replace(secret, "...")
    text = re.sub(r"(?i)((?:secret|token|password|signature|access[_-]?key)\w*[=:]\s*)\S+", r"\1...", text)
    return re.sub(r"://[^/@\s]+@", "://", text)[:300]
