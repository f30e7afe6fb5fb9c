"""`ray job submit --working-dir . -- python jobs/train.py CONFIG --name NAME [a.b=c ...]`: train on the cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
