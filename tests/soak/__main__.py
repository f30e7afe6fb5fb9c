"""The soak run from the command line: `python -m tests.soak --kills 50 --seed 1 [--workers 2]`; 0 when it was exact."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; few cores are shared by several processes
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from tests.soak.run import soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how often to kill")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and the victims")
    parser.add_argument("--workers", type=int, default=0, help="Ray workers, which are killed too; 0: the driver alone")
    parser.add_argument("--steps", type=int, default=0, help="length of the run; 0: 40 for each kill")
    parser.add_argument("--out", type=Path, help="where corpus and runs are kept; removed afterwards when left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        steps = options.steps or 40 * options.kills
        exact = soak((options.out or Path(folder)).resolve(), options.kills, options.seed, options.workers, steps)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
