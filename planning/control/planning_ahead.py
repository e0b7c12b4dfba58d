"""A plan that begins later than now: where the robot will be when it is ready, and what is asked.

Between the camera frame and the plan's first action lie actions that are executed meanwhile. They
are imagined, so that the plan begins where they end; a world model of several frames is told of
those that were seen and of those that were imagined, in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from planning.actions.model_actions import model_actions
from planning.actions.space import ActionSpec
from planning.control.goal_pursuit import GoalPursuit
from planning.control.mpc import PlanRecord, looked_ahead, refuse_not_finite
from planning.control.recent_past import Past, memory_of, num_past_frames, remembered
from planning.latent_world import LatentWorld
from planning.search.rounds import SearchPlanner
from planning.types import Cost, Latent, Plan, Planner, TimeStep


class SeenFrame(NamedTuple):
    """What the camera saw in the past.

    Attributes:
        step: environment steps executed before.
        time_step: what it saw.
    """

    step: int
    time_step: TimeStep


class PlanRequest(NamedTuple):
    """What the worker is asked.

    Attributes:
        time_step: what the camera sees at `step`.
        step: environment steps executed before that.
        pending: (steps, action_dim), what will be executed before the plan begins.
        begins_at_step: environment step of the plan's first action.
        previous_plan: the plan received last, for a warm start.
        executed_steps: of its actions that will have passed by then, in actions of the model.
        previous_action: (action_dim,), what was executed last; at first what stands still.
        moving_steps: of the pending steps; in those after them the robot stands still.
        past: what the camera saw before `step`, and what was executed there.
    """

    time_step: TimeStep
    step: int
    pending: np.ndarray
    begins_at_step: int
    previous_plan: Plan | None
    executed_steps: int
    previous_action: np.ndarray
    moving_steps: int
    past: Past[SeenFrame] = Past()


class Answer(NamedTuple):
    """What the worker returns.

    Attributes:
        record: the plan.
        has_arrived: the camera saw the last goal.
        seconds: from the request to the answer.
        reached_distance: the latent distance that counts as reached.
    """

    record: PlanRecord
    has_arrived: bool
    seconds: float
    reached_distance: float


Work = Callable[[PlanRequest], Answer]
Submit = Callable[[Work, PlanRequest], "Future[Answer]"]  # hands a request to a worker


class Flag(Protocol):
    """What may be set by others, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Returns whether it is."""
        ...


class PlanningAhead:
    """Answers one request after the other; holds the state of one episode.

    Args:
        world: the trained world model.
        planner: chooses action sequences.
        pursuit: of the goals.
        action_spec: of the world model's actions.
        generator: of the planner's samples.
        is_closing: once it is set, a plan that is being made ends at its next round, by `Closing`.
        deadline_seconds: for each plan; None plans to the end.
        clock: seconds; only for measuring how long plans take.
    """

    def __init__(
        self,
        world: LatentWorld,
        planner: Planner,
        pursuit: GoalPursuit,
        action_spec: ActionSpec,
        *,
        generator: torch.Generator,
        is_closing: Flag,
        deadline_seconds: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._world, self._planner, self._pursuit = world, planner, pursuit
        self._spec, self._generator, self._is_closing = action_spec, generator, is_closing
        self._deadline_seconds, self._clock = deadline_seconds, clock
        self._encoded: dict[int, Latent] = {}  # by step

    def answer(
        self, request: PlanRequest, *, on_better: Callable[[Answer], None] | None = None
    ) -> Answer:
        """Sees, imagines what is pending, and plans from there.

        Args:
            request: what is asked.
            on_better: is told of the best plan so far, whenever a round of the search improves it.
                Only a `SearchPlanner` has such plans.

        Raises:
            NotFiniteStop: if latents, all imagined costs or an action are NaN or infinite.
            Closing: if it was told to end.
        """
        began, pursuit, spec = self._clock(), self._pursuit, self._spec
        now, past = self._look_back(request)
        has_new_goal = pursuit.advance(now, step=request.step, action_spec=spec)
        distance = pursuit.distance(now)
        start, memory = self._imagine(now, past, request.pending)

        def told(plan: Plan) -> Answer:
            refuse_not_finite(plan)
            imagined, parts = looked_ahead(self._world, start, plan, pursuit, memory=memory)
            record = PlanRecord(
                request.step, plan, imagined, distance, pursuit.index, request.begins_at_step, parts
            )
            near = pursuit.reached_distance(now, spec)
            has_arrived = pursuit.is_last and distance < near
            return Answer(record, has_arrived, self._clock() - began, near)

        on_best = None if on_better is None else lambda plan: on_better(told(plan))
        return told(self._plan(request, start, memory, on_best, begins_anew=has_new_goal))

    def _plan(
        self,
        request: PlanRequest,
        start: Latent,
        memory: object,
        on_best: Callable[[Plan], None] | None,
        *,
        begins_anew: bool,
    ) -> Plan:
        """Plans from where the robot will be."""
        before = request.pending[-1] if len(request.pending) else request.previous_action
        options: dict[str, Any] = {} if memory is None else {"memory": memory}
        if on_best is not None and isinstance(self._planner, SearchPlanner):
            options["on_best"] = on_best
        return self._planner.plan(
            self._world,
            start,
            cost=_Interruptible(self._pursuit.cost, self._is_closing),
            action_spec=self._spec,
            generator=self._generator,
            previous_plan=None if begins_anew else request.previous_plan,
            executed_steps=0 if begins_anew else request.executed_steps,
            deadline_seconds=self._deadline_seconds,
            previous_action=torch.as_tensor(before).to(start.tokens),
            **options,
        )

    def _look_back(self, request: PlanRequest) -> tuple[Latent, Past[Latent]]:
        """Encodes the frame of a request, and those of its past that were never planned from."""
        seen = [*request.past.seen, SeenFrame(request.step, request.time_step)]
        known = self._encoded
        latents = [
            known[step] if step in known else self._world.encode(shown.frame, shown.state)
            for step, shown in seen
        ]
        oldest = request.step - num_past_frames(self._world) * self._world.action_steps.num_steps
        known |= {step: latent for (step, _), latent in zip(seen, latents, strict=True)}
        self._encoded = {step: latent for step, latent in known.items() if step >= oldest}
        return latents[-1], Past(latents[:-1], request.past.actions)

    def _imagine(
        self, now: Latent, past: Past[Latent], pending: np.ndarray
    ) -> tuple[Latent, object]:
        """Imagines the pending actions (steps, action_dim).

        Returns:
            The latent where the robot will be then, and what the world model is to be told of the
            frames before it: those that were seen, and after them those that were imagined.
        """
        memory, steps = memory_of(self._world, past), self._world.action_steps
        actions = model_actions(steps, torch.from_numpy(pending)).to(now.tokens)
        if not len(actions):
            return now, memory
        ahead = self._rollout(now, actions, memory)
        if not (num_past := num_past_frames(self._world)):
            return ahead[-1], None
        if past.seen:
            done = model_actions(steps, torch.from_numpy(past.actions).to(actions))
            actions = torch.cat((done, actions))
        frames = [*past.seen, now, *ahead[:-1]]  # each with the action that was done there
        return ahead[-1], remembered(self._world, frames[-num_past:], actions[-num_past:])

    @torch.no_grad()
    def _rollout(self, now: Latent, actions: Tensor, memory: object) -> list[Latent]:
        """Returns the latent after each of the model's actions (steps, action_dim)."""
        options: dict[str, Any] = {} if memory is None else {"memory": memory}
        imagined = self._world.rollout(now, actions[None], **options)
        states = None if now.state is None else imagined.state
        return [
            Latent(tokens, None if states is None else states[0, step])
            for step, tokens in enumerate(imagined.tokens[0])
        ]


class Closing(Exception):
    """The planner was told to end while it planned."""


@dataclass(frozen=True)
class _Interruptible:
    """A cost that ends the search once the policy is closed."""

    cost: Cost
    is_closing: Flag

    def __call__(self, imagined: Latent, actions: Tensor) -> Tensor:
        if self.is_closing.is_set():
            raise Closing
        return self.cost(imagined, actions)
