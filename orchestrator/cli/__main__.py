"""`python -m orchestrator.cli`: the same as the command `orchestrator`."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main())
