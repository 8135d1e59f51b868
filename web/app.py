"""The application factory: one Flask app from settings, with nothing started.

The trace of a job begins here: pages and API lie in one folder per feature, and both
call the use cases beside them (`web/jobs/submit.py` and its siblings).
"""

from typing import Any

from flask import Flask
from flask_bootstrap import Bootstrap5
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from shared.database import Database
from shared.settings import Settings, get_settings
from web import (
    display,
    error_pages,
    health,
    odd_characters,
    row_numbers,
    security_headers,
)
from web.api import registration as api
from web.api.problems import refuse_invalid_request
from web.audit import routes as audit
from web.auth import accounts, sign_in, users
from web.bokeh_assets import blueprint as bokeh_assets
from web.datasets import finding_routes
from web.datasets import version_routes as datasets
from web.home import blueprint as home
from web.installation import install
from web.jobs import routes as jobs
from web.models import routes as models
from web.notifications import routes as notifications
from web.promises import routes as promises
from web.upload_request import UploadRequest
from web.uploads import routes as uploads
from web.workers import routes as workers

FORM_LIMIT_BYTES = 2 * 2**20  # ordinary forms; uploads set their own limit
SESSION_SECONDS = 14 * 24 * 3600


def create_app(
    settings: Settings | None = None,
    database: Database | None = None,
    config: dict[str, Any] | None = None,
) -> Flask:
    """Builds the web application; starts no thread and opens no socket.

    Args:
        settings: Defaults to the environment's.
        database: Defaults to the one the settings name.
        config: Flask's own settings on top, for tests.

    Raises:
        UserError: When the settings are invalid or the secret key is missing.
    """
    settings = settings or get_settings()
    app = OpenAPI(
        __name__,
        info=Info(title="Trainyard", version="1"),
        security_schemes={"bearer": {"type": "http", "scheme": "bearer"}},
        doc_ui=False,
        validation_error_callback=refuse_invalid_request,
    )
    app.request_class = UploadRequest
    app.config.update(_configuration(settings) | (config or {}))
    install(app, settings, database or Database(settings.database_address))
    if settings.public_url:
        # Behind a proxy the client's address, which rate limits count by, is the last
        # entry of X-Forwarded-For; without one configured, the header is not believed.
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    csrf = CSRFProtect(app)
    Bootstrap5(app)
    row_numbers.register(app)
    odd_characters.register(app)
    security_headers.register(app)
    error_pages.register(app)
    display.register(app)
    sign_in.register(app)  # brings a JSON provider of its own
    # Bokeh's JSON defines an object where it first comes and refers to it after.
    app.json.sort_keys = False  # type: ignore[attr-defined]
    for blueprint in (
        health.blueprint,
        home,
        accounts.blueprint,
        users.blueprint,
        datasets.blueprint,
        finding_routes.blueprint,
        uploads.blueprint,
        jobs.blueprint,
        promises.blueprint,
        models.blueprint,
        workers.blueprint,
        audit.blueprint,
        notifications.blueprint,
        bokeh_assets,
    ):
        app.register_blueprint(blueprint)
    api.register(app, csrf)
    return app


def _configuration(settings: Settings) -> dict[str, Any]:
    secure = (settings.public_url or "").startswith("https://")
    return {
        "SECRET_KEY": settings.read_secret_key(),
        "MAX_CONTENT_LENGTH": FORM_LIMIT_BYTES,
        "MAX_FORM_MEMORY_SIZE": FORM_LIMIT_BYTES,
        "SESSION_COOKIE_NAME": "trainyard",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": secure,
        "PERMANENT_SESSION_LIFETIME": SESSION_SECONDS,
        # A form left open over lunch still works; the session bounds its life.
        "WTF_CSRF_TIME_LIMIT": None,
        "WTF_CSRF_SSL_STRICT": secure,
        "BOOTSTRAP_SERVE_LOCAL": True,
        "SEND_FILE_MAX_AGE_DEFAULT": 24 * 3600,  # addresses carry the file's age
    }
