"""`python -m tests.chaos`: a fault campaign."""

import sys

from tests.chaos import campaign

if __name__ == "__main__":
    sys.exit(campaign.main(sys.argv[1:]))
