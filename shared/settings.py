"""The settings of this installation: the only reader of `TRAINYARD_*` variables.

What there is to set is in `setting_fields`; here is what follows from it. Start-up
lists every invalid value at once.
"""

import difflib
import hashlib
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import SettingsError

from shared.errors import UserError
from shared.secret_files import add_password, read_secret_file
from shared.setting_fields import MIN_SECRET_CHARACTERS, SettingFields

# Leaves room for a slash and a socket's name within the 107 bytes that Linux takes.
MAX_RUNTIME_BYTES = 80


class Settings(SettingFields):
    """The settings of one installation, read from `TRAINYARD_*` and frozen."""

    @property
    def storage(self) -> Path:
        """Absolute root of shared storage."""
        return (self.storage_dir or self.data_dir / "storage").absolute()

    @property
    def runtime(self) -> Path:
        """Absolute local folder of sockets, locks and process files.

        A socket's path may have 107 bytes. Where the folder's own is too long for
        that, a private folder under the system's temporary one stands in for it.

        Raises:
            UserError: When that folder belongs to somebody else.
        """
        folder = (self.runtime_dir or self.data_dir / "run").absolute()
        if len(os.fsencode(folder)) <= MAX_RUNTIME_BYTES:
            return folder
        return _private_folder(folder)

    @property
    def logs(self) -> Path:
        """Absolute folder of the process logs that `up` writes."""
        return (self.data_dir / "logs").absolute()

    @property
    def database_address(self) -> str:
        """SQLAlchemy address of the database in use, with its password.

        Raises:
            UserError: When the file of the password cannot be read.
        """
        if self.database_url is None:
            return f"sqlite:///{(self.data_dir / 'trainyard.sqlite').absolute()}"
        return self._with_password("database", self.database_url)

    @property
    def broker_address(self) -> str:
        """Broker address in kombu's form, with its password.

        Raises:
            UserError: When the file of the password cannot be read.
        """
        if self.redis_url is None:
            socket = self.runtime / "broker.sock"
            return f"redis+socket://{socket}?virtual_host=0"
        return self._with_password("redis", self.redis_url)

    def read_smtp_password(self) -> str:
        """Returns the password of `smtp_user`, which may be empty.

        Raises:
            UserError: When the file that holds it cannot be read.
        """
        if self.smtp_password_file is None:
            return self.smtp_password or ""
        return read_secret_file(
            self.smtp_password_file, "smtp_password_file", may_be_empty=True
        )

    def read_secret_key(self) -> str:
        """Returns the signing key.

        Raises:
            UserError: When none is set and none lies in its file or in the data folder.
        """
        if self.secret_key:
            return self.secret_key
        path = self.secret_key_file or self.data_dir / "secret_key"
        key = read_secret_file(path, "secret_key_file")
        if len(key) < MIN_SECRET_CHARACTERS:
            raise UserError(
                f"The secret key in {path} has {len(key)} characters; it needs "
                f"{MIN_SECRET_CHARACTERS} or more.",
                field="secret_key",
            )
        return key

    def _with_password(self, name: str, address: str) -> str:
        setting = f"{name}_password_file"
        path = getattr(self, setting)
        if path is None:
            return address
        return add_password(address, read_secret_file(path, setting))


def _name_misspelt(variable: str) -> str | None:
    """Returns what is wrong with a variable that is almost one of ours."""
    name = variable.removeprefix("TRAINYARD_").lower()
    if name == variable.lower() or name in Settings.model_fields:
        return None
    meant = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.85)
    if not meant:
        return None  # such as TRAINYARD_TOKEN, which others read
    return f"{variable} is not a setting. Is TRAINYARD_{meant[0].upper()} meant?"


def _private_folder(instead_of: Path) -> Path:
    """Returns a short folder that only this user can enter, the same each time."""
    digest = hashlib.sha256(os.fsencode(instead_of)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"trainyard-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    ours = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
    if not ours or stat.S_IMODE(facts.st_mode) & 0o077:
        raise UserError(
            f"{folder} must be a folder that belongs to this user and to nobody else. "
            "Remove it, or set TRAINYARD_RUNTIME_DIR to a short path.",
            field="runtime_dir",
        )
    return folder


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Reads the settings once.

    Raises:
        UserError: Listing every invalid value at once.
    """
    misspelt = [_name_misspelt(name) for name in sorted(os.environ)]
    if any(misspelt):
        raise UserError("Invalid settings:\n  " + "\n  ".join(filter(None, misspelt)))
    try:
        return Settings()
    except SettingsError as error:  # a list that is no JSON
        raise UserError(f"Invalid settings: {error}: {error.__cause__}") from error
    except ValidationError as error:
        lines = [
            f"TRAINYARD_{'_'.join(str(p) for p in e['loc']).upper()}: {e['msg']}"
            if e["loc"]
            else e["msg"]
            for e in error.errors()
        ]
        raise UserError("Invalid settings:\n  " + "\n  ".join(lines)) from error
