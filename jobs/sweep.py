"""`ray job submit --working-dir . -- python jobs/sweep.py CONFIG --name NAME [a.b=c ...]`: sweep on the cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
