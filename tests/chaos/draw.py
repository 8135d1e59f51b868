"""Draws the faults of a campaign from its seed: which rows, where, in which order."""

import random
from dataclasses import dataclass, field

from tests.chaos.arena import POSTGRES, SQLITE
from tests.chaos.matrix import ROWS
from tests.chaos.records import KERAS, TOY

BATCH_FAULTS = 12
# The real engine takes ten times as long: it gets this share of what either can take,
# which makes more than a tenth of all faults.
ENGINE_SHARE = 0.6
LARGEST_SEED = 2**31


@dataclass
class Batch:
    """What one arena gets.

    Args:
        kind: Of its database.
        engine: `toy` or `keras`.
        faults: (number of the row, seed of the fault), in order.
    """

    kind: str
    engine: str
    faults: list[tuple[int, int]] = field(default_factory=list)


def draw_rows(count, rng, rows=None):
    """Returns `count` numbers of rows: all of them in turn, each turn in its own order.

    So any 46 of them or more hold every row, and no row is drawn much more often than
    another.
    """
    drawn = []
    while len(drawn) < count:
        turn = sorted(rows or ROWS)
        rng.shuffle(turn)
        drawn += turn
    return drawn[:count]


def draw_batches(count, seed, rows=None, engine=None):
    """Returns the batches of a campaign.

    Each fault goes to a kind of database and an engine that its row can do with; the
    real engine gets at least a tenth of all faults where the rows allow it.

    Args:
        count: Faults.
        seed: Decides everything.
        rows: Numbers to draw from. Defaults to all.
        engine: The only trainer to inject into. Defaults to both.
    """
    rng = random.Random(seed)
    gathered = {}
    for number in draw_rows(count, rng, rows):
        row = ROWS[number]
        kind = rng.choice(row.kinds)
        trainer = engine or _draw_engine(row.engines, rng)
        fault = number, rng.randrange(LARGEST_SEED)
        gathered.setdefault((kind, trainer), []).append(fault)
    batches = []
    for kind in (POSTGRES, SQLITE):
        for trainer in (KERAS, TOY):
            faults = gathered.get((kind, trainer), [])
            size = BATCH_FAULTS if trainer == TOY else BATCH_FAULTS // 2
            batches += [
                Batch(kind, trainer, faults[at : at + size])
                for at in range(0, len(faults), size)
            ]
    # The slow ones first, so that none of them is left over at the end.
    return sorted(batches, key=lambda batch: batch.engine == TOY)


def _draw_engine(engines, rng):
    if len(engines) == 1:
        return engines[0]
    return KERAS if rng.random() < ENGINE_SHARE else TOY
