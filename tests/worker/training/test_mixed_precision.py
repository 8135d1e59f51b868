"""Half the bits are used where the hardware has them and accuracy does not suffer."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from shared.presets import build_training_spec
from tests.worker.training.pictures import build_pack
from worker.training import feature_engines, mixed_precision
from worker.training.frozen_base import FrozenBase


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx2 fma", None),
        ("flags : avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags : amx_bf16 amx_tile", "mixed_bfloat16"),
        ("flags : amx_int8", None),
    ],
)
def test_a_cpu_is_asked_for_its_matrix_instructions(tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")

    assert mixed_precision.find_precision(tmp_path / "cpuinfo") == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), None),
        ((7, 0), "mixed_float16"),
        ((7, 5), "mixed_float16"),
        ((8, 0), "mixed_bfloat16"),
        ((9, 0), "mixed_bfloat16"),
    ],
)
def test_a_gpu_is_asked_for_its_compute_capability(capability, expected):
    assert mixed_precision.name_gpu_precision(capability) == expected


@pytest.fixture
def engines(tmp_path):
    """The folded graph in float32 and in bfloat16, which any processor can emulate."""
    spec = build_training_spec(
        overrides={
            "base_model": "MobileNet-0.25",
            "weights": None,
            "image_size_px": 32,
        }
    )
    base = FrozenBase(spec)
    exact = feature_engines.build_origin(
        feature_engines.FOLDED, batch_rows=32, threads=1
    )
    mixed = replace(exact, precision=feature_engines.BFLOAT16)
    return [
        feature_engines.build_engine(origin, base, folder=tmp_path, cores=2)
        for origin in (exact, mixed)
    ]


@pytest.fixture
def pack(tmp_path):
    """Two classes of different colour: even a random base tells them apart."""
    return build_pack(tmp_path, each=420)


def test_bfloat16_features_that_cost_nothing_are_admitted(engines, pack):
    verdict = mixed_precision.compare(*engines, pack)

    assert verdict["is_harmless"]
    assert verdict["pictures"] >= 500
    assert verdict["float32"] - verdict["mixed"] <= 0.002
    assert verdict["float32"] > 0.9


class Ruined:
    """An engine whose features say nothing about the picture any more."""

    def __init__(self, engine, value):
        self.origin = engine.origin
        self._engine = engine
        self._value = value

    def __call__(self, pixels):
        return np.full_like(self._engine(pixels), self._value)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_features_that_cost_accuracy_are_refused(engines, pack, value):
    exact, mixed = engines

    verdict = mixed_precision.compare(exact, Ruined(mixed, value), pack)

    assert not verdict["is_harmless"]
    assert verdict["mixed"] < verdict["float32"] - 0.002


def test_the_rule_looks_at_no_picture_outside_the_training_split(pack):
    rows = mixed_precision._choose_rows(pack)

    assert set(rows) <= set(pack.splits["train"])


def test_each_class_is_as_frequent_as_in_the_split(pack, monkeypatch):
    labels = np.asarray([0] * 300 + [1] * 30 + [2] * 4, np.int32)

    uneven = SimpleNamespace(labels=labels, splits={"train": np.arange(len(labels))})
    monkeypatch.setattr(mixed_precision, "_MOST_PICTURES", 167)
    monkeypatch.setattr(mixed_precision, "_FEWEST_PICTURES", 100)

    rows = mixed_precision._choose_rows(uneven)

    assert np.bincount(labels[rows]).tolist() == [150, 15]
    uneven.labels = np.zeros_like(labels)
    assert mixed_precision._choose_rows(uneven) is None
