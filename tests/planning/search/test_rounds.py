"""The driver of searches: many together, deadlines, gradients, diagnostics."""

import time
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from planning.actions.limits import Gripper, StepBounds
from planning.actions.sampling import ActionDistribution
from planning.actions.space import ActionSteps
from planning.planners.cem import CEM
from planning.planners.gradient import Gradient
from planning.search.rounds import (
    Candidates,
    Problem,
    Scores,
    SearchPlanner,
    _Clock,
    plan_together,
)
from planning.types import Latent


def problem_of(made, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return Problem(made.start, made.cost, made.action_spec, generator, **options)


@dataclass(frozen=True)
class Fixed(SearchPlanner):
    """Tries the same sequences in every round, and keeps what it is told."""

    sequences: tuple = ()
    rounds: int = 1
    needs_gradients: bool = False
    pause_seconds: float = 0.0
    told: tuple = ()

    def search(self, space, warm, generator):
        mean = torch.zeros_like(space.low)
        distribution = ActionDistribution(mean, torch.ones_like(mean))
        for _ in range(self.rounds):
            sequences = torch.tensor(self.sequences)
            wish = Candidates(sequences, distribution, len(sequences), self.needs_gradients)
            self.told[0].append((yield wish))
            time.sleep(self.pause_seconds)
        return distribution


def test_problems_that_are_planned_together_get_the_plans_they_get_alone(make_problem):
    made = [make_problem(goal, reduction="mean") for goal in ((1.5, -0.7), (-3.0, 2.0), (0.0, 0.1))]
    planner = CEM(horizon=3, num_samples=32, num_elites=4)
    together = plan_together(planner, made[0].world, [problem_of(m, s) for s, m in enumerate(made)])
    for seed, (one, plan) in enumerate(zip(made, together, strict=True)):
        alone = one.solved_by(planner, seed=seed)
        assert torch.equal(plan.actions, alone.actions)
        assert plan.cost == alone.cost
        assert plan.best_costs == alone.best_costs
    assert [len(batch.shape) for batch in made[0].world.imagined[:6]] == [4] * 6  # one call each


def test_some_starts_with_a_state_and_some_without_are_refused(make_problem):
    made = make_problem((0.5, 0.5))
    other = problem_of(made)._replace(start=Latent(made.start.tokens, torch.zeros(1)))
    with pytest.raises(ValueError, match="some starts have a state and others have none"):
        plan_together(CEM(horizon=1), made.world, [problem_of(made), other])


def test_gradients_are_those_of_the_cost(make_problem):
    """Cost (x - 1)^2 of the sum of two actions: gradient 2 (x - 1) for both."""
    told = []
    planner = Fixed(2, (((0.5,), (0.2,)), ((-1.0,), (0.0,))), needs_gradients=True, told=(told,))
    make_problem((1.0,)).solved_by(planner)
    assert told[0].gradients.flatten().tolist() == pytest.approx([-0.6, -0.6, -4, -4])
    assert told[0].costs.tolist() == pytest.approx([0.09, 4])


def test_gradients_that_are_not_finite_are_zero_and_spoil_no_other(make_problem):
    made, told = make_problem((1.0,)), []
    planner = Fixed(1, (((0.5,),), ((0.0,),)), needs_gradients=True, told=(told,))
    made.solved_by(planner, cost=lambda imagined, actions: (actions - 0.0).sqrt().sum((1, 2)))
    assert told[0].gradients.flatten().tolist() == pytest.approx([0.5 * 0.5**-0.5, 0])


def test_a_gradient_that_is_infinite_in_half_ranges_moves_nothing(make_problem):
    made = make_problem((1.0,), low=(-1e30,), high=(1e30,))
    plan = made.solved_by(
        Gradient(horizon=1, num_iterations=3),
        cost=lambda latent, actions: 1e20 * actions[:, 0, 0],
    )
    assert plan.actions.isfinite().all() and plan.mean.isfinite().all()


def test_starts_encoded_in_inference_mode_have_gradients_too(make_problem):
    made, told = make_problem((1.0,)), []
    with torch.inference_mode():
        start = Latent(torch.zeros(1, 1))
    planner = Fixed(1, (((0.5,),),), needs_gradients=True, told=(told,))
    replace(made, start=start).solved_by(planner)
    assert told[0].gradients.item() == pytest.approx(-1.0)


def test_what_was_remembered_in_inference_mode_may_be_part_of_a_graph_too(make_problem):
    """Products save their factors for the gradient, which no inference tensor may be."""
    made, told = make_problem((1.0,)), []

    class Memory(NamedTuple):
        parts: list

    class Remembers:
        action_dim = 1

        def rollout(self, start, actions, *, memory):
            return Latent(made.world.rollout(start, actions).tokens * memory.parts[0][0])

    with torch.inference_mode():
        memory = Memory([(torch.tensor(2.0), None)])
        problem = problem_of(made, memory=memory)
        planner = Fixed(1, (((0.25,),),), needs_gradients=True, told=(told,))
        plan_together(planner, Remembers(), [problem])
    assert told[0].gradients.item() == pytest.approx(2 * (2 * 0.25 - 1) * 2)  # of (2 x - 1)^2


def test_no_round_begins_that_would_end_after_the_deadline(make_problem):
    told = []
    planner = Fixed(1, (((0.5,),),), rounds=50, pause_seconds=0.1, told=(told,))
    plan = make_problem((1.0,)).solved_by(planner, deadline_seconds=0.35)
    assert 2 <= plan.iterations <= 3
    assert plan.seconds < 0.45  # the machine may be busy; a fourth round would end after 0.4


def test_a_round_with_gradients_is_expected_to_take_longer_until_one_was_timed():
    clock = _Clock(1.0)
    with_gradients, without = (
        [SimpleNamespace(candidates=Candidates(torch.zeros(1, 1, 1), None, 1, wanted))]
        for wanted in (True, False)
    )
    clock.note(0.4, needs_gradients=False)
    assert clock.allows(without)
    assert not clock.allows(with_gradients)  # of four times 0.4
    clock.note(0.5, needs_gradients=True)
    assert clock.allows(with_gradients)


def test_the_longest_round_says_how_long_the_next_may_take():
    clock = _Clock(1.0)
    search = [SimpleNamespace(candidates=Candidates(torch.zeros(1, 1, 1), None))]
    clock.note(2.0, needs_gradients=False)
    clock.note(0.1, needs_gradients=False)
    assert not clock.allows(search)


def test_a_plan_tells_how_far_apart_its_elites_are(make_problem):
    planner = Fixed(1, (((1.0,),), ((0.0,),), ((-1.0,),)), told=([],))  # costs 0, 1, 4
    plan = make_problem((1.0,)).solved_by(planner)
    assert plan.elite_costs == pytest.approx([5 / 3])
    assert plan.elite_cost_spreads == pytest.approx([(26 / 9) ** 0.5])


def test_a_plan_tells_how_much_of_it_lies_at_the_bounds(make_problem):
    planner = Fixed(2, (((1.0, -1.0), (0.5, 1.0)),), told=([],))
    assert make_problem((9.0, 9.0)).solved_by(planner).saturation == pytest.approx(0.75)


def gripping(made, **options):
    """The same with the last of two dimensions a gripper's."""
    spec = replace(made.action_spec, grippers=(Gripper("a1", **options),))
    return replace(made, action_spec=spec)


def test_a_binary_gripper_lies_at_its_bounds_by_nature(make_problem):
    made = make_problem((9.0, 9.0))
    values = ((0.5, 1.0), (1.0, -1.0), (0.2, -1.0), (0.1, 1.0))
    plan = gripping(made).solved_by(Fixed(4, (values,), told=([],)))
    assert plan.saturation == pytest.approx(0.25)  # of the four other values, one
    assert plan.warnings == ()
    dead_zone = gripping(made, way="dead_zone", threshold=0.1)
    assert dead_zone.solved_by(Fixed(4, (values,), told=([],))).saturation == pytest.approx(5 / 8)
    joined = replace(
        make_problem((9.0,) * 4), action_spec=ActionSteps(2).joined(gripping(made).action_spec)
    )
    assert joined.solved_by(Fixed(2, (values,), told=([],))).saturation == pytest.approx(0.25)


def test_what_bounds_of_a_step_pin_is_no_saturation_and_what_they_narrow_is(make_problem):
    made = make_problem((9.0, 9.0))
    bounds = (StepBounds(1, (-0.5, 1.0), (0.5, 1.0)),)
    narrow = replace(made, action_spec=replace(made.action_spec, step_bounds=bounds))
    values = ((0.9, 0.3), (0.5, 1.0), (0.4, 1.0))  # four values that could have been others
    plan = narrow.solved_by(Fixed(3, (values,), told=([],)))
    assert plan.saturation == pytest.approx(1 / 4)


def test_a_plan_carries_the_disagreement_along_its_actions(make_problem):
    made = make_problem((1.0,))

    class Ensemble:
        action_dim = 1

        def rollout(self, start, actions):
            latent = made.world.rollout(start, actions)
            return latent._replace(disagreement=actions[..., 0].abs())

    planner = Fixed(2, (((0.1,), (0.2,)), ((0.3,), (0.6,))), told=([],))
    plan = replace(made, world=Ensemble()).solved_by(planner)
    assert plan.uncertainty.tolist() == pytest.approx([0.3, 0.6])


def test_the_best_are_those_with_a_finite_cost_best_first():
    scores = Scores(torch.tensor([3.0, torch.inf, 1.0, 2.0]))
    assert scores.best(2).tolist() == [2, 3]
    assert scores.best(4).tolist() == [2, 3, 0]


def test_a_plan_tells_which_part_of_the_planner_found_it(make_problem):
    @dataclass(frozen=True)
    class TwoParts(SearchPlanner):
        def search(self, space, warm, generator):
            distribution = ActionDistribution(space.middle, space.half_range)
            for value, source in ((0.2, "first"), (0.9, "second"), (0.4, "third")):
                yield Candidates(torch.full((1, 1, 1), value), distribution, source=source)
            return distribution

    assert make_problem((1.0,)).solved_by(TwoParts(1)).source == "second"


def test_a_plan_counts_what_was_ruled_out_and_warns(make_problem):
    made = make_problem((1.0,))
    planner = Fixed(1, (((0.5,),), ((0.2,),), ((-0.2,),)), rounds=2, told=([],))
    plan = made.solved_by(
        planner, cost=lambda i, a: torch.where(a[:, 0, 0] < 0.3, torch.inf, made.cost(i, a))
    )
    assert plan.num_ruled_out == 4
    assert plan.warnings[0].startswith("ruled out: 4 of 6 candidates had a NaN or infinite cost")


def test_a_flat_landscape_is_told_at_the_first_round_and_not_when_converged(make_problem):
    made = make_problem((1.0,))
    planner = Fixed(1, (((0.5,),), ((-0.5,),)), told=([],))
    flat = made.solved_by(planner, cost=lambda i, a: 5 + 1e-4 * made.cost(i, a))
    assert [line.partition(":")[0] for line in flat.warnings] == ["flat landscape"]
    converged = make_problem((0.5, 0.5)).solved_by(CEM(horizon=1, num_iterations=30, min_std=1e-4))
    assert converged.elite_cost_spreads[-1] < 1e-3 * converged.elite_cost_spreads[0]
    assert converged.warnings == ()


def test_a_plan_keeps_the_elites_of_its_last_round_best_first(make_problem):
    planner = Fixed(1, (((0.2,),), ((1.0,),), ((0.7,),)), told=([],))
    plan = make_problem((1.0,)).solved_by(planner)
    assert plan.elites.flatten().tolist() == pytest.approx([1.0, 0.7, 0.2])


def test_a_plan_counts_differentiated_rollouts(make_problem):
    for needs_gradients in (False, True):
        planner = Fixed(1, (((0.2,),),), 3, needs_gradients, told=([],))
        plan = make_problem((1.0,)).solved_by(planner)
        assert plan.num_differentiated == (3 if needs_gradients else 0)


def test_costs_without_gradients_are_refused_in_one_clear_line(make_problem):
    made = make_problem((1.0,))
    planner = Fixed(1, (((0.5,),),), needs_gradients=True, told=([],))
    match = "the costs have no gradient with respect to the actions, which this planner needs"
    with pytest.raises(ValueError, match=match):
        made.solved_by(planner, cost=lambda imagined, actions: torch.ones(len(actions)))


def test_a_caller_in_inference_mode_gets_gradients_of_costs_that_multiply_by_the_goal(make_problem):
    """What autograd must save, such as the factor of a product, may be no inference tensor."""
    made, told = make_problem((1.0,)), []
    planner = Fixed(1, (((0.5,),),), needs_gradients=True, told=(told,))
    with torch.inference_mode():
        start = Latent(made.start.tokens.clone())
        made.world.rollout(start, torch.zeros(1, 1, 1))
        replace(made, start=start).solved_by(
            planner, cost=lambda imagined, actions: imagined.tokens.square().sum((1, 2, 3))
        )
    assert told[0].gradients.item() == pytest.approx(1.0)


def test_a_gradient_at_a_bound_is_whole(make_problem):
    made, told = make_problem((3.0,)), []
    planner = Fixed(1, (((1.0,),), ((-1.0,),)), needs_gradients=True, told=(told,))
    made.solved_by(planner)
    assert told[0].gradients.flatten().tolist() == pytest.approx([-4, -8])


def test_searches_that_ask_for_different_things_are_scored_each_by_itself(make_problem):
    """One search goes on with two sequences, the other with three and gradients."""

    @dataclass(frozen=True)
    class Moody(SearchPlanner):
        def search(self, space, warm, generator):
            distribution = ActionDistribution(space.middle, space.half_range)
            number = float(torch.rand((), generator=generator))
            first = yield Candidates(torch.full((2, 1, 1), number), distribution)
            is_far = bool(first.costs[0] > 0.5)
            second = yield Candidates(
                torch.full((3 if is_far else 2, 1, 1), number), distribution, 1, is_far
            )
            assert (second.gradients is not None) == is_far
            return distribution

    made = [make_problem((0.5,)), make_problem((9.0,))]
    plans = plan_together(Moody(1), made[0].world, [problem_of(m) for m in made])
    assert [plan.num_rollouts for plan in plans] == [4, 5]
    assert [plan.num_differentiated for plan in plans] == [0, 3]


def test_a_first_round_that_takes_too_long_is_cut_where_the_time_ends(make_problem):
    made = make_problem((1.0,))

    class Slow:
        action_dim = 1

        def rollout(self, start, actions):
            time.sleep(0.01 * len(actions))
            return made.world.rollout(start, actions)

    planner = Fixed(1, tuple(((0.01 * index,),) for index in range(80)), told=([],))
    plan = replace(made, world=Slow()).solved_by(planner, deadline_seconds=0.3)
    assert plan.seconds < 0.35  # all of them would have taken 0.8
    assert 10 <= plan.num_rollouts <= 30
    assert plan.num_ruled_out == 0
    assert plan.actions.item() == pytest.approx(0.01 * (plan.num_rollouts - 1))


def test_the_first_eighth_is_scored_whatever_the_deadline(make_problem):
    planner = Fixed(1, tuple(((0.01 * index,),) for index in range(16)), told=([],))
    plan = make_problem((1.0,)).solved_by(planner, deadline_seconds=1e-9)
    assert (plan.iterations, plan.num_rollouts) == (1, 2)


def test_the_first_round_goes_on_past_the_deadline_until_a_cost_is_finite(make_problem):
    """Ruled out is all but the last quarter, of which the first eighth knows nothing."""
    made = make_problem((1.0,))
    planner = Fixed(1, tuple(((0.01 * index,),) for index in range(16)), told=([],))

    def constrained(imagined, actions):
        return torch.where(actions[:, 0, 0] < 0.025, torch.inf, made.cost(imagined, actions))

    plan = made.solved_by(planner, cost=constrained, deadline_seconds=1e-9)
    assert plan.num_rollouts == 4  # two of them ruled out; the eighth was not enough
    assert plan.actions.item() == pytest.approx(0.03)
    assert plan.num_ruled_out == 3
    with pytest.raises(FloatingPointError, match="all 16 imagined costs are infinite"):
        made.solved_by(
            planner, cost=lambda latent, actions: torch.inf * actions[:, 0, 0].exp(),
            deadline_seconds=1e-9,
        )  # fmt: skip


class Late(torch.Tensor):
    """Values that are there only when somebody looks, as those of a GPU."""

    pending_seconds = 0.0

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.any):
            time.sleep(Late.pending_seconds)
            Late.pending_seconds = 0.0
        return super().__torch_function__(function, types, args, kwargs or {})


