"""Submitting: datasets x specs becomes that many job rows, in one transaction.

One request has one idempotency key; job number i of it has `KEY#i`. The same request
twice therefore makes no second job, whoever repeats it: a double click, a proxy or an
impatient client.
"""

import hashlib
import itertools
import secrets
from collections.abc import Sized
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from shared import (
    audit_store,
    base_models,
    dataset_store,
    job_store,
    model_store,
    queue,
    training_promise_store,
    user_limit_store,
    worker_store,
)
from shared.errors import ConflictError, UserError
from shared.job_status import JobKind
from shared.job_submit_store import DEFAULT_QUEUE
from shared.tables import Dataset, DatasetVersion, Model
from shared.training_spec import TrainingSpec
from shared.user_limit_store import UserLimits
from web.auth.datastore import Account
from web.datasets.names import MAX_CHARACTERS, clean_name, name_from_text
from web.installation import Installation
from web.jobs.shortage import Wanted, find_shortages
from web.permissions import NotAllowedError, may_change

MAX_JOBS = 2000


@dataclass(frozen=True)
class Recipe:
    """One way to train: a validated spec and what it is called.

    Args:
        label: What tells it from the other recipes of its submission.
        spec: The validated training spec.
        preset: The preset it was made from.
    """

    label: str
    spec: TrainingSpec
    preset: str


@dataclass(frozen=True)
class Request:
    """What a user asks for in one submission.

    Args:
        dataset_ids: Datasets to train on, each with its newest version.
        recipes: Ways to train; every one is used on every dataset.
        model_name: Name to publish under; null means each dataset's own.
        key: The idempotency key; null makes one, so that nothing is repeated.
        queue: Name of the queue that workers must serve.
        priority: Higher goes first.
        gpu_mem_mb: Memory that a worker's GPU must have, MiB; 0 takes any worker.
        not_before: When they may start at the earliest; None: at once.
        parent_id: The job that this one trains again.
        preemptible: They may be stopped for more urgent ones, and go on later.
    """

    dataset_ids: list[int]
    recipes: list[Recipe]
    model_name: str | None = None
    key: str | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    gpu_mem_mb: int = 0
    not_before: datetime | None = None
    parent_id: int | None = None
    preemptible: bool = False

    def count_jobs(self) -> int:
        """Returns how many jobs it makes."""
        return len(self.dataset_ids) * len(self.recipes)


@dataclass(frozen=True)
class Submission:
    """The jobs of one submission, in order.

    Args:
        group_key: The submission's name in addresses.
        job_ids: Its jobs, datasets outermost.
        created: How many were made by this very request.
        warnings: What they will lack, as far as forecasts tell.
    """

    group_key: str
    job_ids: list[int]
    created: int = field(default=0)
    warnings: list[str] = field(default_factory=list)


def submit(here: Installation, account: Account, request: Request) -> Submission:
    """Records all jobs of `request` or none, then rings.

    Raises:
        UserError: When nothing or too much is asked for, or a spec cannot be trained.
        NotFoundError: When a dataset is not there.
        ConflictError: When a dataset has no version yet, or the key was used for
            something else.
    """
    _validate(request)
    usual = UserLimits(waiting=here.settings.max_waiting_per_user)
    key = request.key or secrets.token_urlsafe(16)
    ways = [(recipe.preset, recipe.spec) for recipe in request.recipes]
    warnings = find_shortages(here, Wanted(request.dataset_ids, ways, request.queue))
    group_key = hashlib.sha256(f"{account.id}:{key}".encode()).hexdigest()[:20]

    def write(session: Session) -> Submission:
        _refuse_unserved(session, request.queue)
        _refuse_unheld(session, request.gpu_mem_mb)
        made = job_store.submit_all(
            session,
            [
                _make_job(
                    account, request, subject, recipe, f"{key}#{index}", group_key
                )
                for index, (subject, recipe) in enumerate(
                    itertools.product(
                        _find_subjects(session, account, request), request.recipes
                    )
                )
            ],
        )
        created = sum(one.created for one in made)
        user_limit_store.require_room(session, account.id, usual, created)
        training_promise_store.make(session, [j.job_id for j in made if j.created])
        if created:
            audit_store.record(
                session, account.actor, "jobs_submitted", "group", group_key,
                {"jobs": created},
            )  # fmt: skip
        return Submission(group_key, [one.job_id for one in made], created, warnings)

    submission = here.database.tx(write)
    if submission.created:
        queue.ring(JobKind.TRAIN)
    return submission


