"""What a resume needs survives JSON, also in the middle of an epoch."""

import json

from worker.training.training_state import TrainingState


def test_the_waiting_of_half_an_epoch_is_not_lost_to_a_resume():
    state = TrainingState()
    state.add_batch({"loss": 1.0}, images=4)
    state.epoch_seconds |= {"waited": 1.25, "spent": 10.5}

    resumed = TrainingState.from_json(json.loads(json.dumps(state.to_json())))
    resumed.epoch_seconds["waited"] += 0.5

    assert resumed.take_epoch_seconds() == {"waited": 1.75, "spent": 10.5}
    assert resumed.epoch_seconds == {}


def test_a_phase_starts_with_no_waiting():
    state = TrainingState(epoch_seconds={"waited": 1.0, "spent": 2.0})

    state.enter("fine_tune")

    assert state.epoch_seconds == {}
