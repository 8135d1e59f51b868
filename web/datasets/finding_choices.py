"""What users choose for findings: accepted at once, or part of one new version.

Trace: keys of findings -> their pictures -> one fate for each picture -> one ingest job
(`decisions`). The version that the findings are about is never changed.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shared import dataset_store, finding_decision_store
from shared.errors import UserError
from shared.forecast_tables import Forecast
from web.auth.datastore import Account
from web.datasets import accepted_findings, findings
from web.datasets.add import Added
from web.datasets.decisions import MAX_IMAGES, Decision, Decisions, decide
from web.datasets.findings import FindingKind, Resolved
from web.datasets.forecast_view import find_state
from web.installation import Installation
from web.permissions import require_change

ACCEPT, RELABEL, EXCLUDE, QUARANTINE = "accept", "relabel", "exclude", "quarantine"
ACTIONS = (ACCEPT, RELABEL, EXCLUDE, QUARANTINE)
KEEP_TEST, KEEP_FIRST, KEEP_NONE = "test", "first", "none"
# Of pictures that show the same one may stay.
COPIES = frozenset({FindingKind.NEAR_DUPLICATE, FindingKind.SPLIT_LEAK})
# Their pictures only show what is meant: there is nothing wrong with them.
_EXAMPLES = frozenset(
    {FindingKind.GROUP_LEAK, FindingKind.IMBALANCE, FindingKind.EXACT_DUPLICATE}
)
# What dealing the splits anew may mend.
DEALT = (FindingKind.SPLIT_LEAK, FindingKind.NEAR_DUPLICATE, FindingKind.GROUP_LEAK)
TEST = "test"
# A new test split would make all that was measured so far incomparable: a copy in it
# stays where it is.
_KEPT_SPLITS = ("test", "val")
# Of two fates of one picture the stronger holds.
_STRENGTH = {RELABEL: 0, QUARANTINE: 1, EXCLUDE: 2}
WORDS = {
    FindingKind.LABEL_CONFLICT: "Same picture, different labels",
    FindingKind.SPLIT_LEAK: "Leaks between splits",
    FindingKind.NEAR_DUPLICATE: "Near duplicates",
    FindingKind.EXACT_DUPLICATE: "Copies left out",
    FindingKind.SUSPECT_LABEL: "Doubtful labels",
    FindingKind.OUTLIER: "Unlike all others",
    FindingKind.TOO_SMALL: "Too small",
    FindingKind.TOO_DARK: "Too dark",
    FindingKind.TOO_BRIGHT: "Too bright",
    FindingKind.BLURRED: "Blurred",
    FindingKind.IMBALANCE: "Small classes",
    FindingKind.GROUP_LEAK: "Groups in several splits",
    FindingKind.UNREADABLE: "Unreadable files",
}


@dataclass(frozen=True)
class Choice:
    """What is to become of one finding.

    Args:
        action: One of `ACTIONS`.
        label: Of `relabel`; None for the label that the doctor suggests.
        is_bulk: Whether it was chosen for many findings at once. Then it leaves test
            pictures as they are: a test without what a model doubts tests nothing.
    """

    action: str
    label: str | None = None
    is_bulk: bool = False


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
    """

    dataset_id: int
    version: int
    choices: dict[str, Choice] = field(default_factory=dict)
    whole_kind: str | None = None
    bulk: Choice | None = None
    keep: str = KEEP_TEST
    split: dict[str, Any] | None = None
    key: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Args:
        accepted: How many findings are not shown any more.
        passed_over: How many findings cannot have what was chosen for them.
        left_in_test: How many test pictures a choice for many has left as they are.
        images: How many pictures each action is about, in the version that is made.
        added: The job that makes it; None when nothing but accepting was chosen.
    """

    accepted: int
    passed_over: int
    left_in_test: int
    images: dict[str, int]
    added: Added | None


@dataclass
class _Plan:
    accepted: list[str] = field(default_factory=list)
    passed_over: int = 0
    left_in_test: set[str] = field(default_factory=set)
    fates: dict[str, Decision] = field(default_factory=dict)  # by picture


def list_actions(kind: str, pictures: int) -> tuple[str, ...]:
    """Returns what can be done about a finding, beside accepting it.

    Args:
        kind: A value of `FindingKind`.
        pictures: How many it is about that are pictures of the version.
    """
    if not pictures or kind in _EXAMPLES:
        return ()
    if kind in COPIES:
        return (EXCLUDE, QUARANTINE)
    if kind == FindingKind.LABEL_CONFLICT and pictures == 1:
        return (RELABEL, EXCLUDE)  # it is in quarantine already
    return (RELABEL, EXCLUDE, QUARANTINE)


def decide_findings(here: Installation, account: Account, wishes: Wishes) -> Outcome:
    """Accepts what is to be accepted, and has one version made of all the rest.

    Raises:
        UserError: When nothing is chosen, or one picture is to get two labels.
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
    choices = dict(wishes.choices)
    if wishes.whole_kind and wishes.bulk:
        keys = findings.list_keys(
            here.storage, forecast, accepted, FindingKind(wishes.whole_kind)
        )
        choices = dict.fromkeys(keys, wishes.bulk) | choices
    classes = list(state.version.report.get("classes") or []) if state.version else []
    found = findings.resolve(here.storage, forecast, choices)
    plan = _make_plan(found, choices, wishes.keep, classes)
    _refuse_nothing(plan, wishes)
    decisions = _gather(plan)
    added = None
    if decisions or wishes.split:
        fine = accepted | set(plan.accepted)
        split = _add_clusters(here, forecast, wishes.split, fine)
        wanted = Decisions(dataset.id, wishes.version, decisions, split, wishes.key)
        added = decide(here, account, wanted)
    done = 0
    if plan.accepted:
        kinds = {one.key: one.kind for one in found}
        done = accepted_findings.record(
            here, account, dataset.id, {key: kinds[key] for key in plan.accepted}
        )
    return Outcome(
        accepted=done,
        passed_over=plan.passed_over,
        left_in_test=len(plan.left_in_test - plan.fates.keys()),
        images=_count(decisions),
        added=added,
    )


