"""`ray job submit --working-dir . -- python jobs/doctor.py [--storage URI] [--data URI]`: look at the whole cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["doctor", "--cluster", *sys.argv[1:]]))
