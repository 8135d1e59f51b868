"""What a submission will lack: disk on shared storage, memory of the workers.

Warnings only: a forecast may be wrong, disks are cleared and workers join. Whoever
submits is told, and may submit anyway.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from shared import dataset_store, forecast_store, worker_store
from shared.base_models import get_base_model
from shared.forecast_store import Gist
from shared.job_status import JobKind
from shared.presets import build_training_spec
from shared.tables import Dataset
from shared.training_spec import TrainingSpec
from web.datasets.forecast_presets import Preset, make_presets
from web.display import size
from web.installation import Installation

MEBI = 2**20
MOST_ASKED = 2000  # datasets; one submission makes no more jobs
# What a training holds does not depend on them. A setting that is not here may.
_LIGHT = frozenset(
    {"seed", "frozen_learning_rate", "fine_tune_learning_rate", "first_layer_rate"}
    | {"learning_rate_schedule", "plateau_factor", "plateau_patience", "monitor"}
    | {"early_stopping_patience", "save_best_only", "checkpoint_every"}
    | {"class_weights", "label_smoothing"}
)


@dataclass(frozen=True)
class Wanted:
    """Trainings that are asked for, so far as room goes.

    Args:
        dataset_ids: Datasets; each is trained on in every way.
        recipes: Preset and spec of every way to train.
        queue: That the workers must serve.
    """

    dataset_ids: list[int]
    recipes: list[tuple[str, TrainingSpec]]
    queue: str


@dataclass(frozen=True)
class _Promised:
    """What a forecast says of one preset on one dataset."""

    dataset: str
    preset: Preset


def find_shortages(here: Installation, wanted: Wanted) -> list[str]:
    """Returns a sentence for everything that will not do, as far as forecasts tell.

    Args:
        here: The installation, whose shared storage is asked for its free space.
        wanted: What is about to be submitted, or just was.
    """
    with here.database.reading() as session:
        promised = _list_promised(session, wanted.dataset_ids)
        memory_mb = find_worker_memory(session, wanted.queue)
    needed = _reckon_disk(promised, wanted.recipes)
    return [
        *_compare_disk(here, needed, len(promised) * len(wanted.recipes)),
        *_compare_memory(promised, _list_as_heavy(wanted.recipes), memory_mb),
        *_list_obstacles(promised, _list_plain(wanted.recipes)),
    ]


def find_worker_memory(session: Session, queue: str) -> tuple[str, int] | None:
    """Returns the worker with the most memory and its MiB, of those that could train.

    None where none is there that serves the queue, or none has told.
    """
    told = [
        (worker.name, memory_mb)
        for worker in worker_store.list_takers(session, JobKind.TRAIN, queue)
        if isinstance(memory_mb := (worker.facts or {}).get("memory_mb"), int)
    ]
    return max(told, key=lambda one: one[1], default=None)


def list_gists(
    session: Session, dataset_ids: Iterable[int]
) -> list[tuple[Dataset, Gist | None]]:
    """Returns these datasets, each with what its newest version's forecast says.

    Those that are gone or have no version are left out, and all beyond `MOST_ASKED`: a
    form may be sent with any number of them.
    """
    wanted = list(dict.fromkeys(dataset_ids))[:MOST_ASKED]
    versions = dataset_store.latest_versions(session, wanted) if wanted else {}
    datasets = dataset_store.list_by_id(session, list(versions))
    found = forecast_store.list_gists(session, [v.id for v in versions.values()])
    by_id = {dataset.id: dataset for dataset in datasets}
    return [
        (by_id[number], found.get(versions[number].id))
        for number in wanted
        if number in by_id
    ]


def _list_promised(
    session: Session, dataset_ids: list[int]
) -> dict[int, dict[str, _Promised]]:
    """Returns what is promised, by dataset and preset."""
    promised = {}
    for dataset, gist in list_gists(session, dataset_ids):
        found = make_presets({"presets": gist.presets}) if gist else None
        if found:
            promised[dataset.id] = {
                preset.name: _Promised(dataset.name, preset) for preset in found.presets
            }
    return promised


def _reckon_disk(
    promised: dict[int, dict[str, _Promised]], recipes: list[tuple[str, TrainingSpec]]
) -> float:
    """Returns the bytes that all trainings take together.

    Each has checkpoints of its own. Trainings of one preset, base model and image size
    share a pack and its features: a sweep of a hundred rates needs them once, and what
    the forecast has left is there already. A pack grows with the square of its
    pictures' side, and is promised for that of the preset.
    """
    ways = Counter((preset, *_key_of(spec)) for preset, spec in recipes)
    needed = 0.0
    for presets in promised.values():
        packs: dict[tuple[object, ...], float] = defaultdict(float)
        for (name, base_model, size_px, fit), jobs in ways.items():
            if name not in presets:
                continue
            preset = presets[name].preset
            disk = preset.disk
            if "checkpoints" not in disk:
                needed += (preset.disk_bytes or 0) * jobs
                continue
            key = (base_model, size_px, fit)
            pack, features = disk.get("pack", 0.0), disk.get("features", 0.0)
            own = _key_of(build_training_spec(name))
            if preset.there_bytes and key == own:
                features -= preset.there_bytes - pack
                pack = 0.0
            pack *= (size_px / own[1]) ** 2
            packs[key] = max(packs[key], pack)
            needed += features + disk["checkpoints"] * jobs
        needed += sum(packs.values())
    return needed


def _key_of(spec: TrainingSpec) -> tuple[str, int, str]:
    """What decides a pack and the features made of it."""
    return spec.base_model, _find_side_px(spec), spec.fit


def _find_side_px(spec: TrainingSpec) -> int:
    return spec.image_size_px or get_base_model(spec.base_model).native_size_px


def _list_as_heavy(recipes: list[tuple[str, TrainingSpec]]) -> set[str]:
    """Returns the presets that something asked for holds as much memory as.

    Memory is promised of presets as they are. What another batch or network holds
    nobody has measured, so nothing is said of it.
    """
    names = {name for name, _ in recipes}
    own = {name: _weigh(build_training_spec(name)) for name in names}
    return {name for name, spec in recipes if _weigh(spec) == own[name]}


def _weigh(spec: TrainingSpec) -> dict[str, Any]:
    """Returns the settings that decide how much memory a training holds."""
    return spec.model_dump(exclude={*_LIGHT}) | {
        "image_size_px": _find_side_px(spec),
        "frozen_epochs": spec.frozen_epochs > 0,
        "fine_tune_epochs": spec.fine_tune_epochs > 0,
    }


def _compare_disk(here: Installation, needed: float, jobs: int) -> list[str]:
    try:
        free = shutil.disk_usage(here.settings.storage).free
    except OSError:  # shared storage is away: the jobs themselves will say so
        return []
    if needed <= free:
        return []
    what = "This job takes" if jobs == 1 else f"These {jobs:,} jobs take"
    words = (
        f"{what} about {size(needed)} of disk, and shared storage has {size(free)} "
        f"free: {size(needed - free)} are missing. Delete what is no longer needed, or "
        "submit fewer jobs."
    )
    return [words]


def _compare_memory(
    promised: dict[int, dict[str, _Promised]],
    presets: set[str],
    largest: tuple[str, int] | None,
) -> list[str]:
    if largest is None:
        return []
    worker, memory_mb = largest
    needs = [
        (one.preset.memory_bytes, one)
        for by_preset in promised.values()
        for name, one in by_preset.items()
        if name in presets and one.preset.memory_bytes is not None
    ]
    short = [pair for pair in needs if pair[0] > memory_mb * MEBI]
    if not short:
        return []
    needed, one = max(short, key=lambda pair: pair[0])
    others = f" (and {len(short) - 1:,} more are too large)" if len(short) > 1 else ""
    has = memory_mb * MEBI
    words = (
        f"“{one.dataset}” with {one.preset.name} holds about {size(needed)} of "
        f"memory{others}, and the largest worker that could train it, {worker}, has "
        f"{size(has)}: {size(needed - has)} are missing. A smaller `batch_size` or "
        "`image_size_px` needs less."
    )
    return [words]


def _list_plain(recipes: list[tuple[str, TrainingSpec]]) -> set[str]:
    """Returns the presets that are asked for as they are, whatever the seed."""
    return {
        name
        for name, spec in recipes
        if spec == build_training_spec(name, {"seed": spec.seed})
    }


def _list_obstacles(
    promised: dict[int, dict[str, _Promised]], presets: set[str]
) -> list[str]:
    """Returns the first preset that could not be trained where it was forecast."""
    found = [
        (name, one)
        for by_preset in promised.values()
        for name, one in by_preset.items()
        if name in presets and one.preset.obstacle
    ]
    if not found:
        return []
    name, one = found[0]
    others = f" So it is with {len(found) - 1:,} more." if len(found) > 1 else ""
    words = (
        f"“{one.dataset}” with {name} could not be trained on the worker that forecast "
        f"it: {one.preset.obstacle}.{others}"
    )
    return [words]
