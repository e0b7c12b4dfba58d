import numpy as np
import pytest

from jepa.evaluation.world_model_card.response import measure_response
from jepa.evaluation.world_model_card.rollouts import copy_errors


def test_the_response_of_a_linear_world_is_its_input_matrix(toys):
    push = ((1.0, -2.0), (0.0, 0.5))
    found = measure_response(toys.world(decay=0.7, push=push), toys.windows(decay=0.7))
    assert found.matrix[:, 0] == pytest.approx(np.array(push), abs=1e-5)  # one token
    assert [part.value for part in found.per_unit] == pytest.approx(
        [2.5**0.5, 0.125**0.5], rel=1e-5
    )
    assert all(part.high - part.low < 1e-5 for part in found.per_unit)  # the same everywhere


def test_a_share_of_a_step_is_the_response_to_a_typical_action(toys):
    windows, model = toys.windows(), toys.world()
    found = measure_response(model, windows)
    step = copy_errors(model, windows)[:, 0].mean()
    std = windows.actions.flatten(0, 1).std(0, correction=0)
    assert found.action_std == pytest.approx(std.tolist())
    expected = 0.5**0.5 * std / step
    assert [s.value for s in found.share_of_step] == pytest.approx(expected.tolist(), rel=1e-4)
    assert found.step_distance.value == pytest.approx(step)


def test_a_dimension_that_does_nothing_is_called_dead(toys):
    found = measure_response(toys.world(push=((1.0, 0.0), (0.0, 0.0))), toys.windows())
    assert found.dead == ("dy",)


def test_a_dimension_that_is_never_used_is_still_moved(toys):
    windows = toys.windows()
    windows.actions[..., 1] = 0.25
    found = measure_response(toys.world(push=((1.0, 0.0), (0.0, 3.0))), windows)
    assert found.matrix[1, 0] == pytest.approx([0.0, 3.0], abs=1e-5)
    assert found.share_of_step[1] == (0.0, 0.0, 0.0)
