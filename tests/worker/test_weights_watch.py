"""What a worker tells of its weights follows the folders, and a dead folder waits."""

import errno
import threading
import time

import pytest

from shared.base_models import get_base_model
from shared.weight_files import WeightFolders
from tests.worker.processes import wait_until
from worker import weights_watch
from worker.weights_watch import WeightsWatch

LITES = ["EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2"]


@pytest.fixture
def folders(tmp_path):
    return WeightFolders(mirrors=[tmp_path / "mirror"], cache=tmp_path / "cache")


@pytest.fixture
def start():
    watches = []

    def make(folders, **options):
        watch = WeightsWatch(folders, **{"download": True, "seconds": 0.05} | options)
        watches.append(watch)
        watch.start()
        return watch

    yield make
    for watch in watches:
        watch.stop()


def put(folder, name="MobileNet"):
    folder.mkdir(exist_ok=True)
    (folder / get_base_model(name).weights_file).touch()


@pytest.mark.parametrize("download", [True, False])
def test_the_first_look_is_there_once_it_has_started(
    start, folders, tmp_path, download
):
    put(folders.cache)

    watch = start(folders, download=download)

    assert watch.report() == {
        "ready": [*LITES, "MobileNet"],
        "folders": [str(tmp_path / "mirror"), str(tmp_path / "cache")],
        "download": download,
    }


def test_a_file_that_comes_and_goes_is_told(start, folders):
    watch = start(folders)
    put(folders.mirrors[0], "VGG16")
    wait_until(lambda: watch.report()["ready"] == [*LITES, "VGG16"])
    (folders.mirrors[0] / get_base_model("VGG16").weights_file).unlink()

    wait_until(lambda: watch.report()["ready"] == LITES)


class HangingFolders(WeightFolders):
    """Folders on a mount that has died: whoever looks waits."""

    def find(self, base_model):
        held.wait()
        return super().find(base_model)


held = threading.Event()


def test_a_folder_that_hangs_does_not_hang_the_worker(start, tmp_path, monkeypatch):
    monkeypatch.setattr(weights_watch, "FIRST_LOOK_SECONDS", 0.1)
    held.clear()
    began = time.monotonic()
    watch = start(HangingFolders(mirrors=[], cache=tmp_path))

    assert time.monotonic() - began < 1
    assert watch.report() is None
    held.set()
    wait_until(lambda: watch.report() is not None)


class StaleFolders(WeightFolders):
    """Folders that fail now and then, as a stale NFS handle does."""

    def find(self, base_model):
        if (self.cache / "stale").exists():
            raise OSError(errno.ESTALE, "Stale file handle")
        return super().find(base_model)


def test_a_folder_that_fails_leaves_what_was_found_last(start, tmp_path):
    put(tmp_path)
    watch = start(StaleFolders(mirrors=[], cache=tmp_path))
    (tmp_path / "stale").touch()
    time.sleep(0.2)
    assert watch.report()["ready"] == [*LITES, "MobileNet"]
    put(tmp_path, "VGG16")
    (tmp_path / "stale").unlink()

    wait_until(lambda: watch.report()["ready"] == [*LITES, "MobileNet", "VGG16"])
