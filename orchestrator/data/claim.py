"""With which settings a folder was made: `preparation.json`, by which no folder ever holds clips of two kinds.

File contract: `{"fingerprint": ..., "settings": {...}}`, written before anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import DataError
from orchestrator.storage import Folder

PREPARATION_NAME = "preparation.json"


def claim_folder(out: Folder, fingerprint: str, settings: Mapping[str, Any]) -> None:
    """Mark the output folder as prepared with these settings, or check that it already is.

    Raises:
        DataError: `other_settings` when it was prepared with others, `bad_preparation` when that cannot be told.
    """
    claimed = read_claim(out)
    if claimed is None:
        write_json(out, PREPARATION_NAME, {"fingerprint": fingerprint, "settings": dict(settings)})
        return
    known, old = claimed
    if known != fingerprint:
        new = {key: value for key, value in settings.items() if old.get(key) != value}
        changed = [f"{key} is {old.get(key)} there, but {value} here" for key, value in new.items()]
        message = f"{out.name} was prepared with other settings: {'; '.join(changed) or 'by another version'}"
        hint = "use the same settings, or prepare into another folder"
        raise DataError(message, reason="other_settings", path=out.name, hint=hint)


def read_claim(out: Folder) -> tuple[str, dict[str, Any]] | None:
    """The fingerprint and the settings of a folder; none when nobody has claimed it.

    Raises:
        DataError: `bad_preparation` when the file is damaged.
    """
    if out.entry(PREPARATION_NAME) is None:
        return None
    try:
        stored = json.loads(out.read(PREPARATION_NAME))
        return str(stored["fingerprint"]), dict(stored["settings"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"{out.name}/{PREPARATION_NAME} cannot be read: {error}"
        raise DataError(message, reason="bad_preparation", path=out.name, hint="prepare into another folder") from error


def write_json(out: Folder, name: str, content: Any) -> None:
    """Write plain values as JSON, as a whole. ASCII escapes also carry file names that are not valid Unicode."""
    with out.writer(name) as file:
        file.write(json.dumps(content, indent=1).encode("ascii"))
