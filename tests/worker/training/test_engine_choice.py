"""The engine is chosen by measuring, once, and never by an engine that differs."""

import itertools
import json
import multiprocessing
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from shared.presets import build_training_spec
from tests.worker.training.pictures import build_pack
from worker.training import (
    determinism,
    engine_choice,
    engine_race,
    feature_engines,
    mixed_precision,
    onnx_model,
    openvino_model,
)
from worker.training.engine_choice import Chooser, Measured
from worker.training.engine_choice import _Choice as Choice
from worker.training.features import open_or_compute_features
from worker.training.frozen_base import FrozenBase

SPEC = {
    "base_model": "MobileNet-0.25",
    "weights": None,
    "image_size_px": 32,
    "feature_views": 2,
}


@pytest.fixture(autouse=True)
def _short_rounds(monkeypatch):
    """Who wins is for `benchmarks/` to say: here it matters that they race."""
    monkeypatch.setattr(engine_race, "_ROUND_SECONDS", 0.02)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A folder in which the base has been converted."""
    folder = tmp_path_factory.mktemp("converted")
    base = FrozenBase(build_training_spec(overrides=SPEC))
    onnx_model.open_or_convert(base, folder)
    return folder


@pytest.fixture
def spec():
    return build_training_spec(overrides=SPEC)


@pytest.fixture
def base(spec):
    return FrozenBase(spec)


@pytest.fixture
def pack(tmp_path):
    return build_pack(tmp_path)


@pytest.fixture
def chooser(tmp_path, pack, base, converted):
    shutil.copytree(converted, tmp_path / "choices")
    return build_chooser(tmp_path, pack, base)


def build_chooser(tmp_path, pack, base, **more):
    return Chooser(
        base,
        pack,
        folder=tmp_path / "choices",
        **({"cores": 2, "exact": True} | more),
    )


def origin(engine, **more):
    return feature_engines.build_origin(
        engine, **({"batch_rows": 32, "threads": 1} | more)
    )


def remember(caches, pack, spec, chosen):
    """Leaves `chosen` as this machine's choice, as an earlier job does."""
    chooser = Chooser(
        FrozenBase(spec),
        pack,
        folder=caches / "engines",
        cores=determinism.count_cores(),
        exact=True,
    )
    path = caches / "engines" / f"{chooser._key()}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(engine_choice._describe(Choice(chosen, None), []))


def test_the_fastest_of_those_that_agree_is_chosen_and_never_measured_again(
    tmp_path, chooser, pack, base, monkeypatch
):
    first = chooser.choose()
    best = max(row.images_per_second for row in chooser.measured)
    chosen = next(row for row in chooser.measured if row.origin == first)
    monkeypatch.setattr(engine_race, "run", None)
    again = build_chooser(tmp_path, pack, base)

    assert {row.origin.engine for row in chooser.measured} == set(
        feature_engines.ENGINES
    )
    assert chosen.images_per_second >= 0.95 * best
    assert max(row.difference for row in chooser.measured) <= 1e-4
    assert again.choose() == first
    assert again.measured == []


def test_other_kernels_are_another_origin_and_measured_again(chooser, monkeypatch):
    def origin(engine):
        return feature_engines.build_origin(engine, batch_rows=4, threads=2)

    monkeypatch.setenv(determinism.ONEDNN_VARIABLE, "1")
    key = chooser._key()
    before = {engine: origin(engine) for engine in feature_engines.ENGINES}
    monkeypatch.setenv(determinism.ONEDNN_VARIABLE, "0")
    after = {engine: origin(engine) for engine in feature_engines.ENGINES}

    changed = {engine for engine in before if before[engine] != after[engine]}
    assert changed == {feature_engines.FOLDED, feature_engines.PLAIN}
    assert chooser._key() != key


def test_few_pictures_are_not_worth_a_race(chooser):
    few = chooser.choose(engine_choice.WORTH_MEASURING - 1)

    assert few.engine == feature_engines.PLAIN
    assert chooser.measured == []


