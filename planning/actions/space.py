"""Actions with names, units and bounds, and what else limits them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from planning.actions.contradicting_limits import refuse_contradicting_limits
from planning.actions.limits import Gripper, NormLimit, StepBounds, within_norm
from planning.safety.safe_stop import RefusedAction


@dataclass(frozen=True)
class ActionSpec:
    """What one action means and how large it may be, all in raw units.

    A world model normalises actions by itself, so no limit is ever applied to normalised ones.

    Attributes:
        names: one name per dimension, for example ("dx", "dy").
        units: the unit of each dimension, for example ("pixel/step", "pixel/step").
        low: smallest allowed value of each dimension, in that unit.
        high: largest allowed value of each dimension.
        kind: "continuous", or "one_hot": the names are choices, and an action is 1 for one of them
            and 0 for the others.
        max_change: largest change of each dimension from one step of the environment to the next,
            in its unit; infinity where there is no limit. None: no limit at all.
        norm_limits: how long parts of the action may be.
        grippers: dimensions that a gripper understands only in part.
        step_bounds: narrower bounds for parts of a plan, in the order of their steps.
        one_step: where an action is several of the environment's side by side, one of those; its
            limits are those of this spec. See `ActionSteps`.
        parts: equal parts, one for each step of the environment, in which an action is executed.

    Raises:
        ValueError: if these contradict each other.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    kind: Literal["continuous", "one_hot"] = "continuous"
    max_change: tuple[float, ...] | None = None
    norm_limits: tuple[NormLimit, ...] = ()
    grippers: tuple[Gripper, ...] = ()
    step_bounds: tuple[StepBounds, ...] = ()
    one_step: ActionSpec | None = None
    parts: int = 1

    def __post_init__(self) -> None:
        refuse_contradicting_limits(self)

    @property
    def dim(self) -> int:
        """Number of action dimensions."""
        return len(self.names)

    @property
    def num_steps(self) -> int:
        """How many actions of the environment are side by side in one action."""
        return 1 if self.one_step is None else self.dim // self.one_step.dim

    def in_steps(self, actions: Tensor) -> Tensor:
        """Returns actions (..., horizon, action_dim) as those of the environment, one a step.

        Returns:
            (..., horizon * num_steps, action_dim / num_steps); the inverse of `side_by_side`.
        """
        if self.num_steps == 1:
            return actions
        return actions.unflatten(-1, (self.num_steps, -1)).flatten(-3, -2)

    def side_by_side(self, steps: Tensor) -> Tensor:
        """Returns the actions of the model that are these steps; the inverse of `in_steps`."""
        if self.num_steps == 1:
            return steps
        return steps.unflatten(-2, (-1, self.num_steps)).flatten(-2)

    def bounds(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (low, high), each (action_dim,), with the dtype and device of `reference`."""
        return reference.new_tensor(self.low), reference.new_tensor(self.high)

    def step_limits(self, horizon: int, *, like: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (low, high), each (horizon, action_dim), the bounds of each step of a plan.

        A step before narrower bounds is as near to them as `max_change` demands.

        Args:
            horizon: actions in the plan.
            like: gives the type and the device.
        """
        if self.one_step is not None:
            steps = self.one_step.step_limits(horizon * self.num_steps, like=like)
            low, high = (self.side_by_side(bound) for bound in steps)
            return low, high
        low, high = (bound.repeat(horizon, 1) for bound in self.bounds(like))
        for bounds in self.step_bounds:
            low[bounds.first_step :] = like.new_tensor(bounds.low)
            high[bounds.first_step :] = like.new_tensor(bounds.high)
        if self.step_bounds and self.max_change is not None:
            change = like.new_tensor(self.max_change)
            for step in reversed(range(horizon - 1)):
                low[step] = torch.maximum(low[step], low[step + 1] - change)
                high[step] = torch.minimum(high[step], high[step + 1] + change)
        return low, high

    def clip(self, actions: Tensor) -> Tensor:
        """Clamps actions (..., action_dim) into the bounds, and looks at no other limit."""
        low, high = self.bounds(actions)
        return actions.clamp(low, high)

    def limit(self, actions: Tensor, previous_action: Tensor | None = None) -> Tensor:
        """Returns the nearest admissible sequences; admissible ones come back as they are.

        Step by step, each action becomes the nearest (Euclidean) one inside the bounds and the
        norms that is within `max_change` of the one before; then grippers snap. Bounds of single
        steps yield where the start is too far away to keep them: they are approached as quickly as
        the other limits allow. A value that is NaN stays NaN.

        Args:
            actions: (..., horizon, action_dim).
            previous_action: (dim of one step of the environment,), executed last; if it is not
                admissible itself, the nearest one that is counts. None: the first action may be
                any.

        Returns:
            (..., horizon, action_dim). Gradients go through, and through snaps as if they were
            not there.
        """
        if self.one_step is not None:
            return self.side_by_side(self.one_step.limit(self.in_steps(actions), previous_action))
        if self.kind == "one_hot":
            return _nearest_choices(actions)
        low, high = self.step_limits(actions.shape[-2], like=actions)
        if self.max_change is None:
            return self._nearest(actions, low, high)
        return self._nearest_in_turn(actions, low, high, previous_action)

    def sample(self, generator: np.random.Generator) -> np.ndarray:
        """Draws one action (action_dim,) float32, uniform among those inside bounds and norms.

        A choice is any with the same probability; what a gripper does not understand snaps.
        """
        if self.one_step is not None:
            return np.concatenate([self.one_step.sample(generator) for _ in range(self.num_steps)])
        if self.kind == "one_hot":
            return np.eye(self.dim, dtype=np.float32)[generator.integers(self.dim)]
        action = generator.uniform(self.low, self.high)
        for limit in self.norm_limits:
            part = self._columns(limit.names)
            action[part] = _inside_norm(limit, *self._bounds_of(part), generator)
        return self.validate(action) if self._has_limits else action.astype(np.float32)

    def validate(self, action: np.ndarray, previous_action: np.ndarray | None = None) -> np.ndarray:
        """Returns `action` as (action_dim,) float32 inside the limits.

        Args:
            action: (action_dim,).
            previous_action: what was executed before, for `max_change`; None: not looked at.

        Raises:
            RefusedAction: if the shape is wrong, or a value is not finite. A NaN passes through
                clamping, so it is refused here, before it can reach an actuator.
            ValueError: if a choice is not exactly one 1.
        """
        action = np.asarray(action, dtype=np.float32)
        if action.shape != (self.dim,):
            raise RefusedAction(f"action must have shape ({self.dim},), got {action.shape}")
        if not np.isfinite(action).all():
            raise RefusedAction(f"action must be finite, got {action.tolist()}")
        if self.kind == "one_hot":
            _refuse_other_than_one_choice(action.reshape(self.num_steps, -1))
        if not self._has_limits:
            return np.clip(action, np.array(self.low, np.float32), np.array(self.high, np.float32))
        before = None
        if previous_action is not None:
            before = self.checked_previous_action(torch.as_tensor(np.asarray(previous_action)))
        return self._at_any_step().limit(torch.from_numpy(action)[None], before)[0].numpy()

    def checked_previous_action(self, action: Tensor) -> Tensor:
        """Returns the environment's action that was executed last, checked.

        Raises:
            RefusedAction: if it is not (dim of one step of the environment,) finite numbers.
        """
        if self.one_step is not None:
            return self.one_step.checked_previous_action(action)
        if action.shape != (self.dim,) or not action.isfinite().all():
            raise RefusedAction(
                f"previous_action must be ({self.dim},) finite numbers, what the environment "
                f"executed last, got {action.tolist()}"
            )
        return action

    # ------------------------------------------------------------------ private parts

    @property
    def _has_limits(self) -> bool:
        """Whether anything but the bounds limits an action."""
        if self.one_step is not None:
            return self.one_step._has_limits
        return self.max_change is not None or bool(self.norm_limits or self.grippers)

    def _at_any_step(self) -> ActionSpec:
        """The same without bounds of single steps."""
        one_step = None if self.one_step is None else self.one_step._at_any_step()
        return replace(self, step_bounds=(), one_step=one_step)

    def _columns(self, names: tuple[str, ...]) -> list[int]:
        return [self.names.index(name) for name in names]

    def _bounds_of(self, columns: list[int]) -> tuple[list[float], list[float]]:
        return [self.low[column] for column in columns], [self.high[column] for column in columns]

    def _nearest(self, actions: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The nearest actions (..., action_dim) inside these bounds and the norms; snapped."""
        nearest = actions.clamp(low, high)
        if not self.norm_limits and not self.grippers:
            return nearest
        nearest = nearest.clone()
        for limit in self.norm_limits:
            part = self._columns(limit.names)
            nearest[..., part] = within_norm(
                actions[..., part],
                low[..., part],
                high[..., part],
                max_norm=limit.max_norm,
                order=limit.order,
            )
        for gripper in self.grippers:
            column = self.names.index(gripper.name)
            nearest[..., column] = gripper.snapped(
                nearest[..., column], self.low[column], self.high[column]
            )
        return nearest

    def _nearest_in_turn(
        self, actions: Tensor, low: Tensor, high: Tensor, previous_action: Tensor | None
    ) -> Tensor:
        """The nearest sequences whose steps are within `max_change` of each other."""
        change = actions.new_tensor(self.max_change)
        least, greatest = self.bounds(actions)
        last, limited = None, []
        if previous_action is not None:
            last = self._nearest(previous_action.to(actions) * self.parts, least, greatest)
        for step in range(actions.shape[-2]):
            step_low, step_high = low[step], high[step]
            if last is not None:
                near_low = torch.maximum(least, last - change)
                near_high = torch.minimum(greatest, last + change)
                step_low, step_high = (
                    step_low.clamp(near_low, near_high),
                    step_high.clamp(near_low, near_high),
                )
                if self.step_bounds:
                    step_low, step_high = self._wide_enough(
                        step_low, step_high, near_low, near_high
                    )
            last = self._nearest(actions[..., step, :], step_low, step_high)
            limited.append(last)
        return torch.stack(limited, dim=-2)

    def _wide_enough(
        self, low: Tensor, high: Tensor, near_low: Tensor, near_high: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Bounds of a step, given up where they leave no action that is short enough."""
        for limit in self.norm_limits:
            part = self._columns(limit.names)
            shortest = torch.zeros_like(low).clamp(low, high)[..., part]
            is_empty = shortest.norm(limit.order, dim=-1, keepdim=True) > limit.max_norm
            given_up = torch.zeros_like(low, dtype=torch.bool)
            given_up[..., part] = is_empty
            low, high = torch.where(given_up, near_low, low), torch.where(given_up, near_high, high)
        return low, high


@dataclass(frozen=True)
class ActionSteps:
    """How one action of a world model becomes actions of an environment, one for each step.

    Attributes:
        num_steps: steps of the environment that one action of the model spans.
        way: "one_after_the_other": the model's action is that many actions side by side;
            "repeated": the same action in every step; "in_equal_parts": it is their sum, of which
            every step does its part.

    Raises:
        ValueError: if there is no step.
    """

    num_steps: int = 1
    way: Literal["one_after_the_other", "repeated", "in_equal_parts"] = "one_after_the_other"

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def joined(self, spec: ActionSpec) -> ActionSpec:
        """Returns what an action of the model means in an environment of these actions.

        Its limits are such that the steps it is split into keep the environment's: inside an
        action and from one to the next.

        Raises:
            ValueError: if choices shall be added up.
        """
        steps = self.num_steps
        if steps == 1:
            return spec
        if self.way == "one_after_the_other":
            names = tuple(f"{name}@{step}" for step in range(steps) for name in spec.names)
            low, high = spec.low * steps, spec.high * steps
            return ActionSpec(names, spec.units * steps, low, high, spec.kind, one_step=spec)
        joined = replace(spec, step_bounds=_for_longer_steps(spec, steps))
        return joined if self.way == "repeated" else _added_up(joined, steps)

    def split(self, actions: Tensor) -> Tensor:
        """Returns the environment's actions of a plan; the inverse of joining them.

        Args:
            actions: (horizon, dimension of the model's action).

        Returns:
            (horizon * num_steps, dimension of the environment's action).
        """
        if self.way == "one_after_the_other":
            return actions.reshape(len(actions) * self.num_steps, -1)
        parts = actions / self.num_steps if self.way == "in_equal_parts" else actions
        return parts.repeat_interleave(self.num_steps, dim=0)


def _added_up(spec: ActionSpec, steps: int) -> ActionSpec:
    """The spec of sums of so many equal actions."""
    if spec.kind == "one_hot" or spec.one_step is not None:
        raise ValueError(
            f"actions ({', '.join(spec.names)}) are choices or several actions side by side, which "
            "have no sum; use ActionSteps(num_steps, 'repeated')"
        )

    def times(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(steps * value for value in values)

    return replace(
        spec,
        low=times(spec.low),
        high=times(spec.high),
        max_change=None if spec.max_change is None else times(spec.max_change),
        norm_limits=tuple(replace(one, max_norm=steps * one.max_norm) for one in spec.norm_limits),
        grippers=tuple(
            one if one.threshold is None else replace(one, threshold=steps * one.threshold)
            for one in spec.grippers
        ),
        step_bounds=tuple(
            replace(one, low=times(one.low), high=times(one.high)) for one in spec.step_bounds
        ),
        parts=spec.parts * steps,
    )


def _for_longer_steps(spec: ActionSpec, steps: int) -> tuple[StepBounds, ...]:
    """Bounds of steps that are so many times as long: inside those of all steps they span.

    Raises:
        ValueError: if one action cannot be inside the bounds of all steps that it spans.
    """
    if not spec.step_bounds:
        return ()
    horizon = spec.step_bounds[-1].first_step // steps + 2
    always = replace(spec, max_change=None)  # changes happen between actions, not inside
    like = torch.zeros(1, dtype=torch.float64)
    low, high = always.step_limits(horizon * steps, like=like)
    low, high = low.unflatten(0, (-1, steps)).amax(1), high.unflatten(0, (-1, steps)).amin(1)
    if (low > high).any():
        step = int((low > high).any(1).nonzero()[0])
        raise ValueError(
            f"action {step} of the model spans {steps} steps of the environment whose step_bounds "
            f"leave no action for all of them; let first_step be a multiple of {steps}"
        )
    return tuple(
        StepBounds(step, tuple(low[step].tolist()), tuple(high[step].tolist()))
        for step in range(horizon)
    )


def _nearest_choices(actions: Tensor) -> Tensor:
    """The nearest one-hot vectors (..., choices); their gradient is that of the vectors given."""
    choices = torch.nn.functional.one_hot(actions.detach().argmax(-1), actions.shape[-1])
    return choices.to(actions) + (actions - actions.detach())


def _refuse_other_than_one_choice(choices: np.ndarray) -> None:
    """Raises ValueError if a row (steps, choices) is not exactly one 1."""
    if not (np.isin(choices, (0, 1)).all() and (choices.sum(1) == 1).all()):
        raise ValueError(
            f"an action is one of {choices.shape[1]} choices: exactly one 1, all others 0, got "
            f"{choices.reshape(-1).tolist()}"
        )


def _inside_norm(
    limit: NormLimit, low: list[float], high: list[float], generator: np.random.Generator
) -> np.ndarray:
    """A uniform draw inside bounds and norm; after a million in vain, the nearest to the last."""
    draws = np.empty((0, len(low)))
    narrow_low, narrow_high = np.maximum(low, -limit.max_norm), np.minimum(high, limit.max_norm)
    for _ in range(20_000):
        draws = generator.uniform(narrow_low, narrow_high, (50, len(low)))
        is_inside = np.linalg.norm(draws, limit.order, axis=1) <= limit.max_norm
        if is_inside.any():
            return draws[is_inside][0]
    bounds = (torch.tensor(side, dtype=torch.float64) for side in (low, high))
    last = torch.from_numpy(draws[-1])
    return within_norm(last, *bounds, max_norm=limit.max_norm, order=limit.order).numpy()
