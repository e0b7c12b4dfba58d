import numpy as np
import pytest
import torch.nn.functional as F

from jepa.evaluation.report.charts import DARK, LIGHT
from jepa.evaluation.report.energy import (
    RecordedSituation,
    Situation,
    energy_chart,
    energy_section,
    recorded_situations,
)
from jepa.evaluation.report.section import NotMeasured
from planning import latent_world
from planning.landscape import Landscape
from planning.types import Latent


def landscape(costs):
    axis = np.linspace(-1, 1, len(costs))
    frame = np.zeros((4, 4, 3), np.uint8)
    return Landscape(costs, axis, axis, ("dx", "dy"), ("m", "m"), 1, 1.0, 1.0, None, frame, frame)


def bowl(x, y, n=5):
    axis = np.linspace(-1, 1, n)
    return np.hypot(axis[None] - x, axis[:, None] - y)


def test_an_action_in_the_middle_of_the_bowl_has_nothing_below_it():
    situation = Situation(landscape(bowl(0.5, -0.5)), np.array([0.5, -0.5]))
    assert situation.share_below == 0
    assert situation.angle_degrees == pytest.approx(0, abs=1e-4)


def test_an_action_at_the_far_corner_has_all_below_it():
    situation = Situation(landscape(bowl(-1, -1)), np.array([1.0, 1.0]))
    assert situation.share_below == 1
    assert situation.angle_degrees == pytest.approx(180)


def test_a_flat_landscape_is_as_good_as_chance():
    assert Situation(landscape(np.ones((5, 5))), np.array([0.3, 0.0])).share_below == 0.5


def test_rows_are_the_second_dimension():
    costs = np.ones((5, 5))
    costs[4, 0] = 0  # second = 1, first = -1
    assert Situation(landscape(costs), np.array([-1.0, 1.0])).share_below == 0
    assert Situation(landscape(costs), np.array([1.0, -1.0])).share_below > 0.5


def test_no_angle_where_nothing_was_done():
    assert Situation(landscape(bowl(0.5, 0)), np.zeros(2)).angle_degrees is None


def test_an_exact_world_finds_the_action_that_was_done(world_subject, world_clips, monkeypatch):
    """The landscape of a world whose next latent is the action itself, through the real planner."""
    model, windows = world_subject.model, world_clips.windows
    target = windows.actions[0, 0]
    monkeypatch.setattr(
        type(model.latents), "distance",
        lambda self, latents, goal: (latents[..., :2] - target).norm(dim=-1).mean(-1),
    )  # fmt: skip
    monkeypatch.setattr(
        latent_world.LatentWorld, "rollout",
        lambda self, start, actions, memory=None: Latent(
            F.pad(actions.cumsum(1), (0, 46))[..., None, :].expand(-1, -1, 16, -1), None
        ),
    )  # fmt: skip
    first = recorded_situations(world_subject, world_clips)[0]
    assert np.allclose(first.action, target)
    assert first.share_below <= 2 / 17**2  # nearest cells of the grid


def test_the_section_of_an_untrained_world_is_made_and_does_not_boast(world_subject, world_clips):
    section = energy_section(world_subject, world_clips)
    low, high = section.numbers["share_below_true_action"][1:]
    assert 0 <= low <= high <= 1 and section.numbers["situations"] == 10
    assert section.html.count("<picture>") == 3


def test_the_goal_is_the_frame_that_came_next(world_subject, world_clips):
    situations = recorded_situations(world_subject, world_clips)
    frames = world_clips.windows.frames.permute(0, 2, 3, 4, 1).numpy()
    assert (situations[4].landscape.goal_frame == frames[4, 1]).all()
    assert (situations[4].landscape.start_frame == frames[4, 0]).all()


def test_charts_differ_by_theme():
    situation = Situation(landscape(bowl(0.2, 0.1)), np.array([0.5, -0.5]))
    assert energy_chart(situation, theme=LIGHT) != energy_chart(situation, theme=DARK)
    flat = Situation(landscape(np.ones((5, 5))), np.zeros(2))
    assert energy_chart(flat, theme=LIGHT)


def test_an_encoder_has_no_energy(predictor_subject, world_clips):
    with pytest.raises(NotMeasured, match="imagines no actions"):
        energy_section(predictor_subject, world_clips)


def test_a_recorded_situation_says_what_actions_are(world_clips):
    frame = np.zeros((4, 4, 3), np.uint8)
    situation = RecordedSituation(world_clips.specification, frame, np.zeros(2))
    assert situation.action_spec.names == tuple(world_clips.specification.action_names)
    assert situation.goal.frame is frame