def test_few_pictures_profit_from_what_is_remembered(tmp_path, chooser, pack, base):
    measured = chooser.choose(engine_choice.WORTH_MEASURING)

    assert build_chooser(tmp_path, pack, base).choose(1) == measured


def test_an_engine_that_differs_is_not_admitted_however_fast(chooser, monkeypatch):
    real = onnx_model.build_runner

    def build_wrong(model, *, threads):
        run = real(model, threads=threads)
        return lambda pixels: run(pixels) * np.float32(1.001)

    monkeypatch.setattr(onnx_model, "build_runner", build_wrong)

    chosen = chooser.choose()

    assert chosen.engine != feature_engines.ONNX
    assert feature_engines.ONNX not in {row.origin.engine for row in chooser.measured}


def test_a_base_that_cannot_be_converted_is_run_by_the_others(
    tmp_path, pack, base, monkeypatch
):
    def fail(network):
        raise ValueError("no such operator")

    monkeypatch.setattr(onnx_model, "_convert", fail)

    chosen = build_chooser(tmp_path, pack, base).choose()

    assert chosen.engine in {feature_engines.FOLDED, feature_engines.PLAIN}


@pytest.mark.parametrize("calls", [0, 5])
def test_an_engine_that_fails_while_it_computes_is_left_out_and_named(
    chooser, monkeypatch, capfd, calls
):
    """With the first pictures, and in the race, when all of its lanes compute."""
    real = onnx_model.build_runner

    def build_small(model, *, threads):
        run, left = real(model, threads=threads), itertools.count(-calls)

        def compute(pixels):
            if next(left) >= 0:
                raise MemoryError("no room for 99 GB\nat a place in the code")
            return run(pixels)

        return compute

    monkeypatch.setattr(onnx_model, "build_runner", build_small)
    monkeypatch.setattr(engine_choice, "_PARITY_ROWS", 4)
    monkeypatch.setattr(engine_race, "_ROUND_SECONDS", 0.25)  # for more calls than 5

    chosen = chooser.choose()

    assert chosen.engine != feature_engines.ONNX
    assert feature_engines.ONNX not in {row.origin.engine for row in chooser.measured}
    assert 'and is left out: no room for 99 GB"' in capfd.readouterr().out


def test_the_order_decides_between_engines_that_are_as_good_as_equal(chooser):
    ranked = chooser._candidates()
    nearly = [
        Measured(one, speed, 0.0)
        for one, speed in zip(ranked, [97, 100, 80, 50, 40, 30, 20], strict=True)
    ]

    assert chooser._pick(nearly) == Choice(ranked[0], None)
    nearly[0] = replace(nearly[0], images_per_second=90)
    assert chooser._pick(nearly) == Choice(ranked[1], None)


def test_mixed_precision_is_measured_only_where_hardware_and_job_allow_it(
    tmp_path, pack, base, monkeypatch
):
    monkeypatch.setattr(
        mixed_precision, "find_precision", lambda: feature_engines.BFLOAT16
    )

    def precisions(*, exact):
        chooser = build_chooser(tmp_path, pack, base, exact=exact)
        return {one.precision for one in chooser._candidates()}

    assert precisions(exact=False) == {"float32", "mixed_bfloat16"}
    assert precisions(exact=True) == {"float32"}


