"""`ray job submit --working-dir . -- python jobs/prepare.py VIDEOS --out DIR`: prepare videos on the cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
