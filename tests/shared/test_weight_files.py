"""Weight files are found by name, in the promised order, without opening them."""

import sys
from pathlib import Path

import pytest

from shared.base_models import BASE_MODELS, get_base_model
from shared.child_environment import find_weights_cache
from shared.weight_files import WeightFolders, list_ready

MOBILENET = get_base_model("MobileNet-0.25")
PLACES = ["one", "two", "one/models", "two/models", "cache"]


@pytest.fixture
def folders(tmp_path):
    return WeightFolders(
        mirrors=[tmp_path / "one", tmp_path / "two"], cache=tmp_path / "cache"
    )


def put(folder, file=MOBILENET.weights_file):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).touch()
    return folder / file


def test_mirrors_go_before_their_models_folders_and_these_before_the_cache(
    folders, tmp_path
):
    for place in reversed(PLACES):
        file = put(tmp_path / place)

        assert folders.find(MOBILENET) == file


def test_what_is_nowhere_is_none(folders):
    assert folders.find(MOBILENET) is None


def test_a_folder_of_that_name_is_no_file(folders, tmp_path):
    (tmp_path / "cache" / MOBILENET.weights_file).mkdir(parents=True)

    assert folders.find(MOBILENET) is None


class ClosedPath(type(Path())):
    """A folder that this user may not enter, for whoever runs the tests."""

    def is_file(self):
        raise PermissionError(13, "Permission denied", str(self))


def test_a_closed_folder_does_not_hide_the_others(tmp_path):
    file = put(tmp_path / "open")

    folders = WeightFolders(
        mirrors=[ClosedPath(tmp_path / "closed")], cache=tmp_path / "open"
    )

    assert folders.find(MOBILENET) == file


def test_a_user_is_advised_to_use_the_mirrors_or_the_cache(folders, tmp_path):
    assert folders.list_folders() == [
        tmp_path / place for place in ("one", "two", "cache")
    ]


def test_the_packaged_ones_are_ready_without_any_folder(folders):
    assert list_ready(folders) == [
        "EfficientNetLite0",
        "EfficientNetLite1",
        "EfficientNetLite2",
    ]


def test_a_file_that_was_put_there_makes_its_model_ready(folders, tmp_path):
    put(tmp_path / "two")
    put(tmp_path / "cache", get_base_model("VGG19").weights_file)

    assert {"MobileNet-0.25", "VGG19"} < set(list_ready(folders))


def test_looking_imports_nothing(folders):
    before = {name for name in sys.modules if "efficientnet" in name.lower()}

    list_ready(folders)

    assert {name for name in sys.modules if "efficientnet" in name.lower()} == before


def test_no_two_models_share_a_file():
    files = [model.weights_file for model in BASE_MODELS.values()]

    assert len(set(files)) == len(files)


def test_the_cache_is_below_keras_home(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    assert find_weights_cache() == tmp_path / "models"


def test_without_keras_home_the_cache_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert find_weights_cache() == tmp_path / ".keras" / "models"


def test_a_user_without_a_home_folder_has_a_cache_too(monkeypatch):
    monkeypatch.setenv("KERAS_HOME", "~no-such-user/kept")

    assert find_weights_cache().parts[-3:] == ("~no-such-user", "kept", "models")


def test_a_home_folder_that_is_not_there_is_replaced_by_tmp(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "absent"))

    assert find_weights_cache() == Path("/tmp/.keras/models")
