"""A table of past figures as CSV and back: one row per step, empty where a figure was not taken.

Contract: rows sorted by step, columns by name after `step`; numbers are written so that reading gives the same bits;
the same rows give the same bytes.
"""

from __future__ import annotations

import csv
import io
from typing import Any

Rows = list[dict[str, Any]]
"""Rows as `{"step": 10, "train/loss": 0.7}`."""


def to_csv(rows: Rows) -> bytes:
    """The table as text."""
    columns = sorted({key for row in rows for key in row} - {"step"})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *columns])
    for row in sorted(rows, key=lambda row: row["step"]):
        writer.writerow([row["step"], *("" if row.get(key) is None else repr(float(row[key])) for key in columns)])
    return text.getvalue().encode()


def from_csv(text: bytes) -> Rows:
    """The inverse of `to_csv`.

    Raises:
        ValueError: it is no such table.
    """
    reader = csv.reader(io.StringIO(text.decode("utf-8")))
    columns = next(reader, [])
    if columns[:1] != ["step"]:
        raise ValueError("the history has no column `step`")
    rows: Rows = []
    for cells in reader:
        step, *figures = cells
        row: dict[str, Any] = {"step": int(step)}
        row |= {name: float(cell) for name, cell in zip(columns[1:], figures, strict=True) if cell}
        rows.append(row)
    return rows
