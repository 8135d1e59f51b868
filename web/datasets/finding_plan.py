"""What becomes of which picture, by what was chosen for the findings that it is in."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from shared.edit_actions import ACCEPT, EXCLUDE, QUARANTINE, RELABEL
from shared.errors import UserError
from web.datasets.decision import Decision
from web.datasets.findings import FindingKind, Resolved

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

# Why findings cannot have what was chosen for them, after "are passed over: ".
NO_PICTURE = "no picture of this version is concerned"
NO_LABEL = "no label is suggested"
ONLY_DEALT = "only dealing the splits anew brings a group into one split"
ONLY_OUT = "copies can be excluded or put into quarantine, not relabelled"
IS_ASIDE = "what is in quarantine already stays there"


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


@dataclass
class Plan:
    """What becomes of which picture, and of findings that have none.

    Args:
        accepted: Keys of findings that are fine.
        passed_over: How many findings cannot have what was chosen for them, by why.
        left_in_test: Test pictures that a choice for many has left as they are.
        left: How many findings did not fit, and are left for another time.
        fates: By picture.
    """

    accepted: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    left_in_test: set[str] = field(default_factory=set)
    left: int = 0
    fates: dict[str, Decision] = field(default_factory=dict)


@dataclass(frozen=True)
class _Going:
    """Of one finding the pictures that an action is about, and those it leaves."""

    images: list[str]
    left_in_test: set[str]


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


def make_plan(
    found: Iterable[Resolved],
    choices: dict[str, Choice],
    keep: str,
    classes: list[str],
    *,
    most: int,
) -> Plan:
    """Returns what becomes of which picture.

    Args:
        found: The findings that something was chosen for, the most important first.
        choices: By the key of the finding.
        keep: Which of several copies stays: one of `KEEP_TEST`, `KEEP_FIRST` and
            `KEEP_NONE`.
        classes: All of the version.
        most: Pictures in all. A finding is planned whole or left for another time.

    Raises:
        UserError: When one picture is to get two labels, or one that is no class.
    """
    plan = Plan()
    for finding in found:
        choice = choices[finding.key]
        label = choice.label or finding.suggested_label
        obstacle = _find_obstacle(finding, choice.action, label)
        if choice.action == ACCEPT:
            plan.accepted.append(finding.key)
        elif obstacle:
            plan.passed_over[obstacle] += 1
        elif choice.action != RELABEL or label is None:
            reason = WORDS[FindingKind(finding.kind)]
            fate = Decision(choice.action, [], reason=reason)
            _add(plan, finding, fate, _list_going(finding, choice, keep), most)
        else:
            _refuse_unknown(label, [*classes, *finding.labels])
            fate = Decision(RELABEL, [], label=label)
            going = _leave_test(finding, choice, finding.images)
            _add(plan, finding, fate, going, most)
    return plan


def gather(plan: Plan) -> list[Decision]:
    """Returns one decision for all pictures that have the same fate."""
    images: dict[tuple[str, str | None, str | None], list[str]] = defaultdict(list)
    for image, fate in plan.fates.items():
        images[fate.action, fate.label, fate.reason].append(image)
    return [
        Decision(action, those, label=label, reason=reason)
        for (action, label, reason), those in images.items()
    ]


def _find_obstacle(finding: Resolved, action: str, label: str | None) -> str | None:
    """Returns why an action cannot be taken on a finding; None where it can."""
    if action in list_actions(finding.kind, len(finding.images)):
        return NO_LABEL if action == RELABEL and label is None else None
    if finding.kind == FindingKind.GROUP_LEAK:
        return ONLY_DEALT
    if not finding.images or finding.kind in _EXAMPLES:
        return NO_PICTURE
    return ONLY_OUT if finding.kind in COPIES else IS_ASIDE


def _list_going(finding: Resolved, choice: Choice, keep: str) -> _Going:
    """Returns the pictures that an action takes out: of copies, all but one.

    Of copies one of which a choice for many leaves in the test split, that one is the
    one that stays: beside another the test would still have been learnt by heart.
    """
    going = finding.images
    if finding.kind in COPIES and keep != KEEP_NONE:
        kept = [s for s in _KEPT_SPLITS if s in finding.splits]
        is_test_kept = keep == KEEP_TEST and kept
        staying = finding.splits.index(kept[0]) if is_test_kept else 0
        going = [image for at, image in enumerate(finding.images) if at != staying]
    found = _leave_test(finding, choice, going)
    if finding.kind in COPIES and choice.is_bulk and TEST in finding.splits:
        return _Going(_list_outside_test(finding), found.left_in_test)
    return found


def _leave_test(finding: Resolved, choice: Choice, images: list[str]) -> _Going:
    """Returns `images`; of a choice for many findings, those outside the test split."""
    if not choice.is_bulk:
        return _Going(images, set())
    outside = set(_list_outside_test(finding))
    return _Going(
        [image for image in images if image in outside], set(images) - outside
    )


def _list_outside_test(finding: Resolved) -> list[str]:
    split_of = dict(zip(finding.images, finding.splits, strict=False))
    return [image for image in finding.images if split_of.get(image) != TEST]


def _add(
    plan: Plan, finding: Resolved, fate: Decision, going: _Going, most: int
) -> None:
    """Plans a finding if all its pictures fit, else leaves it for another time."""
    fresh = sum(image not in plan.fates for image in going.images)
    if len(plan.fates) + fresh > most:
        plan.left += 1
        return
    plan.left_in_test |= going.left_in_test
    names = dict(zip(finding.images, finding.names, strict=False))
    for image in going.images:
        _add_fate(plan, replace(fate, images=[image]), names.get(image, ""))


def _add_fate(plan: Plan, fate: Decision, name: str) -> None:
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