def test_a_first_round_of_several_calls_ends_in_time_too(make_problem):
    """Searches that ask for different numbers of samples; the first one takes all the time."""
    made = make_problem((1.0,))

    class Slow:
        action_dim = 1

        def rollout(self, start, actions):
            time.sleep(0.01 * len(actions))
            return made.world.rollout(start, actions)

    @dataclass(frozen=True)
    class OfTheSeed(SearchPlanner):
        def search(self, space, warm, generator):
            distribution = ActionDistribution(space.middle, space.half_range)
            yield Candidates(torch.zeros(40 + generator.initial_seed(), 1, 1), distribution)
            return distribution

    problems = [problem_of(made, seed=seed) for seed in (0, 8)]
    first, second = plan_together(OfTheSeed(1), Slow(), problems, deadline_seconds=0.15)
    assert first.num_rollouts in (5, 10)
    assert second.num_rollouts == 6  # an eighth of 48, which would have taken 0.48


def test_a_part_is_timed_when_a_device_has_done_it_and_not_when_it_was_told(make_problem):
    made = make_problem((1.0,))

    def told_only(imagined, actions):
        Late.pending_seconds += 0.01 * len(actions)
        return made.cost(imagined, actions).as_subclass(Late)

    planner = Fixed(1, tuple(((0.01 * index,),) for index in range(80)), told=([],))
    plan = made.solved_by(planner, cost=told_only, deadline_seconds=0.3)
    assert 10 <= plan.num_rollouts <= 30  # all of them take 0.8


