"""`ray job submit --working-dir . -- python jobs/score.py VIDEO... --checkpoint CKPT`: score videos there."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
