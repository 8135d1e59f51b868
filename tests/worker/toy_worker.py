"""The real worker process with the toy programs: `python toy_worker.py --slot cpu`."""

import sys

from tests.worker.workshop import TOY_COMMANDS, TOY_STANDBYS
from worker import run

if __name__ == "__main__":
    sys.exit(run.main(sys.argv[1:], TOY_COMMANDS, TOY_STANDBYS))
