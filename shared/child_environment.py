"""What child processes see of the environment, and what they must not see."""

import os
from pathlib import Path

from shared.settings import Settings


def find_weights_cache() -> Path:
    """Returns Keras's own folder of weights: `models` below `KERAS_HOME`.

    Where that is not set, Keras takes `.keras` in the home folder, or in /tmp when
    the home folder cannot be written.
    Source: `keras.src.backend.config`; a test compares the two.
    """
    named = os.environ.get("KERAS_HOME")
    if named is not None:
        return Path(os.path.expanduser(named)).absolute() / "models"  # noqa: PTH111 - see below
    # Unlike the method of Path, the function leaves a user without a home as "~".
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras" / "models"  # noqa: S108 - Keras's choice


def child_environment(settings: Settings, **more: str) -> dict[str, str]:
    """Returns the environment of a process of ours that shall see `settings`.

    Folders are absolute in it, so the child may run from anywhere, and our packages
    are found first.

    Args:
        settings: What the child shall see, whatever the parent's environment says.
        more: Further variables of this child alone.
    """
    root = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH", "")
    if root not in path.split(os.pathsep):
        path = os.pathsep.join(part for part in (root, path) if part)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "TRAINYARD_DATA_DIR": str(settings.data_dir.absolute()),
        "TRAINYARD_STORAGE_DIR": str(settings.storage),
        "TRAINYARD_RUNTIME_DIR": str(settings.runtime),
        "TRAINYARD_HOST": settings.host,
        "TRAINYARD_PORT": str(settings.port),
        **more,
    }


def environment_without_credentials(**more: str) -> dict[str, str]:
    """Returns the environment of a process that trains or ingests.

    Such a process decodes files and runs specs that users brought: it gets no address
    and no secret of the database, the broker or anything else, nor any setting of
    ours. What frameworks read (search paths, caches, thread counts) stays.

    Args:
        more: Further variables of this child alone.
    """
    secret = ("SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "TOKEN", "CREDENTIAL")
    secret += ("API_KEY", "PRIVATE_KEY", "_DSN")
    address = ("DATABASE_URL", "REDIS_URL", "BROKER_URL")
    ours = ("TRAINYARD_", "PG", "CELERY_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours)
        and not any(word in name.upper() for word in secret + address)
    }
    if "KERAS_HOME" in kept:  # relative to this process's folder, not to the child's
        kept["KERAS_HOME"] = str(find_weights_cache().parent)
    return {**kept, **more}
