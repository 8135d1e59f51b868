"""`./trainyard test --containers`: the main job through docker-compose.yml.

1. find a Docker engine, else install and start one (as root);
2. pull the base images, else make stand-ins of the system's packages;
3. build the images of web and worker, and look into them;
4. bring the stack up, and look at what its containers may do;
5. two datasets at once, a forecast and a training of each, the worker's container
   killed half-way, both models downloaded and tried;
6. take everything down again.

Where no engine can run it says why in a sentence and ends with 0.
"""

import argparse
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import httpx

from shared.errors import TrainyardError
from tests.containers import confinement, main_job
from tests.containers.base_images import provide_base
from tests.containers.commands import CommandError
from tests.containers.engine import NoEngineError, running_engine
from tests.containers.journal import Journal, write
from tests.containers.stack import Stack

FAILURES = (
    *(AssertionError, CommandError, TimeoutError, TrainyardError),
    httpx.HTTPError,
)


def main(arguments):
    """Runs the test; returns the exit code."""
    options = _parse(arguments)
    journal = Journal()
    try:
        with (
            _open_folder(options.keep) as folder,
            running_engine(journal, folder) as engine,
        ):
            _run(engine, journal, folder)
    except NoEngineError as error:
        write(f"Skipped: {error}.")
        return 0
    except FAILURES as error:
        journal.say(f"FAILED: {type(error).__name__}: {error}")
        return 1
    journal.close()
    write(f"\nThe stack does what it promises; {journal.seconds:.0f} s in all.")
    return 0


def _run(engine, journal, folder):
    base = provide_base(engine, journal, folder)
    with tempfile.TemporaryDirectory(prefix="stack-", dir=folder) as work:
        stack = Stack(engine, Path(work), base)
        with journal.step("Building the images of web and worker"):
            stack.build()
        confinement.check_images(stack, journal)
        with _standing(stack, journal):
            _walk(stack, journal, Path(work))


def _walk(stack, journal, folder):
    confinement.check_containers(stack, journal)
    confinement.check_networks(stack, journal)
    confinement.check_broker(stack, journal)
    client = main_job.enter(stack, journal)
    datasets = main_job.upload(client, journal, folder)
    main_job.see_forecasts(client, datasets, journal)
    jobs = main_job.submit(client, datasets)
    saved = {}
    for kill in main_job.list_kills(stack):
        rest = [number for number in jobs if number not in saved]
        number, step = main_job.interrupt(client, rest, kill, journal)
        saved[number] = step
        confinement.check_trainer(stack, journal)
    ended = main_job.finish(client, jobs, saved, journal)
    main_job.see_pages(stack, jobs[0], journal)
    main_job.collect(client, ended, folder, journal)


@contextmanager
def _standing(stack, journal):
    """The stack, up and well; removed with its volumes afterwards."""
    try:
        with journal.step("Bringing the stack up"):
            stack.up()
        for service, row in sorted(stack.services().items()):
            journal.say(f"  {service:12} {row['State']:8} {row['Health']}")
        yield
    except FAILURES:
        journal.say(f"The last words of the services:\n{stack.tell()}")
        raise
    finally:
        with journal.step("Taking the stack down"):
            stack.down()


@contextmanager
def _open_folder(kept):
    """The folder of an engine of our own: the one to keep, or one that goes with us."""
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory(
        prefix="docker-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog="trainyard test --containers", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep an engine's images there, for the next time",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
