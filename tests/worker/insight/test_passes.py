"""What passes will write, and whether there is room for it."""

import shutil

import pytest

from shared.artifacts import RESERVE_BYTES
from shared.presets import PRESETS, build_training_spec
from tests.worker.training.pictures import write_pictures
from worker.insight.passes import Passer
from worker.training.labelled_images import read_dataset

SPECS = [build_training_spec(preset) for preset in PRESETS]


@pytest.fixture
def passer(tmp_path):
    write_pictures(tmp_path / "pictures", each=6)
    images = read_dataset(tmp_path / "pictures")
    engines = tmp_path / "engines"
    return Passer(
        images, tmp_path / "caches", [], download_weights=False, engines=engines
    )


def leave_free(monkeypatch, size_bytes):
    usage = shutil.disk_usage("/")._replace(free=size_bytes)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)


def test_passes_that_would_fill_the_disk_are_not_begun(passer, monkeypatch):
    packs = 12 * 3 * (224**2 + 300**2)  # `fast` looks at smaller pictures
    leave_free(monkeypatch, RESERVE_BYTES + packs)

    with pytest.raises(OSError, match="about 6 MiB are needed and 256 MiB must stay"):
        passer.require_room(SPECS)

    leave_free(monkeypatch, RESERVE_BYTES + round(1.1 * packs))
    passer.require_room(SPECS)


def test_what_is_on_disk_already_needs_no_room(passer, monkeypatch):
    for spec in SPECS:
        passer.open_pack(spec)

    leave_free(monkeypatch, RESERVE_BYTES)

    passer.require_room(SPECS)
