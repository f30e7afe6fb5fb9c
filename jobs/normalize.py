"""`ray job submit --working-dir . -- python jobs/normalize.py FILE --out DIR`: normalize a file on the cluster."""

import sys

from orchestrator.cli import main

if __name__ == "__main__":
    sys.exit(main(["normalize", *sys.argv[1:]]))
