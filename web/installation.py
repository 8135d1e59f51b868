"""What one web process stands on: its settings, its database, its shared storage."""

from dataclasses import dataclass

from flask import Flask, current_app

from shared.artifacts import Storage
from shared.database import Database
from shared.queue_outlook import QueueOutlook
from shared.settings import Settings


@dataclass(frozen=True)
class Installation:
    """What every use case needs, made once by the factory."""

    settings: Settings
    database: Database
    storage: Storage
    outlook: QueueOutlook


def install(app: Flask, settings: Settings, database: Database) -> Installation:
    """Puts the installation into `app`, and returns it."""
    outlook = QueueOutlook(database, max_running_per_user=settings.max_running_per_user)
    installation = Installation(settings, database, Storage(settings.storage), outlook)
    app.extensions["trainyard"] = installation
    return installation


def get_installation() -> Installation:
    """Returns the installation of the app that answers this request."""
    return current_app.extensions["trainyard"]


def get_database() -> Database:
    """Returns the database of the app that answers this request."""
    return get_installation().database
