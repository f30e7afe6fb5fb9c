"""`ray job submit --working-dir . -- python jobs/compare.py CKPT CKPT --data DIR`: compare on the cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
