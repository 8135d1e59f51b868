import numpy as np
import pytest

from worker.insight.independence import (
    measure_design_effect,
    tell_interval,
    transfer_design_effect,
)


def _width(right: np.ndarray, groups: np.ndarray | None) -> float:
    low, high = tell_interval(right, groups)
    return high - low


@pytest.mark.parametrize("share", [0, 1])
def test_groups_that_are_all_alike_are_one_observation_each(share):
    right, patients = np.full(1000, share, bool), np.arange(1000) // 50

    effect = measure_design_effect(right, patients)

    assert effect == pytest.approx(50)
    assert _width(right, patients) > 10 * _width(right, None)
    assert transfer_design_effect(effect, patients, np.arange(60) // 20) == 20


def test_pictures_that_are_alone_count_in_full_where_all_are_right():
    right = np.ones(100, bool)

    assert measure_design_effect(right, np.arange(100)) == 1
    in_pairs = np.append(np.arange(90), np.arange(10))  # twenty of them
    assert measure_design_effect(right, in_pairs) == pytest.approx(1.2)
