"""`ray job submit --working-dir . -- python jobs/audit.py DIR --checkpoint CKPT`: audit a corpus on the cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["audit", *sys.argv[1:]]))
