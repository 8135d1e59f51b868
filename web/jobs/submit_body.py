"""From what was sent to a submission: the one road of the API and of the form."""

from typing import Any

from sqlalchemy.orm import Session

from shared import dataset_store, sweeps
from shared.errors import NotFoundError, UserError
from shared.presets import DEFAULT_PRESET, build_training_spec, merge
from web.api.submit_schemas import JobsRequest, RangeRequest, SpecRequest, SweepRequest
from web.auth.datastore import Account
from web.installation import Installation
from web.jobs.submit import (
    Recipe,
    Request,
    Submission,
    make_recipes,
    refuse_too_many,
    submit,
)


def submit_body(
    here: Installation, account: Account, body: JobsRequest, key: str | None
) -> Submission:
    """Submits every dataset with every spec, all or none.

    Args:
        here: The installation.
        account: Who submits.
        body: What was sent, valid by itself.
        key: The idempotency key; None makes one.

    Raises:
        UserError: When nothing or too much is asked for, or a spec cannot be trained.
        NotFoundError: When a dataset is not there.
        ConflictError: When a dataset has no version yet, or the key was used for
            something else.
    """
    with here.database.reading() as session:
        dataset_ids = [_find_dataset(session, wanted) for wanted in body.datasets]
    request = Request(
        dataset_ids=dataset_ids,
        recipes=build_recipes(body),
        model_name=body.model_name,
        key=key,
        queue=body.queue,
        priority=body.priority,
        gpu_mem_mb=body.gpu_mem_mb,
        not_before=body.not_before,
        preemptible=body.preemptible,
    )
    return submit(here, account, request)


def build_recipes(body: JobsRequest) -> list[Recipe]:
    """Returns every way to train that a request names, its sweeps expanded.

    Raises:
        UserError: When it names none or too many, or a spec cannot be trained.
    """
    wishes = body.specs if body.specs is not None else [body.spec or SpecRequest()]
    if not wishes:
        raise UserError("`specs` names no way to train.", field="specs")
    specs = []
    for wish in wishes:
        for overrides in _list_overrides(wish):
            refuse_too_many((len(specs) + 1) * len(body.datasets))
            spec = build_training_spec(wish.preset, overrides)
            specs.append((wish.preset or DEFAULT_PRESET, spec))
    return make_recipes(specs)


def expand_sweep(sweep: SweepRequest) -> list[dict[str, Any]]:
    """Returns what each training of a sweep changes.

    Raises:
        UserError: When the sweep means nothing, or makes too many.
    """
    drawn: dict[str, sweeps.Choices] = {
        name: sweeps.Range(values.low, values.high, values.log)
        if isinstance(values, RangeRequest)
        else values
        for name, values in sweep.random.items()
    }
    return sweeps.expand(sweep.grid, drawn, trials=sweep.trials, seed=sweep.seed)


def _find_dataset(session: Session, wanted: int | str) -> int:
    if isinstance(wanted, int):
        return wanted
    found = dataset_store.find_dataset_by_name(session, wanted)
    if found is None:
        raise NotFoundError(f"There is no dataset called {wanted!r}.", field="datasets")
    return found.id


def _list_overrides(wish: SpecRequest) -> list[dict[str, Any]]:
    if wish.sweep is None:
        return [wish.overrides]
    return [merge(wish.overrides, changes) for changes in expand_sweep(wish.sweep)]
