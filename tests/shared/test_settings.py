"""Settings: what is refused, and how it is said."""

import pytest
from kombu.utils.url import parse_url
from redis import Redis
from sqlalchemy import make_url

from shared.child_environment import environment_without_credentials
from shared.errors import UserError
from shared.settings import get_settings


@pytest.fixture
def read(monkeypatch):
    """Reads the settings from an environment of `TRAINYARD_*` variables."""

    def read_from(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"TRAINYARD_{name.upper()}", value)
        get_settings.cache_clear()
        return get_settings()

    yield read_from
    get_settings.cache_clear()


def test_every_invalid_value_is_named_at_once(read):
    with pytest.raises(UserError) as refused:
        read(port="0", lease_seconds="-1", log_level="LOUD")

    for name in ("TRAINYARD_PORT", "TRAINYARD_LEASE_SECONDS", "TRAINYARD_LOG_LEVEL"):
        assert name in str(refused.value)


def test_misspelt_variable_is_refused_with_what_was_meant(read):
    with pytest.raises(UserError, match="Is TRAINYARD_LEASE_SECONDS meant"):
        read(lease_second="60")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SOURCE_ADDRESSES": '["data.example.org"]'}, "must begin with https://"),
        ({"SOURCE_ADDRESSES": '["https://a@b/"]'}, "name and password"),
        ({"SOURCE_S3_ENDPOINT": "s3://bucket"}, "must begin with https://"),
        ({"SOURCE_NETWORKS": '["10.0.0.1/8"]'}, "SOURCE_NETWORKS"),
    ],
)
def test_addresses_that_cannot_be_read_are_refused_at_the_start(read, variables, words):
    with pytest.raises(UserError, match=words):
        read(**variables)


def test_lease_that_one_late_heartbeat_would_lose_is_refused(read):
    with pytest.raises(UserError, match="at least twice TRAINYARD_HEARTBEAT_SECONDS"):
        read(lease_seconds="15", heartbeat_seconds="10")


def test_production_names_what_it_will_not_guess(read):
    with pytest.raises(UserError) as refused:
        read(production="true", database_url="postgresql+psycopg://x/y")

    assert "TRAINYARD_REDIS_URL" in str(refused.value)
    assert "TRAINYARD_SECRET_KEY" in str(refused.value)
    assert "TRAINYARD_DATABASE_URL" not in str(refused.value)


def test_long_runtime_folder_is_stood_in_for_by_a_short_private_one(read, tmp_path):
    settings = read(data_dir=str(tmp_path / ("long" * 30)))

    assert len(str(settings.runtime / "broker.sock")) <= 107
    assert settings.runtime.stat().st_mode & 0o077 == 0
    assert settings.runtime == settings.runtime


@pytest.mark.parametrize(
    "name",
    [
        *["TRAINYARD_DATABASE_URL", "TRAINYARD_DATABASE_PASSWORD_FILE"],
        *["PGPASSWORD", "AWS_SECRET_KEY", "HF_TOKEN", "REDIS_URL"],
        *["AWS_ACCESS_KEY_ID", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT"],
    ],
)
def test_child_that_trains_is_told_no_secret(monkeypatch, name):
    monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    environment = environment_without_credentials(CUDA_VISIBLE_DEVICES="-1")

    assert name not in environment
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["CUDA_VISIBLE_DEVICES"] == "-1"


def test_child_looks_for_weights_where_this_process_does(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", "kept")

    environment = environment_without_credentials()

    assert environment["KERAS_HOME"] == str(tmp_path / "kept")


DATABASE = "postgresql+psycopg://trainyard@postgres/trainyard"
ODD_PASSWORD = "a/b@c:d%e#f?g h"


def test_passwords_come_from_files_whatever_their_characters(read, tmp_path):
    password = tmp_path / "password"
    password.write_text(f"{ODD_PASSWORD}\n")

    settings = read(
        database_url=DATABASE,
        database_password_file=str(password),
        redis_url="redis://redis:6379/0",
        redis_password_file=str(password),
    )

    assert make_url(settings.database_address).password == ODD_PASSWORD
    assert make_url(settings.database_address).host == "postgres"
    broker = Redis.from_url(settings.broker_address).connection_pool.connection_kwargs
    assert (broker["host"], broker["password"]) == ("redis", ODD_PASSWORD)
    assert parse_url(settings.broker_address)["password"] == ODD_PASSWORD


@pytest.mark.parametrize("url", ["", DATABASE.replace("@", ":known@")])
def test_password_file_without_a_place_for_it_is_refused(read, url):
    with pytest.raises(UserError, match="a server and no password") as refused:
        read(database_url=url, database_password_file="/run/secrets/password")

    assert "known" not in str(refused.value)


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_password_file_that_holds_none_is_named(read, tmp_path, content):
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    settings = read(database_url=DATABASE, database_password_file=str(path))

    with pytest.raises(UserError, match="TRAINYARD_DATABASE_PASSWORD_FILE") as refused:
        _ = settings.database_address

    assert str(path) in str(refused.value)


def test_secret_key_comes_from_its_file(read, tmp_path):
    path = tmp_path / "key"
    path.write_text("k" * 32 + "\n")

    assert read(secret_key_file=str(path)).read_secret_key() == "k" * 32


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"UNCONFIRMED_LEASE_SECONDS": "5"}, "one late heartbeat ends a training"),
        ({"SMTP_HOST": "mail"}, "TRAINYARD_MAIL_FROM"),
        ({"SMTP_HOST": "mail", "MAIL_FROM": "somebody"}, "TRAINYARD_MAIL_FROM"),
        ({"SMTP_USER": "yard"}, "TRAINYARD_SMTP_PASSWORD_FILE"),
        ({"WEBHOOK_NETWORKS": "10.0.0.0/8"}, "webhook_networks"),
        ({"WEBHOOK_NETWORKS": '["10.0.0.1/8"]'}, "WEBHOOK_NETWORKS"),
        ({"MAX_RUNNING_PER_USER": "0"}, "MAX_RUNNING_PER_USER"),
    ],
)
def test_settings_that_cannot_work_together_are_named(read, variables, words):
    with pytest.raises(UserError, match=words):
        read(**variables)


def test_the_mail_password_may_lie_in_a_file(read, tmp_path):
    path = tmp_path / "password"
    path.write_text("let me\n")

    settings = read(smtp_password_file=str(path))

    assert settings.read_smtp_password() == "let me"