def _add_clusters(
    here: Installation,
    forecast: Forecast,
    split: dict[str, Any] | None,
    accepted: set[str],
) -> dict[str, Any] | None:
    """Has copies that were found held together, beside those that ingest finds."""
    if not split or split.get("by") != "duplicates":
        return split
    alike = findings.list_clusters(here.storage, forecast, accepted, most=MAX_IMAGES)
    return {**split, "alike": alike}


def _make_plan(
    found: Iterable[Resolved], choices: dict[str, Choice], keep: str, classes: list[str]
) -> _Plan:
    plan = _Plan()
    for finding in found:
        choice = choices[finding.key]
        label = choice.label or finding.suggested_label
        if choice.action == ACCEPT:
            plan.accepted.append(finding.key)
        elif choice.action not in list_actions(finding.kind, len(finding.images)):
            plan.passed_over += 1
        elif choice.action != RELABEL:
            reason = WORDS[FindingKind(finding.kind)]
            for image in _list_going(plan, finding, choice, keep):
                _add_fate(plan, Decision(choice.action, [image], reason=reason), "")
        elif label is None:
            plan.passed_over += 1
        else:
            _refuse_unknown(label, [*classes, *finding.labels])
            names = dict(zip(finding.images, finding.names, strict=False))
            for image in _leave_test(plan, finding, choice, finding.images):
                _add_fate(plan, Decision(RELABEL, [image], label=label), names[image])
    return plan


def _list_going(plan: _Plan, finding: Resolved, choice: Choice, keep: str) -> list[str]:
    """Returns the pictures that an action takes out: of copies, all but one."""
    going = finding.images
    if finding.kind in COPIES and keep != KEEP_NONE:
        kept = [s for s in _KEPT_SPLITS if s in finding.splits]
        is_test_kept = keep == KEEP_TEST and kept
        staying = finding.splits.index(kept[0]) if is_test_kept else 0
        going = [image for at, image in enumerate(finding.images) if at != staying]
    return _leave_test(plan, finding, choice, going)


def _leave_test(
    plan: _Plan, finding: Resolved, choice: Choice, images: list[str]
) -> list[str]:
    """Returns `images`; of a choice for many findings, those outside the test split."""
    if not choice.is_bulk:
        return images
    split_of = dict(zip(finding.images, finding.splits, strict=False))
    left = {image for image in images if split_of.get(image) == TEST}
    plan.left_in_test |= left
    return [image for image in images if image not in left]


def _add_fate(plan: _Plan, fate: Decision, name: str) -> None:
    image = fate.images[0]
    other = plan.fates.get(image)
    if other and other.action == fate.action == RELABEL and other.label != fate.label:
        raise UserError(
            f"{name} is to become both “{other.label}” and “{fate.label}”: it is in "
            "two of the findings that you chose. Choose one label for it.",
            field="label",
        )
    if other is None or _STRENGTH[fate.action] > _STRENGTH[other.action]:
        plan.fates[image] = fate


def _refuse_unknown(label: str, known: list[str]) -> None:
    if label not in known:
        raise UserError(
            f"This dataset has no class {label!r}. Choose one of its classes.",
            field="label",
        )


def _refuse_nothing(plan: _Plan, wishes: Wishes) -> None:
    if plan.accepted or plan.fates or wishes.split:
        return
    if plan.left_in_test:
        raise UserError(
            "What you chose is about pictures of the test split alone, and what is "
            "chosen for many findings at once leaves those as they are: a test without "
            "what a model doubts tests nothing. Choose for each of them by itself.",
            field="action",
        )
    if plan.passed_over:
        raise UserError(
            "What you chose cannot be done about any of these findings: they are about "
            "no picture of this version, or no label is suggested for them.",
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


def _gather(plan: _Plan) -> list[Decision]:
    """Returns one decision for all pictures that have the same fate."""
    images: dict[tuple[str, str | None, str | None], list[str]] = defaultdict(list)
    for image, fate in plan.fates.items():
        images[fate.action, fate.label, fate.reason].append(image)
    return [
        Decision(action, those, label=label, reason=reason)
        for (action, label, reason), those in images.items()
    ]


def _count(decisions: list[Decision]) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for decision in decisions:
        counts[decision.action] += len(decision.images)
    return dict(counts)
