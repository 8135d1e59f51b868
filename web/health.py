"""`/healthz`: the process answers. `/readyz`: it can also reach what it needs."""

import os

from flask import Blueprint, Response, jsonify

from web.installation import get_installation

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Says that the process is alive; touches nothing else."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Says whether database and shared storage can be used; the broker is no part.

    Jobs start without the broker, so a web process without one is still ready.
    """
    installation = get_installation()
    checks = {
        "database": _works(installation.database.ping),
        "storage": _works(lambda: _prove_writable(installation.storage.root)),
    }
    ready = all(value == "ok" for value in checks.values())
    return jsonify(status="ok" if ready else "unavailable", **checks), (
        200 if ready else 503
    )


def _works(check) -> str:  # noqa: ANN001 - any callable
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever it is, we are not ready
        return type(error).__name__
    return "ok"


def _prove_writable(root: os.PathLike[str]) -> None:
    if not os.access(root, os.W_OK):
        raise PermissionError(root)
