"""What the next frame will be if I act like this: one architecture a file."""

from jepa.models.dynamics.action_conditioned import (
    ActionConditionedPredictor,
    NextState,
    Prediction,
)

__all__ = ["ActionConditionedPredictor", "NextState", "Prediction"]
