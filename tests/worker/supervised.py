"""What tests of the supervisor share: faults of the toy trainer, and good timing."""

import threading

import psutil

from tests.worker.processes import wait_until


def fault(step, do, **more):
    return {"step": step, "do": do, **more}


def once(condition, action):
    """Does `action` beside the test, as soon as `condition` holds."""

    def wait_and_act():
        wait_until(condition, 60)
        action()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


def once_it_trains(shop, job_id, action):
    return once(lambda: shop.metrics(job_id), action)


def find_trainers():
    mine = psutil.Process().children(recursive=True)
    return [p for p in mine if any("toy_trainer" in part for part in p.cmdline())
            and "worker.guardian" not in p.cmdline()]  # fmt: skip
