"""A real app on a real database, people signed in, and API clients."""

import re
import secrets

import pytest
from flask.testing import FlaskClient
from flask_security.utils import hash_password

from shared.artifacts import Storage
from shared.database import Database
from shared.settings import Settings, get_settings
from tests.web.browsed import chromium, root_page, site, whole_site  # noqa: F401
from tests.web.rows import PASSWORD, Rows
from web.app import create_app
from web.installation import install

SECRET_KEY = secrets.token_hex(32)
CONFIG = {
    "TESTING": True,
    "PROPAGATE_EXCEPTIONS": False,  # what a user would see is what is tested
    # The real cost of a guess is the library's default; hundreds of tests pay less.
    "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": {
        "argon2__time_cost": 1,
        "argon2__memory_cost": 64,
    },
}


@pytest.fixture(autouse=True)
def private_data(tmp_path, monkeypatch):
    """Keeps the doorbell of every test away from a real installation's broker."""
    monkeypatch.setenv("TRAINYARD_DATA_DIR", str(tmp_path / "data"))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def roots(tmp_path):
    """The folder from which datasets may be added by name."""
    root = tmp_path / "roots"
    root.mkdir()
    return root


@pytest.fixture
def settings(tmp_path, sqlite_url, roots):
    """Settings of an installation of this test's own."""
    return Settings(
        data_dir=tmp_path / "data",
        database_url=sqlite_url,
        secret_key=SECRET_KEY,
        dataset_roots=[roots],
        max_upload_bytes=64 * 2**20,
    )


@pytest.fixture(scope="session")
def bare_app(tmp_path_factory):
    """An app that stands on nothing yet: one for this test process.

    To make one, with a hundred descriptions of requests and every template it is asked
    for, takes longer than most tests.
    """
    settings = Settings(data_dir=tmp_path_factory.mktemp("app"), secret_key=SECRET_KEY)
    return create_app(settings, Database(settings.database_address), CONFIG)


@pytest.fixture
def app(bare_app, settings):
    """The app on an installation of this test's own; nothing runs beside it."""
    assert settings.public_url is None, "the factory reads it"
    assert settings.redis_url is None, "the factory reads it"
    settings.storage.mkdir(parents=True)
    database = Database(settings.database_address)
    config, views = dict(bare_app.config), dict(bare_app.view_functions)
    install(bare_app, settings, database)
    bare_app.extensions["trainyard_limiter"].reset()
    bare_app.test_client_class = FlaskClient
    yield bare_app
    bare_app.config.clear()
    bare_app.config.update(config)
    bare_app.view_functions.clear()
    bare_app.view_functions.update(views)
    database.dispose()


@pytest.fixture
def rows(app):
    """Makes rows and files."""
    here = app.extensions["trainyard"]
    return Rows(here.database, Storage(here.settings.storage))


class Person(FlaskClient):
    """A browser: sends the form token that its last page showed."""

    def token(self, page="/sign-in"):
        """The form token of a page."""
        html = self.get(page).text
        return re.search(r'name="csrf-token" content="([^"]+)"', html)[1]

    def send(self, path, page="/account", **values):
        """Posts a form with a valid token."""
        data = {"csrf_token": self.token(page), **values}
        return self.post(path, data=data)

    def sign_in(self, email, password=PASSWORD):
        """Fills in the sign-in page."""
        return self.send("/sign-in", "/sign-in", email=email, password=password)


@pytest.fixture
def person(app):
    """A browser in which nobody is signed in."""
    app.test_client_class = Person
    return app.test_client()


@pytest.fixture
def make_user(app, rows):
    """Makes users who can sign in."""

    def make(email, role="member"):
        with app.test_request_context():
            return rows.user(email, role, hash_password(PASSWORD))

    return make


@pytest.fixture
def ana(app, make_user):
    """Ana, a member, signed in."""
    return _enter(app, make_user, "ana@example.org", "member")


@pytest.fixture
def bob(app, make_user):
    """Bob, another member, signed in."""
    return _enter(app, make_user, "bob@example.org", "member")


@pytest.fixture
def root(app, make_user):
    """An admin, signed in."""
    return _enter(app, make_user, "root@example.org", "admin")


def _enter(app, make_user, email, role):
    app.test_client_class = Person
    client = app.test_client()
    client.user_id = make_user(email, role)
    answer = client.sign_in(email)
    assert answer.status_code == 302, answer.text
    return client


class Api:
    """An API client of one user."""

    def __init__(self, app, token):
        self.client = app.test_client()
        self.headers = {"Authorization": f"Bearer {token}"}

    def __call__(self, method, path, *, headers=None, **more):
        return self.client.open(
            f"/api/v1{path}",
            method=method,
            headers={**self.headers, **(headers or {})},
            **more,
        )


@pytest.fixture
def api(app, rows):
    """Makes API clients: `api(user_id)`."""
    return lambda user_id: Api(app, rows.token(user_id))