def refuse_too_many(jobs: int) -> None:
    """Raises `UserError` for more jobs than one submission makes."""
    if jobs > MAX_JOBS:
        raise UserError(
            f"One submission makes at most {MAX_JOBS} jobs. Received: {jobs} or more.",
            field="specs",
        )


def refuse_nothing(datasets: Sized, trainings: Sized) -> None:
    """Raises `UserError` where there is nothing to train, or nothing to train on."""
    if not datasets:
        raise UserError("Choose at least one dataset.", field="datasets")
    if not trainings:
        raise UserError("Choose at least one preset and base model.", field="specs")


def _validate(request: Request) -> None:
    refuse_nothing(request.dataset_ids, request.recipes)
    if len(set(request.dataset_ids)) != len(request.dataset_ids):
        raise UserError("A dataset is named twice.", field="datasets")
    refuse_too_many(request.count_jobs())
    for recipe in request.recipes:
        base_models.resolve_image_size_px(
            recipe.spec.base_model, recipe.spec.image_size_px
        )


def _refuse_unserved(session: Session, wanted: str) -> None:
    """Refuses a queue in which a job would wait for ever."""
    if wanted == DEFAULT_QUEUE:
        return
    served = worker_store.list_queues(session) | {DEFAULT_QUEUE}
    if wanted not in served:
        raise UserError(
            f"No worker serves the queue {wanted!r}. Served are: "
            f"{', '.join(sorted(served))}. Start one with `trainyard worker --queue "
            f"{wanted}`.",
            field="queue",
        )


def _refuse_unheld(session: Session, wanted_mb: int) -> None:
    """Refuses a job for which no worker's GPU has the memory."""
    largest_mb = worker_store.find_largest_gpu_mb(session)
    if wanted_mb > largest_mb:
        raise UserError(
            f"No worker has a GPU with {wanted_mb} MiB; the largest has {largest_mb}. "
            "Ask for less, or start a worker on a machine that has more.",
            field="gpu_mem_mb",
        )


@dataclass(frozen=True)
class _Subject:
    """One dataset of a request: its version to train on, the model to publish."""

    dataset: Dataset
    version: DatasetVersion
    model: Model


def _find_subjects(
    session: Session, account: Account, request: Request
) -> list[_Subject]:
    subjects = []
    for dataset_id in request.dataset_ids:
        dataset = dataset_store.get_dataset(session, dataset_id)
        version = _version_to_train(session, dataset)
        model = _model_to_publish(session, account, request, dataset)
        subjects.append(_Subject(dataset, version, model))
    return subjects


def _make_job(  # noqa: PLR0917 - of whom, what, where: read in this order
    account: Account,
    request: Request,
    subject: _Subject,
    recipe: Recipe,
    key: str,
    group_key: str,
) -> job_store.NewJob:
    return job_store.NewJob(
        owner_id=account.id,
        kind=JobKind.TRAIN,
        title=f"{subject.dataset.name} · {recipe.label}",
        spec={
            "training": recipe.spec.model_dump(mode="json"),
            "preset": recipe.preset,
            "model_name": subject.model.name,
            # So that the same key with more or fewer jobs is another request.
            "submission_jobs": request.count_jobs(),
        },
        idempotency_key=key,
        dataset_id=subject.dataset.id,
        dataset_version_id=subject.version.id,
        model_id=subject.model.id,
        group_key=group_key,
        queue=request.queue,
        priority=request.priority,
        gpu_mem_mb=request.gpu_mem_mb,
        not_before=int(request.not_before.timestamp() * 1000)
        if request.not_before
        else 0,
        parent_id=request.parent_id,
        preemptible=request.preemptible,
    )


