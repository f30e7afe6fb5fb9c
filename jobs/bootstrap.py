"""`ray job submit --working-dir . -- python jobs/bootstrap.py CONFIG --name NAME`: train and audit in rounds."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["bootstrap", *sys.argv[1:]]))
