"""What users choose for findings: accepted at once, or part of one new version.

Trace: keys of findings -> their pictures -> one fate for each picture -> one ingest job
(`decisions`). The version that the findings are about is never changed.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from shared import dataset_store, finding_decision_store
from shared.edit_actions import ACCEPT
from shared.errors import UserError
from shared.forecast_tables import Forecast
from web.auth.datastore import Account
from web.datasets import accepted_findings, findings
from web.datasets.add import Added
from web.datasets.clusters import BY_DUPLICATES, Clusters, find_clusters
from web.datasets.decision import MAX_IMAGES, Decision, Decisions
from web.datasets.decisions import decide
from web.datasets.finding_plan import KEEP_TEST, Choice, Plan, gather, make_plan
from web.datasets.findings import FindingKind
from web.datasets.forecast_view import find_state
from web.datasets.left_over import tell_clusters, tell_findings
from web.installation import Installation
from web.permissions import require_change


@dataclass(frozen=True)
class Wishes:
    """All that was chosen at once.

    Args:
        dataset_id: The dataset.
        version: Number of the version that the findings are about.
        choices: By the key of the finding.
        whole_kind: A kind of which all findings that are not accepted are meant, too.
        bulk: What becomes of those.
        keep: Which copy stays: `test` (in test, else validation, else the first),
            `first` or `none`.
        split: How all pictures are dealt anew, in the words of the ingest spec.
        key: The request's idempotency key.
        form: The form that it was filled into, to be shown again should the job fail.
    """

    dataset_id: int
    version: int
    choices: dict[str, Choice] = field(default_factory=dict)
    whole_kind: str | None = None
    bulk: Choice | None = None
    keep: str = KEEP_TEST
    split: dict[str, Any] | None = None
    key: str | None = None
    form: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Args:
        accepted: How many findings are not shown any more.
        passed_over: How many findings cannot have what was chosen for them, by why.
        left_in_test: How many test pictures a choice for many has left as they are.
        images: How many pictures each action is about, in the version that is made.
        added: The job that makes it; None when nothing but accepting was chosen.
        left: How many findings did not fit: they are there the next time.
        clusters: What is held together where the splits are dealt anew by likeness.
    """

    accepted: int
    passed_over: dict[str, int]
    left_in_test: int
    images: dict[str, int]
    added: Added | None
    left: int = 0
    clusters: Clusters | None = None

    @property
    def notes(self) -> list[str]:
        """What did not fit, in sentences."""
        return [*tell_findings(self.left), *tell_clusters(self.clusters)]


def decide_findings(here: Installation, account: Account, wishes: Wishes) -> Outcome:
    """Accepts what is to be accepted, and has one version made of all the rest.

    Both at once, or neither. Of findings that are accepted already nothing is said
    again. Of more pictures than one job carries the worst findings that fit are decided
    about, after those that were chosen one by one.

    Raises:
        UserError: When nothing is chosen, one picture is to get two labels, or no
            version could come of it.
        NotFoundError: When there is no such dataset, version or forecast.
        NotAllowedError: When the dataset is somebody else's.
        ConflictError: When there is a newer version, one is being made, or the newest
            forecast has no such finding. Then nothing is accepted either.
    """
    with here.database.reading() as session:
        dataset = dataset_store.get_dataset(session, wishes.dataset_id)
        require_change(account, dataset, "dataset")
        state = find_state(session, dataset.id, wishes.version)
        accepted = finding_decision_store.list_accepted(session, dataset.id)
    forecast = state.require()
    choices = _list_choices(here, forecast, accepted, wishes)
    classes = list(state.version.report.get("classes") or []) if state.version else []
    found = findings.resolve(here.storage, forecast, choices)
    found.sort(key=lambda one: one.key not in wishes.choices)  # else as they were
    plan = make_plan(found, choices, wishes.keep, classes, most=MAX_IMAGES)
    if not plan.accepted and _is_accepted_whole(here, forecast, wishes, choices):
        return Outcome(0, {}, 0, {}, None)  # the same form, sent twice
    _refuse_nothing(plan, wishes)
    decisions = gather(plan)
    split, clusters = wishes.split, None
    if split and split.get("by") == BY_DUPLICATES:
        fine = accepted | set(plan.accepted)
        clusters = find_clusters(here.storage, forecast, fine, most=MAX_IMAGES)
        split = {**split, "alike": clusters.held}
    kinds = {one.key: one.kind for one in found}
    done, added = _record(
        here, account, {key: kinds[key] for key in plan.accepted},
        Decisions(
            dataset.id, wishes.version, decisions, split,
            key=wishes.key, form=wishes.form,
        ),
    )  # fmt: skip
    return Outcome(
        accepted=done,
        passed_over=dict(plan.passed_over),
        left_in_test=len(plan.left_in_test - plan.fates.keys()),
        images=_count(decisions),
        added=added,
        left=plan.left,
        clusters=clusters,
    )


def _list_choices(
    here: Installation, forecast: Forecast, accepted: set[str], wishes: Wishes
) -> dict[str, Choice]:
    """Returns what was chosen for each finding, those of a whole kind among them."""
    if not wishes.whole_kind or not wishes.bulk:
        return dict(wishes.choices)
    kind = FindingKind(wishes.whole_kind)
    keys = findings.list_keys(here.storage, forecast, accepted, kind)
    return dict.fromkeys(keys, wishes.bulk) | wishes.choices


def _is_accepted_whole(
    here: Installation, forecast: Forecast, wishes: Wishes, choices: dict[str, Choice]
) -> bool:
    """Whether nothing but accepting a kind is wanted, and all of it is accepted."""
    if choices or wishes.split or not wishes.whole_kind or not wishes.bulk:
        return False
    kind = FindingKind(wishes.whole_kind)
    is_there = bool(findings.list_keys(here.storage, forecast, set(), kind))
    return wishes.bulk.action == ACCEPT and is_there


def _record(
    here: Installation, account: Account, fine: dict[str, str], wanted: Decisions
) -> tuple[int, Added | None]:
    """Accepts findings, by key and kind, in the transaction that queues the rest.

    Returns:
        How many had not been accepted before, and the job.
    """
    accepted = [0]

    def accept(session: Session) -> None:
        accepted[0] = finding_decision_store.accept(
            session, wanted.dataset_id, fine, actor=account.actor
        )

    if wanted.decisions or wanted.split:
        added = decide(here, account, wanted, also=accept)
        return accepted[0], added
    return accepted_findings.record(here, account, wanted.dataset_id, fine), None


def _refuse_nothing(plan: Plan, wishes: Wishes) -> None:
    if plan.accepted or plan.fates or wishes.split:
        return
    if plan.left:
        raise UserError(
            f"What you chose is about more than {MAX_IMAGES:,} pictures, and one "
            "version is decided about no more. Choose for fewer pictures at a time.",
            field="action",
        )
    if plan.left_in_test:
        raise UserError(
            "What you chose is about pictures of the test split alone, and what is "
            "chosen for many findings at once leaves those as they are: a test without "
            "what a model doubts tests nothing. Choose for each of them by itself.",
            field="action",
        )
    if plan.passed_over:
        raise UserError(
            "What you chose cannot be done about any of these findings: "
            f"{'; '.join(plan.passed_over)}.",
            field="action",
        )
    if wishes.whole_kind:
        raise UserError(
            "There are no findings of this kind that are not accepted.", field="kind"
        )
    raise UserError(
        "Nothing is chosen. Tick findings and say what is to become of them.",
        field="action",
    )


def _count(decisions: list[Decision]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for decision in decisions:
        counts[decision.action] += len(decision.images)
    return dict(counts)
