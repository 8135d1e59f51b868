import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.presets import build_training_spec
from tests.worker.training.pictures import build_pack
from worker.training import (
    engine_choice,
    feature_engines,
    feature_pass,
    feature_shards,
    features,
    frozen_base,
)
from worker.training.features import open_or_compute_features
from worker.training.frozen_base import FrozenBase
from worker.training.stop_requests import Stopped

# In one process, so that what its tests share is made once.
pytestmark = pytest.mark.xdist_group("features")

SPEC = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "feature_views": 2,
}

COMPUTE = """
import json, sys, hashlib
from pathlib import Path
from tests.worker.training.pictures import build_pack
from shared.presets import build_training_spec
from worker.training.frozen_base import FrozenBase
from worker.training.features import open_or_compute_features

root, fields = Path(sys.argv[1]), json.loads(sys.argv[2])
spec = build_training_spec(overrides=fields)
pack = build_pack(root)
base = FrozenBase(spec)
print("ready", flush=True)
got = open_or_compute_features(
    pack, base, spec, root / "caches",
    lambda done, total: print(f"shard {done} {total}", flush=True),
)
print("digest", *[hashlib.sha256(v.tobytes()).hexdigest() for v in got.views])
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """This machine's choice and its converted base: the tests pay for them once."""
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(autouse=True)
def choice_of_the_machine(tmp_path, engines):
    link_engines(tmp_path, engines)


def link_engines(root, engines):
    (root / "caches").mkdir(parents=True, exist_ok=True)
    (root / "caches" / "engines").symlink_to(engines)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(feature_shards, "SHARD_ROWS", 32)


@pytest.fixture
def spec():
    return build_training_spec(overrides=SPEC)


