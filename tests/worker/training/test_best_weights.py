import math

import pytest

from shared.presets import build_training_spec
from worker.training.best_weights import BestWeights
from worker.training.training_state import TrainingState


def make(**overrides):
    state = TrainingState()
    spec = build_training_spec(overrides={"early_stopping_patience": 2, **overrides})
    return BestWeights(spec, state, []), state


def end_epochs(best, state, values, monitor="val_loss"):
    for value in values:
        state.step += 10
        state.epoch += 1
        best.end_epoch({monitor: value}, lambda: [f"weights at {state.step}"])


def test_the_lowest_loss_wins_and_remembers_where_it_was():
    best, state = make()

    end_epochs(best, state, [0.5, 0.3, 0.4])

    assert best.weights == ["weights at 20"]
    assert (state.best.epoch, state.best.step, state.best.value) == (1, 20, 0.3)


def test_the_highest_accuracy_wins():
    best, state = make(monitor="val_accuracy")

    end_epochs(best, state, [0.5, 0.7, 0.6], "val_accuracy")

    assert state.best.value == 0.7


def test_a_later_phase_that_hurts_leaves_the_best_alone():
    best, state = make()
    end_epochs(best, state, [0.3])
    state.enter("fine_tune")

    end_epochs(best, state, [0.4, 0.35])

    assert best.weights == ["weights at 10"]
    assert state.best.phase == "frozen"
    assert not best.waited_long_enough, "the phase itself was still improving"


def test_a_phase_ends_after_its_patience():
    best, state = make()

    end_epochs(best, state, [0.3, 0.4])
    assert not best.waited_long_enough
    end_epochs(best, state, [0.4])

    assert best.waited_long_enough


def test_without_patience_no_phase_ends_early():
    best, state = make(early_stopping_patience=None)

    end_epochs(best, state, [0.1] + [0.2] * 50)

    assert not best.waited_long_enough


def test_with_save_best_only_off_the_newest_weights_are_taken():
    best, state = make(save_best_only=False)

    end_epochs(best, state, [0.3, 0.4])

    assert best.weights == ["weights at 20"]
    assert state.best.value == 0.4
    assert state.waited_epochs == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_never_the_best(value):
    best, state = make()

    end_epochs(best, state, [value])

    assert state.best is None


def test_a_plateau_is_as_many_epochs_without_improvement_each_time():
    best, state = make(learning_rate_schedule="plateau", plateau_patience=2)
    cuts = []

    for value in [0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.6, 0.6]:
        end_epochs(best, state, [value])
        cuts.append(best.is_on_plateau)

    # Where Keras's ReduceLROnPlateau(patience=2, min_delta=0) cuts, too.
    assert cuts == [False, False, True, False, True, False, False, True]


def test_another_schedule_never_waits_for_a_plateau():
    best, state = make(plateau_patience=1)

    end_epochs(best, state, [0.5, 0.6])

    assert not best.is_on_plateau
