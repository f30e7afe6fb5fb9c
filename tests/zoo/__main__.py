"""Try every file of the zoo and print what is read, what is refused and what is wrong: `python -m tests.zoo`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.zoo.case import Bad, Case, Good
from tests.zoo.cases import all_cases
from tests.zoo.run import attempt


def main() -> int:
    """The exit code: 1 when a case failed."""
    options = _arguments()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    started = time.perf_counter()
    results = [(case, _attempt(case, options.keep)) for case in all_cases() if options.k.lower() in _label(case)]
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_table(results))
    for case, problem in results:
        if problem:
            console.print(f"FAILED {case.group}: {case.name}: {problem}", markup=False, highlight=False, soft_wrap=True)
    console.print(_summary(results, time.perf_counter() - started))
    return int(any(problem for _, problem in results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("-k", default="", metavar="WORDS", help="only cases with these words in group or name")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of every case there")
    return parser.parse_args()


def _label(case: Case) -> str:
    return f"{case.group}: {case.name}".lower()


def _attempt(case: Case, keep: Path | None) -> str:
    """The problem; whatever a reader lets through must not stop the others."""
    try:
        if keep is not None:
            folder = keep / _label(case).replace("/", "_").replace(" ", "_")
            folder.mkdir(parents=True)
            return attempt(case, folder)
        with tempfile.TemporaryDirectory(prefix="zoo-") as made:
            return attempt(case, Path(made))
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def _table(results: list[tuple[Case, str]]) -> Table:
    groups: dict[tuple[str, type], list[str]] = defaultdict(list)
    for case, problem in results:
        groups[case.group, type(case)].append(problem)
    table = Table("group", "must be", "files", "right", "wrong", title="The zoo of checkpoint files")
    for (group, kind), problems in groups.items():
        wrong = sum(map(bool, problems))
        right = str(len(problems) - wrong)
        must = "read" if kind is Good else "refused"
        table.add_row(group, must, str(len(problems)), right, f"[red]{wrong}" if wrong else "")
    return table


def _summary(results: list[tuple[Case, str]], seconds: float) -> str:
    good = [problem for case, problem in results if isinstance(case, Good)]
    bad = [problem for case, problem in results if isinstance(case, Bad)]
    return (
        f"{good.count('')} of {len(good)} good files read exactly, {bad.count('')} of {len(bad)} bad files refused "
        f"for the right reason, {seconds:.0f} s"
    )


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    sys.exit(main())
