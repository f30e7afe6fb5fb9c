"""`ray job submit --working-dir . -- python jobs/evaluate.py CKPT --data DIR`: evaluate on the cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
