import pyarrow.parquet as pq
import pytest

from benchmarks.forecast_tasks import TRASHNET_SHARES, Task, open_task, task_of
from tests.worker.training.pictures import write_pictures


def _read(version):
    rows = pq.read_table(version / "manifest.parquet").to_pylist()
    return {row["sha256"]: (row["label"], row["split"]) for row in rows}


@pytest.mark.xdist_group("insight")
def test_labels_are_wrong_in_the_training_split_alone(tmp_path):
    write_pictures(tmp_path / "pictures", classes=3, each=20)
    source = str(tmp_path / "pictures")
    clean = Task("made", source, TRASHNET_SHARES)
    noisy = Task("made", source, TRASHNET_SHARES, flipped=0.25)

    right = _read(open_task(clean, tmp_path / "clean"))
    wrong = _read(open_task(noisy, tmp_path / "noisy"))

    assert {sha: split for sha, (_, split) in right.items()} == {
        sha: split for sha, (_, split) in wrong.items()
    }
    flipped = [sha for sha in right if right[sha][0] != wrong[sha][0]]
    train = [sha for sha in right if right[sha][1] == "train"]
    assert set(flipped) <= set(train)
    assert len(flipped) == round(0.25 * len(train))


def test_pictures_that_are_not_there_are_named(tmp_path):
    with pytest.raises(SystemExit, match="gone is not there: name a folder or a zip"):
        task_of(tmp_path / "gone")
