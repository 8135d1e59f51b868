"""Measures the frozen pass: how many pictures a second become cached features.

The whole pass as a job runs it (read the pack, augment, infer, write, join) takes turns
with `model.predict`, the constant-folded TensorFlow graph, ONNX Runtime and OpenVINO,
which get their pictures from memory and write nothing, and with the machine's own
limit: the best rate at which NumPy, TensorFlow, ONNX Runtime or OpenVINO multiplies
two square float32 matrices, of whichever side suits it best, over the operations of
the base model (two for each multiply-add). Where the hardware multiplies half
precision, the pass of a job that allows it runs too.
Everything runs once a round, so that noise hits all alike, and medians count.

Exits 1 when the pass is below 1.8 times `model.predict` or 0.75 of the limit.

    ./trainyard bench features [--data PATH] [--base EfficientNetLite0] [--views 2]
        [--images 4096] [--rounds 5] [--json]
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import engine_events
from benchmarks.pictures import open_pictures

LEAST_RATIO_PREDICT, LEAST_FRACTION = 1.8, 0.75
MATRIX_SIDES = (256, 512, 1024, 2048)
MATRIX_SECONDS = 0.5
PREDICT_ROWS = 32
MOST_IN_MEMORY = 384  # pictures, for what reads them from memory


def main() -> int:
    """Reads the arguments, measures, prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--base", default="EfficientNetLite0")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="features-") as scratch:
        found = measure(arguments, Path(scratch))
    print(json.dumps(found)) if arguments.json else print_table(found)
    short = (
        found["ratio_predict"] < LEAST_RATIO_PREDICT
        or found["fraction_of_limit"] < LEAST_FRACTION
    )
    return 1 if short else 0


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Lets all take turns; returns every figure."""
    from worker.training import determinism  # noqa: PLC0415 - frameworks take seconds

    engine_events.silence()
    determinism.prepare_environment()
    cores = determinism.count_cores()
    determinism.fix_randomness(threads=cores, deterministic=True)
    from shared.presets import build_training_spec  # noqa: PLC0415
    from worker.training import mixed_precision  # noqa: PLC0415
    from worker.training.frozen_base import FrozenBase  # noqa: PLC0415

    spec = build_training_spec(
        overrides={"base_model": arguments.base, "feature_views": arguments.views}
    )
    base = FrozenBase(spec)
    name, pack = open_pack(arguments, base, scratch)
    run_pass, facts = prepare_pass(pack, base, spec, scratch / "caches", exact=True)
    contenders: dict[str, Callable[[], float]] = {"pass": run_pass}
    if mixed_precision.find_precision():
        run_mixed, mixed = prepare_pass(
            pack, base, spec, scratch / "mixed", exact=False
        )
        contenders["mixed pass"] = run_mixed
        facts["mixed_engine"] = mixed["engine"]
    contenders |= prepare_engines(pack, base, scratch, cores)
    multipliers = prepare_multipliers(cores)
    rates: dict[str, list[float]] = {name: [] for name in contenders | multipliers}
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        for contender, run in (contenders | multipliers).items():
            rates[contender].append(run())
    operations = count_operations(base.build())
    return {
        "data": name,
        "base_model": arguments.base,
        "image_size_px": base.image_size_px,
        "images": len(pack.pixels),
        "views": arguments.views,
        "cores": cores,
        "operations_per_image": operations,
        **facts,
        **summarise(rates, list(multipliers), operations),
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def summarise(
    rates: dict[str, list[float]], multipliers: list[str], operations: int
) -> dict[str, Any]:
    """Returns the medians over the rounds and the ratios between them."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    limit = max(medians[name] for name in multipliers) / operations
    images = {name: rate for name, rate in medians.items() if name not in multipliers}
    return {
        "images_per_second": images,
        "gigaflops": {name: medians[name] / 1e9 for name in multipliers},
        "limit_images_per_second": limit,
        "ratio_predict": images["pass"] / images["predict"],
        "ratio_folded": images["pass"] / images["folded"],
        "ratio_onnxruntime": images["pass"] / images["onnxruntime"],
        "ratio_openvino": images["pass"] / images["openvino"],
        "fraction_of_limit": images["pass"] / limit,
        "ratio_mixed": images.get("mixed pass", images["pass"]) / images["pass"],
        "rounds": rates,
    }