def test_bfloat16_is_computed_by_the_engine_that_gains_from_it(converted, base):
    """To a few hundredths: eight bits of mantissa, and sums in float32."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)

    def compute(precision):
        engine = feature_engines.build_engine(
            origin(feature_engines.OPENVINO, batch_rows=8, precision=precision),
            base,
            folder=converted,
            cores=2,
        )
        return engine(pixels)

    exact, mixed = compute("float32"), compute("mixed_bfloat16")

    assert mixed.dtype == np.float32
    assert feature_engines.measure_difference(mixed, exact) < 0.1


def test_mixed_precision_gives_way_where_a_dataset_cannot_prove_it(
    tmp_path, pack, base, monkeypatch
):
    """24 pictures cannot tell 0.2 points; the choice of the machine stays."""
    exact = origin(feature_engines.ONNX)
    chooser = remember_mixed(
        tmp_path, pack, base, monkeypatch, exact, feature_engines.FOLDED
    )

    assert chooser.choose() == exact
    (verdict,) = (tmp_path / "choices").glob("*-*.json")
    assert json.loads(verdict.read_text())["is_harmless"] is False


def test_half_the_bits_that_cannot_be_computed_give_way_this_time(
    tmp_path, pack, base, monkeypatch, capfd
):
    def fail(*arguments, **options):
        raise MemoryError("no room")

    monkeypatch.setattr(openvino_model, "build_runner", fail)
    exact = origin(feature_engines.ONNX)
    chooser = remember_mixed(
        tmp_path, pack, base, monkeypatch, exact, feature_engines.OPENVINO
    )

    assert chooser.choose() == exact
    assert "and is left out: no room" in capfd.readouterr().out
    assert not list((tmp_path / "choices").glob("*-*.json")), "no verdict is kept"


def remember_mixed(tmp_path, pack, base, monkeypatch, exact, engine):  # noqa: PLR0917
    """A machine with half precision that has chosen `engine` for it, else `exact`."""
    monkeypatch.setattr(
        mixed_precision, "find_precision", lambda: feature_engines.BFLOAT16
    )
    mixed = origin(engine, precision=feature_engines.BFLOAT16)
    chooser = build_chooser(tmp_path, pack, base, exact=False)
    (tmp_path / "choices").mkdir()
    (tmp_path / "choices" / f"{chooser._key()}.json").write_text(
        engine_choice._describe(Choice(exact, mixed), [])
    )
    return chooser


def choose_and_send(tmp_path, pipe):
    spec = build_training_spec(overrides=SPEC)
    pack = build_pack(tmp_path)
    chooser = build_chooser(tmp_path, pack, FrozenBase(spec))
    pipe.send("ready")
    pipe.recv()
    chosen = chooser.choose()
    pipe.send((chosen, len(chooser.measured)))


def test_of_two_processes_that_choose_at_once_one_measures(tmp_path, pack):
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        processes.append(
            context.Process(target=choose_and_send, args=(tmp_path, theirs))
        )
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        assert pipe.recv() == "ready"
    for pipe in pipes:
        pipe.send("go")

    results = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()

    assert results[0][0] == results[1][0]
    assert sorted(count > 0 for _, count in results) == [False, True]


def test_another_machines_checkpoint_decides_and_not_the_own_probe(
    tmp_path, pack, base, spec, monkeypatch
):
    """The recorded engine runs here under this processor's name, without a probe."""
    monkeypatch.setattr(engine_race, "run", None)
    elsewhere = replace(
        origin(feature_engines.FOLDED, batch_rows=7), processor="another one"
    )

    got = open_or_compute_features(
        pack, base, spec, tmp_path / "caches", origins=[elsewhere] * 2
    )

    assert [one.engine for one in got.origins] == ["tensorflow-folded"] * 2
    assert [one.batch_rows for one in got.origins] == [7, 7]
    assert got.origins[0].processor == feature_engines.name_processor()


def test_views_that_another_engine_has_finished_are_used_and_not_computed(
    tmp_path, pack, spec
):
    plain = origin(feature_engines.PLAIN)
    caches = tmp_path / "caches"
    one_view = spec.model_copy(update={"feature_views": 1})
    open_or_compute_features(pack, FrozenBase(spec), one_view, caches, origins=[plain])
    remember(caches, pack, spec, origin(feature_engines.FOLDED))

    got = open_or_compute_features(pack, FrozenBase(spec), spec, caches)

    assert got.found == [True, False]
    assert [one.engine for one in got.origins] == ["keras", "tensorflow-folded"]


