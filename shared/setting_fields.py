"""Every setting, in one place: its type, its default, its help, and what must agree.

Each field has a unit in its name and a sentence of help. `docs/settings.md` is checked
against this file.
"""

from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import UserError
from shared.secret_files import takes_password
from shared.source_addresses import parse_address, parse_prefix

MIN_SECRET_CHARACTERS = 32


class SettingFields(BaseSettings):
    """What `TRAINYARD_*` says, checked and frozen."""

    model_config = SettingsConfigDict(
        env_prefix="TRAINYARD_", frozen=True, extra="ignore"
    )

    data_dir: Path = Field(
        default=Path("data"),
        description="Folder of everything this installation keeps: database, broker, "
        "shared storage, logs.",
    )
    storage_dir: Path | None = Field(
        default=None,
        description="Shared storage that every process sees (local folder or NFS). "
        "Defaults to `storage` in the data folder.",
    )
    runtime_dir: Path | None = Field(
        default=None,
        description="Local folder for sockets, slot locks and process files. "
        "Defaults to `run` in the data folder.",
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy address. Defaults to SQLite in the data folder; "
        "`postgresql+psycopg://...` in production.",
    )
    database_password_file: Path | None = Field(
        default=None,
        description="File that holds the password for `TRAINYARD_DATABASE_URL`, which "
        "then names none.",
    )
    redis_url: str | None = Field(
        default=None,
        description="Broker address. Defaults to the embedded broker's socket in the "
        "runtime folder.",
    )
    redis_password_file: Path | None = Field(
        default=None,
        description="File that holds the password for `TRAINYARD_REDIS_URL`, which "
        "then names none.",
    )
    secret_key: str | None = Field(
        default=None,
        min_length=MIN_SECRET_CHARACTERS,
        description="Signs sessions and links. `up` makes one and keeps it in the "
        "data folder; production must set it.",
    )
    secret_key_file: Path | None = Field(
        default=None, description="File that holds the secret key."
    )
    production: bool = Field(
        default=False,
        description="Refuse to start on defaults that are meant for one machine.",
    )
    host: str = Field(default="127.0.0.1", description="Address the web listens on.")
    port: int = Field(default=8420, ge=1, le=65535, description="Port of the web.")
    public_url: str | None = Field(
        default=None, description="Address users see; links are made from it."
    )
    web_threads: int = Field(
        default=16, ge=2, le=512, description="Threads of the web server."
    )
    dataset_roots: list[Path] = Field(
        default=[],
        description="Folders on the server from which datasets may be added by name "
        "(JSON list).",
    )
    source_addresses: list[str] = Field(
        default=[],
        description="Addresses from which datasets may be fetched, and all below them "
        '(JSON list, such as ["https://data.example.org/sets/", "s3://my-bucket/"]); '
        "`https://` alone means every public server. Empty: nothing is fetched.",
    )
    source_networks: list[IPv4Network | IPv6Network] = Field(
        default=[],
        description="Networks that are not public and that datasets may be fetched "
        'from all the same (JSON list, such as ["10.0.0.0/8"]).',
    )
    source_s3_endpoint: str | None = Field(
        default=None,
        description="Address of the server behind `s3://`, such as "
        "`http://minio:9000`; Amazon's own where it is not set.",
    )
    weights_dirs: list[Path] = Field(
        default=[],
        description="Folders searched for weight files of base models (JSON list).",
    )
    download_weights: bool = Field(
        default=True,
        description="Let workers fetch ImageNet weights that lie in no folder; they "
        "are kept in `models` below `KERAS_HOME`.",
    )
    max_upload_bytes: int = Field(
        default=64 * 2**30, ge=1, description="Largest accepted upload, bytes."
    )
    max_unpacked_bytes: int = Field(
        default=256 * 2**30, ge=1, description="Largest unpacked dataset, bytes."
    )
    max_dataset_files: int = Field(
        default=2_000_000, ge=1, description="Most files in one dataset."
    )
    forecast_on_add: bool = Field(
        default=True,
        description="Examine and forecast every dataset version once it has been read; "
        "the workers that read datasets decide.",
    )
    forecast_base_models: int = Field(
        default=3,
        ge=1,
        le=20,
        description="Most base models that a forecast compares: the default one, and "
        "others that were named or whose weights its worker has, one of each family "
        "before a second of any.",
    )
    max_feature_cache_bytes: int = Field(
        default=32 * 2**30,
        ge=0,
        description="What the cached features of base models may take on shared "
        "storage, bytes; above it the least recently used go.",
    )
    heartbeat_seconds: float = Field(
        default=10, gt=0, le=60, description="Time between lease renewals."
    )
    lease_seconds: float = Field(
        default=60,
        gt=0,
        le=3600,
        description="How long a claim holds without renewal.",
    )
    unconfirmed_lease_seconds: float = Field(
        default=900,
        gt=0,
        description="How long a trainer goes on while the database cannot be reached.",
    )
    stop_grace_seconds: float = Field(
        default=20,
        gt=0,
        le=600,
        description="Time a child process has to save and stop before it is killed.",
    )
    progress_timeout_seconds: float = Field(
        default=900,
        gt=0,
        description="Silence of a running child after which its attempt is ended.",
    )
    idle_poll_seconds: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="Time between an idle worker's own looks at the table.",
    )
    standby_trainer: bool = Field(
        default=True,
        description="Keep a trainer waiting that has imported the framework, so that "
        "no job waits for that; takes some 770 MB of memory per training slot.",
    )
    preemption_command: str | None = Field(
        default=None,
        description="Command that ends with 0 once this machine is about to be taken "
        "away; a worker runs it every 5 seconds, and then gives its job back.",
    )
    reconcile_seconds: float = Field(
        default=10, gt=0, le=3600, description="Time between reconciler sweeps."
    )
    self_test_seconds: float = Field(
        default=300,
        ge=0,
        description="Time after which a slot that was taken out of service tests "
        "itself; twice as long before each further test. 0 leaves it to an "
        "administrator.",
    )
    retry_backoff_seconds: float = Field(
        default=30,
        ge=0,
        le=900,
        description="First wait before a failed attempt is tried again; doubles up "
        "to 15 minutes.",
    )
    max_attempts_without_progress: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Charged attempts without new durable progress after which a job "
        "fails.",
    )
    max_lost_without_progress: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Uncharged losses in a row without progress after which a job "
        "fails.",
    )
    max_user_failures: int = Field(
        default=2,
        ge=1,
        le=100,
        description="Attempts that may end in an exception of the training code.",
    )
    max_job_hours: float = Field(
        default=168, gt=0, description="Longest total running time of one job, hours."
    )
    max_running_per_user: int | None = Field(
        default=None,
        ge=1,
        description="Trainings of one user that may run at once, unless an admin says "
        "otherwise for that user. Each worker reads it: set it on every host.",
    )
    max_waiting_per_user: int | None = Field(
        default=None,
        ge=1,
        description="Trainings of one user that may wait, queued or paused, unless "
        "an admin says otherwise for that user.",
    )
    webhook_networks: list[IPv4Network | IPv6Network] = Field(
        default=[],
        description="Networks that are not public and that webhooks may reach all the "
        'same (JSON list, such as ["10.0.0.0/8", "127.0.0.1/32"]).',
    )
    smtp_host: str | None = Field(
        default=None, description="Server that takes e-mail; without one none is sent."
    )
    smtp_port: int = Field(default=587, ge=1, le=65535, description="Port of it.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the connection to it is kept secret."
    )
    smtp_user: str | None = Field(default=None, description="Name to sign in to it.")
    smtp_password: str | None = Field(default=None, description="Its password.")
    smtp_password_file: Path | None = Field(
        default=None, description="File that holds its password."
    )
    mail_from: str | None = Field(
        default=None, description="Sender of e-mail: `Trainyard <trainyard@...>`."
    )
    url: str | None = Field(
        default=None,
        description="Address of the installation that the command line talks to. "
        "Defaults to the one that runs on the data folder.",
    )
    token: str | None = Field(
        default=None,
        description="API token of the command line. Defaults to the local token that "
        "`up` writes into the data folder.",
    )
    log_level: str = Field(
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="Least severity that is logged.",
    )
    log_json: bool = Field(default=False, description="Log lines as JSON objects.")

    @field_validator("source_addresses")
    @classmethod
    def _source_addresses_can_be_read(cls, entries: list[str]) -> list[str]:
        for entry in entries:
            try:
                parse_prefix(entry)
            except UserError as error:
                raise ValueError(str(error)) from error
        return entries

    @field_validator("source_s3_endpoint")
    @classmethod
    def _endpoint_is_a_web_address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        try:
            if parse_address(address).is_store:
                raise ValueError("it must begin with https:// or http://")
        except UserError as error:
            raise ValueError(str(error)) from error
        return address.rstrip("/")

    @model_validator(mode="after")
    def _production_has_no_defaults(self) -> Self:
        if not self.production:
            return self
        missing = [
            name
            for name in ("database_url", "redis_url", "storage_dir", "public_url")
            if getattr(self, name) is None
        ]
        if self.secret_key is None and self.secret_key_file is None:
            missing.append("secret_key")
        if missing:
            raise ValueError(
                "with TRAINYARD_PRODUCTION these have no default: "
                + ", ".join(f"TRAINYARD_{name.upper()}" for name in missing)
            )
        return self

    @model_validator(mode="after")
    def _mail_has_a_sender(self) -> Self:
        if (
            self.smtp_user
            and self.smtp_password_file is None
            and not self.smtp_password
        ):
            raise ValueError(
                "TRAINYARD_SMTP_USER needs TRAINYARD_SMTP_PASSWORD_FILE (or "
                "TRAINYARD_SMTP_PASSWORD)."
            )
        if self.smtp_host and "@" not in parseaddr(self.mail_from or "")[1]:
            raise ValueError(
                "TRAINYARD_SMTP_HOST needs TRAINYARD_MAIL_FROM, such as "
                f"`Trainyard <trainyard@example.org>`. Received: {self.mail_from}."
            )
        return self

    @model_validator(mode="after")
    def _password_files_have_a_place(self) -> Self:
        for name in ("database", "redis"):
            if getattr(self, f"{name}_password_file") is None:
                continue
            if not takes_password(getattr(self, f"{name}_url")):
                raise ValueError(
                    f"TRAINYARD_{name.upper()}_PASSWORD_FILE goes with a "
                    f"TRAINYARD_{name.upper()}_URL that names a server and no "
                    "password: set that, or leave one of the two passwords out."
                )
        return self

    @model_validator(mode="after")
    def _unconfirmed_is_more_than_late(self) -> Self:
        if self.unconfirmed_lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                "TRAINYARD_UNCONFIRMED_LEASE_SECONDS must be at least twice "
                "TRAINYARD_HEARTBEAT_SECONDS, or one late heartbeat ends a training. "
                f"Received: {self.unconfirmed_lease_seconds:g} and "
                f"{self.heartbeat_seconds:g}."
            )
        return self

    @model_validator(mode="after")
    def _lease_outlives_a_late_heartbeat(self) -> Self:
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                "TRAINYARD_LEASE_SECONDS must be at least twice "
                "TRAINYARD_HEARTBEAT_SECONDS, or one late heartbeat loses the job. "
                f"Received: {self.lease_seconds:g} and {self.heartbeat_seconds:g}."
            )
        return self