def open_pack(
    arguments: argparse.Namespace, base: Any, scratch: Path
) -> tuple[str, Any]:
    """Returns the data's name and the pack of its first pictures of each class."""
    from worker.training.pack import open_or_build_pack, read_dataset  # noqa: PLC0415

    name, folder = open_pictures(arguments.data, scratch / "data")
    chosen = scratch / "chosen"
    classes = sorted(
        {path.parent for path in folder.rglob("*") if path.is_file()}, key=str
    )
    for place in classes:
        target = chosen / place.name
        target.mkdir(parents=True, exist_ok=True)
        files = sorted(path for path in place.iterdir() if path.is_file())
        for file in files[: -(-arguments.images // len(classes))]:
            shutil.copyfile(file, target / file.name)
    return name, open_or_build_pack(
        read_dataset(chosen),
        image_size_px=base.image_size_px,
        fit="stretch",
        caches=scratch / "caches",
    )


def prepare_pass(
    pack: Any, base: Any, spec: Any, caches: Path, *, exact: bool
) -> tuple[Callable[[], float], dict[str, Any]]:
    """Returns the whole pass, ready to run again and again, and what it has chosen.

    The probe and the conversion happen here, once, as on any machine.
    """
    from worker.training.features import open_or_compute_features  # noqa: PLC0415

    computed = pack.splits["train"].size * (spec.feature_views - 1) + len(pack.pixels)

    def open_features() -> Any:
        return open_or_compute_features(pack, base, spec, caches, exact=exact)

    began = time.perf_counter()
    first = open_features()
    first_seconds = time.perf_counter() - began
    began = time.perf_counter()
    assert all(open_features().found)
    found_seconds = time.perf_counter() - began

    def run() -> float:
        del first.views[:]
        shutil.rmtree(caches / "features")
        start = time.perf_counter()
        open_features()
        return computed / (time.perf_counter() - start)

    return run, {
        "engine": first.origins[0].to_json(),
        "probe": [
            {
                "engine": row.origin.engine,
                "batch_rows": row.origin.batch_rows,
                "threads": row.origin.threads,
                "images_per_second": row.images_per_second,
                "difference": row.difference,
            }
            for row in first.measured
        ],
        "first_pass_with_probe_seconds": first_seconds,
        "found_seconds": found_seconds,
    }


def prepare_engines(
    pack: Any, base: Any, scratch: Path, cores: int
) -> dict[str, Callable[[], float]]:
    """Returns what computes features of pictures that lie in memory."""
    import numpy as np  # noqa: PLC0415

    from worker.training import feature_engines  # noqa: PLC0415

    rows = min(MOST_IN_MEMORY, len(pack.pixels)) // PREDICT_ROWS * PREDICT_ROWS
    pixels = np.asarray(pack.pixels[:rows])
    network = base.build()
    floats = pixels.astype(np.float32)

    def predict() -> float:
        began = time.perf_counter()
        network.predict(floats, batch_size=PREDICT_ROWS, verbose=0)
        return len(floats) / (time.perf_counter() - began)

    def prepare(name: str, batch_rows: int, threads: int) -> Callable[[], float]:
        origin = feature_engines.build_origin(
            name, batch_rows=batch_rows, threads=threads
        )
        engine = feature_engines.build_engine(
            origin, base, folder=scratch / "caches" / "engines", cores=cores
        )
        batches = [
            pixels[at : at + batch_rows] for at in range(0, len(pixels), batch_rows)
        ]

        def run() -> float:
            began = time.perf_counter()
            with ThreadPoolExecutor(engine.lanes) as pool:
                list(pool.map(engine, batches))
            return len(pixels) / (time.perf_counter() - began)

        return run

    predict()
    return {
        "predict": predict,
        "folded": prepare(feature_engines.FOLDED, PREDICT_ROWS, cores),
        "onnxruntime": prepare(feature_engines.ONNX, 1, 1),
        "openvino": prepare(feature_engines.OPENVINO, 4, 1),
    }


def prepare_multipliers(cores: int) -> dict[str, Callable[[], float]]:
    """Returns what multiplies two float32 matrices, in operations a second.

    The side that suits each best is tried once, here.
    """
    multipliers = {}
    for name, prepare in PRODUCTS.items():
        tried = {side: prepare(*draw_matrices(side), cores) for side in MATRIX_SIDES}
        best = max(tried, key=lambda side, t=tried: time_product(t[side], side))
        multipliers[f"{name} ({best})"] = lambda multiply=tried[best], side=best: (
            time_product(multiply, side)
        )
    return multipliers


def draw_matrices(side: int) -> tuple[Any, Any]:
    """Returns two random float32 matrices."""
    import numpy as np  # noqa: PLC0415

    random = np.random.default_rng(0)
    shape = (2, side, side)
    return tuple(random.standard_normal(shape, np.float32))


def prepare_numpy(one: Any, other: Any, _cores: int) -> Callable[[], Any]:
    """Returns NumPy's product."""
    return lambda: one @ other


def prepare_tensorflow(one: Any, other: Any, _cores: int) -> Callable[[], Any]:
    """Returns TensorFlow's product."""
    import tensorflow as tf  # noqa: PLC0415

    a, b = tf.constant(one), tf.constant(other)
    return lambda: tf.matmul(a, b).numpy()


def prepare_openvino(one: Any, other: Any, cores: int) -> Callable[[], Any]:
    """Returns OpenVINO's product, in float32 as the exact pass has it."""
    import openvino  # noqa: PLC0415

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": cores}
    core = openvino.Core()
    network = core.read_model(build_product(len(one)))
    request = core.compile_model(network, "CPU", options).create_infer_request()
    return lambda: request.infer([one, other], share_inputs=True)


def prepare_onnxruntime(one: Any, other: Any, cores: int) -> Callable[[], Any]:
    """Returns ONNX Runtime's product."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    session = onnxruntime.InferenceSession(
        build_product(len(one)), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"a": one, "b": other})


PRODUCTS: dict[str, Callable[[Any, Any, int], Callable[[], Any]]] = {
    "numpy": prepare_numpy,
    "tensorflow": prepare_tensorflow,
    "onnxruntime": prepare_onnxruntime,
    "openvino": prepare_openvino,
}


def build_product(side: int) -> bytes:
    """Returns an ONNX model of one matrix product, `c = a @ b`."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    shape = [side, side]
    named = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "abc"
    ]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    model = helper.make_model(
        helper.make_graph([node], "product", named[:2], named[2:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    return model.SerializeToString()


def time_product(multiply: Callable[[], Any], side: int) -> float:
    """Returns the operations a second, two for each multiply-add."""
    multiply()
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < MATRIX_SECONDS:
        multiply()
        done += 1
    return 2 * side**3 * done / spent


def count_operations(network: Any) -> int:
    """Returns what one picture costs: two for each multiply-add of a kernel.

    A kernel's every weight is used once at each place of its layer's output.
    """
    total = 0
    for layer in network._flatten_layers():  # noqa: SLF001 - nested blocks too
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel"):
            kernel = getattr(layer, name, None)
            if kernel is not None:
                places = 1
                for side in layer.output.shape[1:-1]:
                    places *= side
                weights = 1
                for side in kernel.shape:
                    weights *= side
                total += 2 * weights * places
    return total


def print_table(found: dict[str, Any]) -> None:
    """Prints the rates and what they are compared with."""
    print(
        f"{found['data']}: {found['images']} pictures x {found['views']} views, "
        f"{found['base_model']} at {found['image_size_px']} px, {found['cores']} cores"
    )
    rates = found["images_per_second"]
    for name, rate in rates.items():
        print(f"  {name:<20} {rate:8.1f} images/s")
    for name, rate in found["gigaflops"].items():
        print(f"  {name:<20} {rate:8.1f} GFLOP/s")
    print(
        f"  limit of the machine {found['limit_images_per_second']:8.1f} images/s "
        f"({found['operations_per_image'] / 1e9:.3f} GFLOP a picture)\n"
        f"the pass against predict {found['ratio_predict']:.2f} "
        f"(at least {LEAST_RATIO_PREDICT}), of the limit "
        f"{found['fraction_of_limit']:.2f} (at least {LEAST_FRACTION})\n"
        f"the first pass with the probe {found['first_pass_with_probe_seconds']:.1f} "
        f"s, opening what was there {found['found_seconds']:.3f} s; "
        f"load {found['load'][0]}"
    )


if __name__ == "__main__":
    sys.exit(main())
