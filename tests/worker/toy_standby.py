"""The toy trainer, started before there is a job for it."""

import os
import sys
import time

from tests.worker import toy_trainer
from worker.orders import Orders

# Named by tests that want it to be slow, as imports are.
SECONDS = "TOY_STANDBY_SECONDS"


def main():
    orders = Orders()
    sys.stdout.write("imported\n")
    sys.stdout.flush()
    time.sleep(float(os.environ.get(SECONDS, "0")))
    order = orders.wait()
    if order is None:
        return 0
    sys.argv[1:] = [str(order.spec), str(order.folder)]
    return toy_trainer.main()


if __name__ == "__main__":
    sys.exit(main())
