"""`ray job submit --working-dir . -- python jobs/align.py VIDEOS --out DIR`: align raw videos on the cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["align", *sys.argv[1:]]))
