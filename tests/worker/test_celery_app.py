"""The Celery face: known settings, one task, no framework in this process."""

import subprocess
import sys

import pytest
from celery.app.defaults import NAMESPACES, flatten

from tests.worker.processes import ROOT
from worker import celery_app, tasks
from worker.celery_app import SETTINGS


def nothing():
    return 0


@pytest.fixture
def app():
    return celery_app.build_app(
        "redis://127.0.0.1:1/0", look=nothing, begin=nothing, drain=nothing
    )


def test_celery_knows_every_setting():
    known = {name for name, _ in flatten(NAMESPACES)}

    assert set(SETTINGS) <= known


def test_settings_reach_the_app(app):
    assert app.conf.worker_disable_prefetch is True
    assert app.conf.task_acks_late is False
    assert app.conf.broker_connection_max_retries is None
    assert app.conf.accept_content == ["json"]


def test_only_the_kick_is_registered(app):
    own = [name for name in app.tasks if not name.startswith("celery.")]

    assert own == ["trainyard.kick"]


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("trainyard.other",), {}),
        (("trainyard.train", "more"), {}),
        (("trainyard.train",), {"job_id": 7}),
        ((["trainyard.train"],), {}),
    ],
)
def test_kick_with_anything_else_than_a_known_queue_is_ignored(arguments, options):
    assert not tasks.is_known(arguments, options)


@pytest.mark.parametrize(
    "error", [MemoryError, SystemExit, ValueError, KeyboardInterrupt]
)
def test_whatever_a_look_raises_stays_in_the_task(error):
    def look():
        raise error

    app = celery_app.build_app(
        "redis://127.0.0.1:1/0", look=look, begin=nothing, drain=nothing
    )

    assert app.tasks["trainyard.kick"]("trainyard.train") is None


def test_worker_process_imports_no_framework():
    script = (
        "import sys, worker.run;"
        "print({'tensorflow', 'keras', 'cv2', 'flask'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )

    assert answer.stdout.strip() == "set()"
