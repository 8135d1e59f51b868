"""`trainyard secrets`: random, kept, and closed to other users of the machine."""

import stat

import pytest

from cli.secret_commands import NAMES, make_secrets
from shared.errors import UserError
from shared.settings import MIN_SECRET_CHARACTERS


def read_all(folder):
    return {name: (folder / name).read_text() for name in NAMES}


def test_each_secret_is_long_and_its_own(tmp_path):
    made = make_secrets(tmp_path / "secrets")

    texts = read_all(tmp_path / "secrets")
    assert made == list(NAMES)
    assert len(set(texts.values())) == len(NAMES)
    assert min(map(len, texts.values())) >= MIN_SECRET_CHARACTERS


def test_what_is_there_stays(tmp_path):
    folder = tmp_path / "secrets"
    make_secrets(folder)
    (folder / "secret_key").unlink()
    before = {name: (folder / name).read_text() for name in NAMES[:2]}

    again = make_secrets(folder)

    assert again == ["secret_key"]
    assert read_all(folder).items() >= before.items()


def test_containers_may_read_and_other_users_cannot_enter(tmp_path):
    folder = tmp_path / "secrets"

    make_secrets(folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}


def test_an_open_folder_is_refused(tmp_path):
    tmp_path.chmod(0o755)

    with pytest.raises(UserError, match="close it with `chmod 700`"):
        make_secrets(tmp_path)

    assert list(tmp_path.iterdir()) == []