def test_views_to_come_are_this_machines_where_another_one_made_the_plain_view(
    tmp_path, pack, spec, monkeypatch
):
    """What a machine has chosen for itself was never compared with the model here."""
    caches, folded = tmp_path / "caches", origin(feature_engines.FOLDED)
    one_view = spec.model_copy(update={"feature_views": 1})
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(feature_engines, "name_processor", lambda: "another one")
        plain = origin(feature_engines.PLAIN)
        open_or_compute_features(
            pack, FrozenBase(spec), one_view, caches, origins=[plain]
        )
    remember(caches, pack, spec, folded)

    first = open_or_compute_features(pack, FrozenBase(spec), spec, caches, count=1)
    whole = open_or_compute_features(
        pack, FrozenBase(spec), spec, caches, opened=first, origins=first.origins
    )

    assert first.origins == whole.origins == [plain, folded]
    assert (first.found, whole.found) == ([True, False],) * 2
    assert whole.views[0] is first.views[0]


def test_views_to_come_take_what_has_made_the_plain_view_here(tmp_path, pack, spec):
    caches, plain = tmp_path / "caches", origin(feature_engines.PLAIN)
    one_view = spec.model_copy(update={"feature_views": 1})
    open_or_compute_features(pack, FrozenBase(spec), one_view, caches, origins=[plain])
    remember(caches, pack, spec, origin(feature_engines.FOLDED))

    first = open_or_compute_features(pack, FrozenBase(spec), spec, caches, count=1)

    assert first.origins == [plain, plain]


def test_an_attempt_elsewhere_plans_its_views_for_that_machine(tmp_path, pack, spec):
    planned = [
        origin(feature_engines.PLAIN),
        replace(origin(feature_engines.FOLDED), processor="another one"),
    ]

    first = open_or_compute_features(
        pack, FrozenBase(spec), spec, tmp_path, count=1, origins=planned
    )

    assert first.origins == [planned[0], origin(feature_engines.FOLDED)]


def test_a_deterministic_job_does_not_use_views_of_half_precision(tmp_path, pack, spec):
    caches = tmp_path / "caches"
    mixed = origin(feature_engines.FOLDED, precision=feature_engines.BFLOAT16)
    open_or_compute_features(pack, FrozenBase(spec), spec, caches, origins=[mixed] * 2)
    remember(caches, pack, spec, origin(feature_engines.FOLDED))

    loose = open_or_compute_features(pack, FrozenBase(spec), spec, caches, exact=False)
    exact = open_or_compute_features(pack, FrozenBase(spec), spec, caches)

    assert (loose.found, loose.origins[0].precision) == ([True] * 2, "mixed_bfloat16")
    assert (exact.found, exact.origins[0].precision) == ([False] * 2, "float32")
    difference = np.abs(loose.views[0] - exact.views[0]).max()
    assert 0 < difference < 0.1 * np.abs(exact.views[0]).max()


def test_a_damaged_converted_model_is_converted_again_to_the_same_features(
    tmp_path, spec
):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)

    def compute():
        model = onnx_model.open_or_convert(FrozenBase(spec), tmp_path)
        return onnx_model.build_runner(model, threads=1)(pixels)

    first = compute()
    (path,) = tmp_path.glob("*.onnx")
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])

    assert np.array_equal(compute(), first)
    assert abs(path.stat().st_size - whole) < 10_000


def test_a_converted_base_turns_its_pictures_once_and_not_at_every_layer(
    tmp_path, base
):
    graph = onnx.load_from_string(onnx_model.open_or_convert(base, tmp_path)).graph

    assert sum(node.op_type == "Transpose" for node in graph.node) <= 2
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_a_row_of_features_does_not_depend_on_its_company(converted, base):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    for name in feature_engines.ENGINES:
        engine = feature_engines.build_engine(
            origin(name, batch_rows=8), base, folder=converted, cores=2
        )

        whole = engine(pixels)

        assert np.array_equal(engine(pixels[:3]), whole[:3]), name