def start_computing(root, fields=None):
    return subprocess.Popen(
        [sys.executable, "-c", COMPUTE, str(root), json.dumps(fields or SPEC)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def digests_of(process):
    return next(line for line in process.stdout if line.startswith("digest"))


def test_views_hold_what_the_plain_model_gives(tmp_path, spec):
    pack = build_pack(tmp_path)
    base = FrozenBase(spec)

    got = open_or_compute_features(pack, base, spec, tmp_path / "caches")

    expected = base.build().predict_on_batch(pack.pixels[:].astype(np.float32))
    assert got.views[0].shape == (24, 256)
    limit = engine_choice.PARITY_LIMIT * np.abs(expected).max()
    assert np.abs(got.views[0] - expected).max() <= limit


def test_augmented_views_hold_the_training_rows_only(tmp_path, spec):
    pack = build_pack(tmp_path)

    got = open_or_compute_features(pack, FrozenBase(spec), spec, tmp_path / "caches")

    filled = np.flatnonzero(np.abs(got.views[1]).sum(axis=1))
    assert filled.tolist() == sorted(pack.splits["train"].tolist())
    assert not np.array_equal(got.views[1][filled], got.views[0][filled])


def test_finished_features_are_opened_and_not_computed_again(
    tmp_path, spec, monkeypatch
):
    pack, base = build_pack(tmp_path), FrozenBase(spec)
    first = open_or_compute_features(pack, base, spec, tmp_path / "caches")
    monkeypatch.setattr(frozen_base.build_model, "build_base", None)

    again = open_or_compute_features(pack, FrozenBase(spec), spec, tmp_path / "caches")

    assert (first.found, again.found) == ([False] * 2, [True] * 2)
    assert again.digests == first.digests
    assert np.array_equal(again.views[0], first.views[0])


def test_jobs_that_differ_in_the_head_only_share_the_features(tmp_path, spec):
    pack, base = build_pack(tmp_path), FrozenBase(spec)
    other = build_training_spec(
        overrides=SPEC | {"head": {"units": [8]}, "frozen_epochs": 3}
    )

    first = open_or_compute_features(pack, base, spec, tmp_path / "caches")
    second = open_or_compute_features(pack, base, other, tmp_path / "caches")

    assert first.digests == second.digests
    assert len(list((tmp_path / "caches" / "features").iterdir())) == 2


def test_another_augmentation_gives_other_views_but_the_same_plain_one(tmp_path, spec):
    pack, base = build_pack(tmp_path), FrozenBase(spec)
    other = build_training_spec(overrides=SPEC | {"augmentation": {"rotation": 90}})

    first = open_or_compute_features(pack, base, spec, tmp_path / "caches")
    second = open_or_compute_features(pack, base, other, tmp_path / "caches")

    assert first.digests != second.digests
    assert len(list((tmp_path / "caches" / "features").iterdir())) == 3


def test_features_of_all_blocks_are_kept_beside_those_of_the_last_map(tmp_path, spec):
    pack, caches = build_pack(tmp_path), tmp_path / "caches"
    wide = build_training_spec(overrides=SPEC | {"feature_maps": "blocks"})
    last = open_or_compute_features(pack, FrozenBase(spec), spec, caches).views[0]

    blocks = open_or_compute_features(pack, FrozenBase(wide), wide, caches)
    again = open_or_compute_features(pack, FrozenBase(wide), wide, caches)

    assert (blocks.found, again.found) == ([False] * 2, [True] * 2)
    assert blocks.views[0].shape[1] > last.shape[1]
    assert np.array_equal(again.views[0], blocks.views[0])
    # The plain ones are the last of them, to the rounding of two engines.
    assert np.allclose(blocks.views[0][:, -last.shape[1] :], last, atol=1e-3)


def test_a_damaged_array_is_computed_again(tmp_path, spec):
    pack, base = build_pack(tmp_path), FrozenBase(spec)
    first = open_or_compute_features(pack, base, spec, tmp_path / "caches")
    expected = np.array(first.views[0])
    for file in (tmp_path / "caches" / "features").glob("*/features-*.f32"):
        damaged = bytearray(file.read_bytes())
        damaged[100] ^= 255
        file.write_bytes(damaged)

    again = open_or_compute_features(pack, base, spec, tmp_path / "caches")

    assert np.array_equal(again.views[0], expected)


def test_an_array_that_lost_its_end_is_computed_again(tmp_path, spec):
    pack, caches = build_pack(tmp_path), tmp_path / "caches"
    first = open_or_compute_features(pack, FrozenBase(spec), spec, caches)
    wanted = np.array(first.views[0])
    del first.views[:]
    for path in (caches / "features").rglob("features-*.f32"):
        os.truncate(path, path.stat().st_size - 5)

    again = open_or_compute_features(pack, FrozenBase(spec), spec, caches)

    assert not any(again.found)
    assert np.array_equal(again.views[0], wanted)


def test_a_stop_keeps_the_finished_shards(tmp_path, spec, small_shards):
    pack, base = build_pack(tmp_path, each=48), FrozenBase(spec)
    done = []

    with pytest.raises(Stopped):
        open_or_compute_features(
            pack,
            base,
            spec,
            tmp_path / "caches",
            lambda finished, _total: done.append(finished),
            should_stop=lambda: done and done[-1] >= 2,
        )
    kept = list((tmp_path / "caches" / "features").glob("*/shards/*.f32"))
    open_or_compute_features(
        pack,
        base,
        spec,
        tmp_path / "caches",
        lambda finished, total: done.append((finished, total)),
    )

    assert len(kept) == 2
    assert done[3][0] == 2
    assert done[-1] == (6, 6)  # 96 rows are 3 shards, their 67 training rows 3 more


def test_a_damaged_shard_is_computed_again(tmp_path, spec, small_shards, engines):
    pack, base = build_pack(tmp_path, each=48), FrozenBase(spec)
    link_engines(tmp_path / "other", engines)
    whole = open_or_compute_features(pack, base, spec, tmp_path / "other" / "caches")
    with pytest.raises(Stopped):
        open_or_compute_features(
            pack,
            base,
            spec,
            tmp_path / "caches",
            should_stop=lambda: bool(list(tmp_path.glob("caches/features/*/*/*.f32"))),
        )
    (shard,) = tmp_path.glob("caches/features/*/shards/*.f32")
    shard.write_bytes(b"\0" * shard.stat().st_size)

    got = open_or_compute_features(pack, base, spec, tmp_path / "caches")

    assert np.array_equal(got.views[0], whole.views[0])


def test_a_killed_pass_resumes_to_the_same_bytes_and_two_writers_agree(
    tmp_path, engines
):
    pictures = {"each": 800}
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for root in (alone, shared):
        link_engines(root, engines)
        build_pack(root, **pictures)
    killed = start_computing(shared)
    for line in killed.stdout:
        if line.startswith("shard 2 "):
            break
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    kept = {path.name for path in shared.glob("caches/features/*/shards/*.f32")}

    both = [start_computing(shared) for _ in range(2)]
    outcomes = [digests_of(process) for process in both]
    expected = digests_of(start_computing(alone))

    assert len(kept) >= 2
    assert outcomes == [expected, expected]


def test_a_pass_continues_when_the_holder_of_a_shard_hangs(
    tmp_path, spec, small_shards, monkeypatch
):
    monkeypatch.setattr(feature_pass, "_PATIENCE_SECONDS", 0.5)
    pack, base = build_pack(tmp_path), FrozenBase(spec)
    first = open_or_compute_features(pack, base, spec, tmp_path / "caches")
    shutil.rmtree(tmp_path / "caches" / "features")
    view = features._View(pack, base, spec, tmp_path / "caches" / "features", 0)

    with view.shards(first.origins[0]).claimed(0) as is_ours:
        got = open_or_compute_features(pack, base, spec, tmp_path / "caches")

    assert is_ours
    assert got.views[0].shape == (24, 256)


@pytest.mark.parametrize("name", feature_engines.ENGINES)
@pytest.mark.parametrize("feature_maps", ["last", "blocks"])
def test_every_engine_computes_what_the_plain_model_does(tmp_path, feature_maps, name):
    spec = build_training_spec(overrides=SPEC | {"feature_maps": feature_maps})
    pack, base = build_pack(tmp_path), FrozenBase(spec)
    origin = feature_engines.build_origin(name, batch_rows=5, threads=1)

    got = open_or_compute_features(
        pack, base, spec, tmp_path / "caches", origins=[origin] * 2
    )

    expected = base.build().predict_on_batch(pack.pixels[:].astype(np.float32))
    assert got.origins == [origin] * 2
    limit = engine_choice.PARITY_LIMIT * np.abs(expected).max()
    assert np.abs(got.views[0] - expected).max() <= limit


def test_the_plain_engine_holds_few_layers_outputs_at_a_time():
    """In a process of its own: memory once used stays in the peak."""
    code = """
from pathlib import Path
import numpy as np
from shared.presets import build_training_spec
from worker.training import feature_engines
from worker.training.frozen_base import FrozenBase
base = FrozenBase(build_training_spec(overrides={"weights": None}))
base.build()
pixels = np.zeros((32, 224, 224, 3), np.uint8)
origin = feature_engines.build_origin("keras", batch_rows=32, threads=0)

def peak():  # not ru_maxrss: a child inherits that of the process that started it
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1])

before = peak()
feature_engines.build_engine(origin, base, folder=None, cores=2)(pixels)
print((peak() - before) / 1024)
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )

    # All layers' outputs of one batch together are 2,490 MiB; run as a graph, 264.
    assert float(done.stdout) < 800
