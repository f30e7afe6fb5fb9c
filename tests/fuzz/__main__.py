"""`python -m tests.fuzz --cases 200000`: many cases of every kind, and a table of what came of them.

A violation keeps its file in `--keep` and is printed with how to draw it again; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from rich.console import Console
from rich.table import Table

from tests.fuzz.kinds import KINDS, Arena, Kind

_AT_ONCE = 1000


def main() -> int:
    """Run, print, and tell by the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="over all kinds")
    parser.add_argument("--seed", type=int, default=0, help="other seeds draw other cases")
    parser.add_argument("--kind", choices=sorted(KINDS), help="only this one")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-violations"), help="where files of violations go")
    options = parser.parse_args()
    kinds = {options.kind: KINDS[options.kind]} if options.kind else KINDS
    total = sum(kind.share for kind in kinds.values())
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        arena = Arena(Path(folder))
        counts = {
            name: run(arena, name, kind, round(options.cases * kind.share / total), options)
            for name, kind in kinds.items()
        }
    return report(counts, time.monotonic() - start)


def run(arena: Arena, name: str, kind: Kind, cases: int, options: argparse.Namespace) -> Counter[str]:
    """All cases of one kind, a thousand at a time so that hypothesis forgets what it drew."""
    counts: Counter[str] = Counter()
    for part, first in enumerate(range(0, cases, _AT_ONCE)):

        @seed(f"{options.seed}-{part}")
        @settings(
            max_examples=min(_AT_ONCE, cases - first),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(kind.draws)
        def case(drawn: Any) -> None:
            try:
                counts[arena.run(kind, drawn)] += 1
            except Exception:
                counts["VIOLATION"] += 1
                keep(arena, name, counts["VIOLATION"], options.keep)

        case()
        print(f"{name}: {sum(counts.values()):,} of {cases:,}, {counts['VIOLATION']} violations", file=sys.stderr)
    return counts


def keep(arena: Arena, name: str, number: int, where: Path) -> None:
    """The file of a violation, and why."""
    target = where / f"{name.replace(' ', '-')}-{number}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(arena.case, target, symlinks=True)
    (target / "why.txt").write_text(traceback.format_exc())
    print(f"VIOLATION kept in {target}: {traceback.format_exc().splitlines()[-1]}", file=sys.stderr)


def report(counts: dict[str, Counter[str]], seconds: float) -> int:
    """A table by kind, and one line of JSON."""
    outcomes = sorted({outcome for counter in counts.values() for outcome in counter})
    table = Table(title=f"{sum(c.total() for c in counts.values()):,} cases in {seconds:,.0f} s")
    table.add_column("kind")
    for outcome in outcomes:
        table.add_column(outcome, justify="right")
    for name, counter in counts.items():
        table.add_row(name, *(f"{counter[outcome]:,}" for outcome in outcomes))
    Console(width=120).print(table)
    violations = sum(counter["VIOLATION"] for counter in counts.values())
    cases = sum(counter.total() for counter in counts.values())
    print(json.dumps({"cases": cases, "violations": violations, "seconds": round(seconds)}))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
