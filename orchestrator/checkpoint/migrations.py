"""Canonical directories of earlier format versions, read as if they had been written today.

Contract: `migrate` takes the plain documents of any version up to the current one and gives those of the current one;
each step is one function, and nothing on disk is changed.

Version 1: the history stood in `state.json`; a report called placeholders `allowed_classes`; there was no `schedule`.
Version 2: no state had a running average of its weights, which is a file of its own; the documents are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Documents = tuple[dict[str, Any], dict[str, Any] | None]
"""`state.json` with the history, and `report.json` where there is one."""


def migrate(version: int, state: dict[str, Any], report: dict[str, Any] | None) -> Documents:
    """The documents as the current version has them."""
    documents: Documents = (state, report)
    for step in _STEPS[version - 1 :]:
        documents = step(*documents)
    return documents


def _from_1_to_2(state: dict[str, Any], report: dict[str, Any] | None) -> Documents:
    if report is not None:
        report = {**report, "placeholders": report["allowed_classes"]}
        del report["allowed_classes"]
    return {**state, "schedule": None}, report


def _from_2_to_3(state: dict[str, Any], report: dict[str, Any] | None) -> Documents:
    return state, report


_STEPS: tuple[Callable[[dict[str, Any], dict[str, Any] | None], Documents], ...] = (_from_1_to_2, _from_2_to_3)
"""The step at index i leads from version i + 1 to the next."""