def _model_to_publish(
    session: Session, account: Account, request: Request, dataset: Dataset
) -> Model:
    """Returns the model whose next version the job becomes.

    Only its owner and admins publish under a name. Where none was asked for and the
    dataset's own belongs to somebody else, the user's name is added to it.
    """
    name = clean_name(request.model_name or dataset.name, "model")
    model = model_store.find_or_create_model(session, name, account.id)
    if not request.model_name and not may_change(account, model):
        user = f" ({account.email.partition('@')[0]})"
        name = name_from_text(name[: MAX_CHARACTERS - len(user)] + user)
        model = model_store.find_or_create_model(session, name, account.id)
    if not may_change(account, model):
        raise NotAllowedError(
            f"The model {name!r} belongs to somebody else. Publish under another name.",
            field="model_name",
        )
    return model


def _version_to_train(session: Session, dataset: Dataset) -> DatasetVersion:
    version = dataset_store.latest_version(session, dataset.id)
    if version is None:
        raise ConflictError(
            f"Dataset {dataset.name!r} has no version to train on: it is still being "
            f"read, or could not be. See its page.",
            field="datasets",
        )
    return version


# What a setting that is null says, where it is not left to the engine.
_NULLS = {
    "weights": "random",
    "image_size_px": "native",
    "early_stopping_patience": "off",
    "epochs": "not by epochs",
    "steps": "not by steps",
}


def make_recipes(specs: list[tuple[str, TrainingSpec]]) -> list[Recipe]:
    """Names each (preset, spec) so that recipes of one submission differ visibly.

    Those of one preset and base model are told apart by the settings that differ.

    Raises:
        UserError: When two of them are the same.
    """
    alike: dict[str, list[dict[str, str]]] = {}
    flat = [dict(describe_spec(spec.model_dump(mode="json"))) for _, spec in specs]
    seen: set[tuple[tuple[str, str], ...]] = set()
    for (preset, spec), settings in zip(specs, flat, strict=True):
        content = tuple(settings.items())
        if content in seen:
            raise UserError(
                f"Two of the asked-for trainings are the same: {spec.base_model}, "
                f"{preset}, with equal settings. Leave one of them out.",
                field="specs",
            )
        seen.add(content)
        alike.setdefault(_name(preset, spec), []).append(settings)
    differing = {name: _find_differing(group) for name, group in alike.items()}
    return [
        Recipe(_label(_name(preset, spec), settings, differing), spec, preset)
        for (preset, spec), settings in zip(specs, flat, strict=True)
    ]


def _name(preset: str, spec: TrainingSpec) -> str:
    return f"{spec.base_model} · {preset}"


def _find_differing(group: list[dict[str, str]]) -> list[str]:
    names = dict.fromkeys(name for settings in group for name in settings)
    return [n for n in names if len({settings.get(n) for settings in group}) > 1]


def _label(name: str, settings: dict[str, str], differing: dict[str, list[str]]) -> str:
    told = ", ".join(f"{n}={settings.get(n, 'none')}" for n in differing[name])
    return f"{name} · {told}" if told else name


def describe_spec(spec: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns a stored training spec as lines of a table: setting, value."""
    return [(name, show_setting(name, v)) for name, v in flatten_spec(spec).items()]


def flatten_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of a stored training spec by name, as `head.dropout`."""
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat


def show_setting(name: str, value: Any) -> str:
    """Returns the value of a setting in words."""
    if value is None:
        return _NULLS.get(name.rpartition(".")[2], "automatic")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
