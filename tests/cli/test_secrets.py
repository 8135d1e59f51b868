"""`trainyard secrets`: random, kept, and closed to other users of the machine."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from cli.secret_commands import NAMES, make_secrets
from shared.errors import UserError
from shared.setting_fields import MIN_SECRET_CHARACTERS


def read_all(folder):
    return {name: (folder / name).read_text() for name in NAMES}


def test_each_secret_is_long_and_its_own(tmp_path):
    made = make_secrets(tmp_path / "secrets")

    texts = read_all(tmp_path / "secrets")
    assert made == list(NAMES)
    assert texts.pop("smtp_password") == ""  # somebody else's to give
    assert len(set(texts.values())) == len(NAMES) - 1
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
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes.pop("smtp_password") == 0o644  # to be written into
    assert modes == dict.fromkeys(NAMES[:3], 0o444)


def test_what_a_crash_left_behind_is_in_nobody_s_way(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    (folder / ".secret_key-half").write_text("abc")

    assert make_secrets(folder) == list(NAMES)


def test_two_at_once_make_one_secret_each(tmp_path):
    folder = tmp_path / "secrets"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_secrets(folder), range(8)))

    assert sorted(name for names in made for name in names) == sorted(NAMES)
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)


def test_an_open_folder_is_refused(tmp_path):
    tmp_path.chmod(0o755)

    with pytest.raises(UserError, match="close it with `chmod 700`"):
        make_secrets(tmp_path)

    assert list(tmp_path.iterdir()) == []
