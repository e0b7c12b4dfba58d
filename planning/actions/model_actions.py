"""Steps of an environment as actions of a world model that span several of them."""

from __future__ import annotations

from torch import Tensor

from planning.actions.space import ActionSteps


def model_actions(action_steps: ActionSteps, actions: Tensor) -> Tensor:
    """Returns the model's actions for so many of the environment; inverse of `ActionSteps.split`.

    Args:
        action_steps: how an action of the model becomes steps of the environment.
        actions: (steps, dimension of the environment's action). Steps that do not fill an action
            of the model are filled up by repeating the last one.

    Returns:
        (actions, dimension of the model's action): the first spans the first `num_steps` steps.
    """
    num_steps = action_steps.num_steps
    missing = -len(actions) % num_steps
    if missing:
        actions = actions[[*range(len(actions)), *[-1] * missing]]
    each = actions.unflatten(0, (-1, num_steps)) if len(actions) else actions[:, None]
    if action_steps.way == "one_after_the_other":
        return each.flatten(1)
    return each.sum(1) if action_steps.way == "in_equal_parts" else each.mean(1)
