"""Keep credentials out of everything that is printed or recorded.

Why: addresses of trackers and stores often carry `user:password@`, and every setting of a run ends up in a tracker
that many people read. Contract: pure functions of text and keys; what is hidden is replaced by `***`.
"""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"
"""What stands in the place of a secret."""

_USER_INFO = re.compile(r"(?<=://)[^/\s'\"]+@")
_QUERY_SECRET = re.compile(
    r"([?&;][^=&\s]*(?:token|password|passwd|pwd|secret|credential|signature|sig|api_?key|access_?key)[^=&\s]*=)"
    r"[^&#\s'\"]+",
    re.IGNORECASE,
)
_SECRET_KEY = re.compile(r"token|password|passwd|secret|credential|api_?key|access_?key", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` (an address, or a message with addresses in it) without user names, passwords and secret parameters."""
    return _QUERY_SECRET.sub(rf"\1{HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", text))


def is_secret(key: str) -> bool:
    """Whether a value under this key is a secret by its name alone."""
    return _SECRET_KEY.search(key) is not None


def redact_tree(value: Any, key: str = "") -> Any:
    """A copy of nested dicts and lists in which secrets (by key) and credentials in addresses are hidden."""
    if isinstance(value, dict):
        return {name: redact_tree(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(item, key) for item in value]
    if value is not None and is_secret(key):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value