def test_in_parts_and_at_once_the_scores_are_the_same(make_problem):
    sequences = tuple(((0.1 * index,), (0.2,)) for index in range(9))
    for needs_gradients in (False, True):
        told = []
        planner = Fixed(2, sequences, needs_gradients=needs_gradients, told=(told,))
        for deadline in (None, 1e6):
            make_problem((1.0,)).solved_by(planner, deadline_seconds=deadline)
        at_once, in_parts = told
        assert torch.equal(at_once.costs, in_parts.costs)
        if needs_gradients:
            assert torch.equal(at_once.gradients, in_parts.gradients)


def test_a_cost_of_another_shape_is_refused(make_problem):
    planner = Fixed(1, (((0.5,),), ((0.1,),)), told=([],))
    for bad in (lambda latent, actions: actions.sum(1), lambda latent, actions: actions.sum()):
        with pytest.raises(ValueError, match=r"the cost of 2 sequences must be a tensor \(2,\)"):
            make_problem((1.0,)).solved_by(planner, cost=bad)
    with pytest.raises(ValueError, match=r"a tensor \(2,\), one number each, got ndarray"):
        make_problem((1.0,)).solved_by(planner, cost=lambda latent, actions: np.zeros(2))


def test_constraints_that_rule_out_everything_are_no_broken_checkpoint(make_problem):
    planner = Fixed(1, (((0.5,),),), told=([],))
    with pytest.raises(FloatingPointError, match="constraints rule out every sequence"):
        make_problem((1.0,)).solved_by(
            planner, cost=lambda latent, actions: torch.full((1,), torch.inf)
        )


