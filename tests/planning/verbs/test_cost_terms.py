"""What a plan costs, through the real command line: each term against its value by hand."""

import json

import numpy as np
import pytest
import torch

from jepa.models.dynamics import GRU, Ensemble
from planning.__main__ import main as jepa_plan_main
from planning.actions.space import ActionSpec, ActionSteps
from planning.costs import L1, Cosine, Disagreement, LatentBank
from planning.environments.two_rooms import TwoRooms
from planning.latent_world import LatentWorld
from planning.verbs.cost_terms import action_term, periods_of

TO = ("--goal-state", "52,20", "--max-steps", 2, "--execute", 2, "--no-pictures")
DISAGREE = ("--cost-term", "disagreement=4")
SMALL = ("--planner", "random_shooting", "--set", "num_samples=24", "--horizon", 4)


@pytest.fixture
def planned(jepa_plan):
    """Runs; returns the log, its first plan, and what the first plan's actions lead to."""

    def run(*options, world, **more):
        code, printed, errors = jepa_plan("run", *TO, *SMALL, *options, world=world, **more)
        assert (code, errors) == (1, []), errors
        log = json.loads((jepa_plan.out / "log.json").read_text())
        model, start = LatentWorld.load(world), np.array([12.0, 50.0])
        shown = TwoRooms().render(start)
        now = model.encode(shown, start.astype(np.float32))
        actions = torch.tensor(log["plans"][0]["actions"])[None]
        with torch.no_grad():
            imagined = model.rollout(now, actions)
        goal = model.encode(TwoRooms().render(np.array([52.0, 20.0])))
        return Planned(log, log["plans"][0], model, actions, imagined, goal, printed)

    return run


