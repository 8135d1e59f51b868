"""The real ingest, but with a clock that finds a segment of proofs due at once."""

import sys

from worker.ingest import proofs, run

if __name__ == "__main__":
    proofs._SEGMENT_SECONDS = 0.0  # the clock
    sys.exit(run.main(sys.argv[1:]))
