"""The lab from the command line: `python -m tests.lab` runs the whole scenario; 0 when everything ended right."""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; few cores are shared by several nodes
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from tests.lab.lab import missing
from tests.lab.scenario import Transcript, play


def main() -> int:
    argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__).parse_args()
    reason = missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    return 0 if play(Transcript(lambda line: print(line, flush=True))) else 1


if __name__ == "__main__":
    sys.exit(main())
