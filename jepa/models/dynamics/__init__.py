"""What the next frame will be if I act like this: one architecture a file."""

from jepa.models.dynamics.action_conditioned import ActionConditionedPredictor, NextState
from jepa.models.dynamics.adaln import AdaLN
from jepa.models.dynamics.base import Dynamics, Memory, Prediction
from jepa.models.dynamics.ensemble import Ensemble
from jepa.models.dynamics.gru import GRU

__all__ = [
    "GRU",
    "ActionConditionedPredictor",
    "AdaLN",
    "Dynamics",
    "Ensemble",
    "Memory",
    "NextState",
    "Prediction",
]