class Planned:
    def __init__(self, log, plan, model, actions, imagined, goal, printed):
        self.log, self.plan, self.model, self.printed = log, plan, model, printed
        self.actions, self.imagined, self.goal = actions, imagined, goal

    @property
    def states(self):
        """(horizon, 2), where the plan leads to in the imagination, in pixels."""
        return self.model.state_units.raw(self.imagined.state)[0]

    @property
    def terms(self):
        return self.log["settings"]["cost"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    assert jepa_plan_main(["record", str(folder), "--episodes", "6", "--steps", "12"]) == 0
    return folder


def test_without_terms_a_plan_costs_the_worlds_own_distance_over_the_steps(planned, checkpoint):
    it = planned(world=checkpoint)
    distances = it.model.distance(it.imagined.tokens, it.goal.tokens)[0]
    assert it.plan["cost"] == pytest.approx(distances.mean().item(), rel=1e-5)
    assert it.plan["cost_parts"] == {}
    assert it.terms == {
        "goal": {"weight": 1.0, "distance": "own", "is_pooled": False, "reduction": "mean"}
    }


@pytest.mark.parametrize(
    ("options", "distance", "shares"),
    [
        (["--distance", "l1"], L1(), [0.25] * 4),
        (["--distance", "l1", "--pooled", "--cost", "last"], L1(is_pooled=True), [0, 0, 0, 1]),
        (["--distance", "cosine", "--discount", "0.5"], Cosine(), np.array([8, 4, 2, 1]) / 15),
    ],
)
def test_other_distances_and_other_means_over_the_steps(
    planned, checkpoint, options, distance, shares
):
    it = planned(*options, world=checkpoint)
    distances = distance(it.imagined.tokens, it.goal.tokens)[0].numpy()
    assert it.plan["cost"] == pytest.approx(float(distances @ np.array(shares)), rel=1e-4)


def test_terms_of_actions_are_weighted_means_of_squares_in_half_ranges(planned, checkpoint):
    it = planned(
        "--cost-term", "goal=2", "--cost-term", "action_size=0.5", "--cost-term",
        "action-change=0.25", "--cost-term", "action_jerk=0.125", world=checkpoint,
    )  # fmt: skip
    actions, parts = it.actions[0] / 5, it.plan["cost_parts"]  # a step is at most 5 pixels
    assert parts["action_size"] == pytest.approx(0.5 * actions.square().mean().item(), rel=1e-5)
    change, jerk = actions.diff(dim=0), actions.diff(n=2, dim=0)
    assert parts["action_change"] == pytest.approx(0.25 * change.square().mean().item(), rel=1e-5)
    assert parts["action_jerk"] == pytest.approx(0.125 * jerk.square().mean().item(), rel=1e-5)
    assert parts["goal"] == pytest.approx(2 * np.mean(it.plan["imagined_distances"]), rel=1e-5)
    assert it.plan["cost"] == pytest.approx(sum(parts.values()), rel=1e-5)
    assert [it.terms[name]["weight"] for name in parts] == [2.0, 0.5, 0.25, 0.125]
    assert it.terms["action_size"]["cost"] == {"class": "ActionSize", "scale": [5.0, 5.0]}


@pytest.mark.parametrize("way", ["one_after_the_other", "repeated"])
def test_where_an_action_spans_several_steps_the_steps_are_what_changes(way):
    spec = ActionSpec(("dx", "dy"), ("m", "m"), (-2.0, -1.0), (2.0, 1.0))
    joined = ActionSteps(2, way).joined(spec)
    term = action_term("action_change", joined)
    first, second, third = [1.0, 0.0], [0.0, 0.5], [2.0, 0.5]
    if way == "repeated":
        actions = torch.tensor([[first, second, third]])
    else:
        actions = torch.tensor([[first + second, third + third]])  # four steps in two actions
    changes = [(0.5**2 + 0.5**2) / 2, (1.0**2 + 0.0) / 2]  # in half-ranges of 2 and 1
    changes += [0.0] if way == "one_after_the_other" else []
    assert term(None, actions).item() == pytest.approx(np.mean(changes))


def test_who_pays_for_actions_plans_smaller_ones(planned, checkpoint):
    free, thrifty = (
        planned(*options, world=checkpoint).actions.square().mean().item()
        for options in ((), ("--cost-term", "action_size=100"))
    )
    assert thrifty < 0.25 * free


def test_the_distance_of_imagined_states_is_in_standard_deviations(planned, checkpoint):
    it = planned("--cost-term", "state_distance=0.1", world=checkpoint)
    goal = (torch.tensor([52.0, 20.0]) - torch.tensor([32.0, 32.0])) / torch.tensor([18.0, 19.0])
    expected = 0.1 * (it.imagined.state[0] - goal).abs().mean().item()
    assert it.plan["cost_parts"]["state_distance"] == pytest.approx(expected, rel=1e-4)


def test_angles_come_round_and_places_do_not():
    periods = periods_of(("pixel", "radian", "degree", "metre/second")).tolist()
    assert periods == [float("inf"), pytest.approx(2 * np.pi), 360.0, float("inf")]


# Regions.


def box_around(place, half):
    return ",".join(f"{n}={v - half:.6f}:{v + half:.6f}" for n, v in zip("xy", place, strict=True))


def is_inside(states, place, half):
    return ((states - torch.tensor(place)).abs() <= half).all(-1).any().item()


def test_a_plan_stays_out_of_a_region_that_the_free_plan_enters(planned, checkpoint):
    free = planned(world=checkpoint)
    place, half = free.states[-1].tolist(), 0.002  # an untrained world moves its states by little
    it = planned("--keep-out", box_around(place, half), world=checkpoint)
    assert is_inside(free.states, place, half) and not is_inside(it.states, place, half)
    assert it.plan["num_ruled_out"] > 0
    (region,) = it.terms["keep_out"]["terms"]["x,y"][1]["regions"]
    assert region["class"] == "Box" and region["low"] == pytest.approx(np.array(place) - half)


def test_a_region_with_a_weight_is_dear_and_not_forbidden(planned, checkpoint):
    place = planned(world=checkpoint).states[-1].tolist()
    disc = f"x={place[0]},y={place[1]},radius=30"  # nothing is outside
    it = planned("--keep-out", disc, "--cost-term", "keep_out=0.5", world=checkpoint)
    depth = 30 - (it.states - torch.tensor(place)).norm(dim=-1)
    expected = 0.5 * depth.clamp_min(0).mean().item()
    assert it.plan["cost_parts"]["keep_out"] == pytest.approx(expected, rel=1e-4)
    assert it.plan["num_ruled_out"] == 0


def test_a_workspace_that_all_plans_leave_is_told_in_one_line(jepa_plan):
    code, _, (error,) = jepa_plan("run", *TO, *SMALL, "--workspace", "x=50:60", "--margin", 1)
    assert code == 2 and "constraints rule out every sequence; loosen them" in error


def test_a_weight_of_zero_leaves_a_region_out(planned, checkpoint):
    it = planned("--workspace", "x=50:60", "--cost-term", "workspace=0", world=checkpoint)
    assert it.plan["num_ruled_out"] == 0


# What is known.


def test_what_is_unlike_the_recordings_costs_and_the_bank_can_be_used_again(
    planned, checkpoint, shards, jepa_plan, tmp_path
):
    term = ("--cost-term", "out_of_distribution=3")
    it = planned(*term, "--known-data", shards, "--known-frames", 60, world=checkpoint)
    kept = jepa_plan.out / "known_latents.safetensors"
    assert f"{kept} (give it as --known-data from now on)" in it.printed
    bank = LatentBank.load(kept)
    expected = 3 * bank.excess(it.imagined.tokens)[0].mean().item()
    assert expected > 0
    assert it.plan["cost_parts"]["out_of_distribution"] == pytest.approx(expected, rel=1e-4)
    assert it.terms["out_of_distribution"]["bank"]["threshold"] == bank.threshold
    moved = kept.rename(tmp_path / "bank.safetensors")
    again = planned(*term, "--known-data", moved, world=checkpoint)
    assert again.log["steps"] == it.log["steps"]


@pytest.fixture(scope="module")
def ensemble(make_checkpoint):
    return make_checkpoint(dynamics=Ensemble(GRU(dim=24), num_members=2, hidden_dim=8))


def test_disagreement_costs_as_the_members_of_an_ensemble_differ(planned, ensemble):
    it = planned(*DISAGREE, world=ensemble)
    expected = 4 * it.imagined.disagreement[0].mean().item()
    assert expected > 0
    assert it.plan["cost_parts"]["disagreement"] == pytest.approx(expected, rel=1e-4)
    assert it.plan["uncertainty"] == pytest.approx(it.imagined.disagreement[0].tolist(), rel=1e-4)
    assert it.log["settings"]["world"]["num_members"] == 2


def test_with_recordings_only_more_disagreement_than_is_normal_costs(planned, ensemble, shards):
    it = planned(*DISAGREE, "--known-data", shards, "--known-frames", 64, world=ensemble)
    settings = it.terms["disagreement"]
    assert len(settings["threshold"]) == 4 and min(settings["threshold"]) > 0
    term = Disagreement("mean", settings["unit"], torch.tensor(settings["threshold"]))
    expected = 4 * term(it.imagined, it.actions).item()
    assert it.plan["cost_parts"]["disagreement"] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_one_member_cannot_disagree_and_latents_alone_have_no_place(jepa_plan, make_checkpoint):
    code, _, (error,) = jepa_plan("run", *TO, *SMALL, "--cost-term", "disagreement=1")
    assert code == 2
    assert "needs a world model with an ensemble, this one has one member; train one" in error
    blind = make_checkpoint(uses_state=False)
    code, _, (error,) = jepa_plan("run", *TO, *SMALL, "--keep-out", "x=1:2", world=blind)
    assert code == 2 and "--keep-out needs a world model that imagines the state" in error


def test_a_landscape_shows_what_the_terms_make_of_it(jepa_plan):
    def costs(*options):
        _, _, errors = jepa_plan("landscape", "--goal-state", "52,20", "--steps", 2, *options)
        assert errors == []
        told = json.loads((jepa_plan.out / "landscape.json").read_text())
        return np.array(told["costs"]), told["settings"]["cost"]

    plain, _ = costs()
    dear, settings = costs("--cost-term", "action_size=0.5")
    size = np.add.outer(np.array([1.0, 0, 1]), np.array([1.0, 0, 1])) / 2  # in half-ranges
    np.testing.assert_allclose(dear - plain, 0.5 * size, atol=1e-5)
    assert settings["action_size"]["weight"] == 0.5
