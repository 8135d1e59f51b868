"""What child processes see of the environment, and what they must not see."""

import os
from pathlib import Path

from shared.settings import Settings

_STORES = ("AWS_", "GOOGLE_", "AZURE_")
# What an ingest may need to read object storage. No address of a server is among them:
# those are settings of ours, and are checked.
STORE_CREDENTIALS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SKIP_SIGNATURE", "AWS_ROLE_ARN"),
    *("AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"),
    *("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_SKIP_SIGNATURE"),
    *("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
    *("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TENANT_ID", "AZURE_SKIP_SIGNATURE"),
    *("AZURE_STORAGE_CLIENT_ID", "AZURE_STORAGE_CLIENT_SECRET"),
    "AZURE_FEDERATED_TOKEN_FILE",
)


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
    ours = ("TRAINYARD_", "PG", "CELERY_", *_STORES)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours)
        and not any(word in name.upper() for word in secret + address)
    }
    if "KERAS_HOME" in kept:  # relative to this process's folder, not to the child's
        kept["KERAS_HOME"] = str(find_weights_cache().parent)
    return {**kept, **more}


def store_credentials() -> dict[str, str]:
    """Returns the credentials of object storage that this process was started with."""
    return {name: os.environ[name] for name in STORE_CREDENTIALS if name in os.environ}


def take_store_credentials() -> dict[str, str]:
    """Removes everything of object storage from the environment of this process.

    Returns:
        The credentials among it.
    """
    found = store_credentials()
    for name in [name for name in os.environ if name.startswith(_STORES)]:
        del os.environ[name]
    return found