def test_a_candidate_that_is_no_number_is_ruled_out_even_by_a_world_that_does_not_mind(
    make_problem,
):
    """The cost is finite for all, and least for the sequence that no robot can execute."""
    sequences = (((0.5,), (0.1,)), ((float("nan"), ), (0.0,)), ((0.9,), (0.2,)))  # fmt: skip
    planner = Fixed(2, sequences, rounds=2, told=([],))
    plan = make_problem((1.0,)).solved_by(
        planner, cost=lambda latent, actions: actions[:, 0, 0].nan_to_num(0.0)
    )
    assert plan.actions.flatten().tolist() == pytest.approx([0.5, 0.1])
    assert plan.num_ruled_out == 2
    assert plan.elites.isfinite().all()


def test_actions_that_the_world_model_does_not_know_are_refused_by_name(make_problem):
    made, other = make_problem((1.0, 1.0)), make_problem((1.0,))
    match = (
        r"the world model imagines actions of 1 dimensions, the action spec has 2 \(a0, a1\); "
        "plan with the spec"
    )
    with pytest.raises(ValueError, match=match):
        replace(made, world=other.world).solved_by(CEM(horizon=1))


def test_what_is_remembered_goes_to_the_world_model(make_problem):
    made, asked = make_problem((1.0,)), []

    class Remembers:
        action_dim = 1

        def rollout(self, start, actions, *, memory=None):
            asked.append(memory)
            return made.world.rollout(start, actions)

    planner = Fixed(1, (((0.5,),),), told=([],))
    problems = [problem_of(made, memory=word) for word in ("one", "two", None)]
    plan_together(planner, Remembers(), problems)
    assert asked == ["one", "two", None]
