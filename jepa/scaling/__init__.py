"""What a training step costs: arithmetic, memory, and the time that follows on some hardware."""

from jepa.scaling.flops import StepFlops, encoder_flops, predictor_flops, step_flops
from jepa.scaling.hardware import HARDWARE, Hardware, measured_matmul_rate
from jepa.scaling.memory import StepMemory, step_memory

__all__ = [
    "HARDWARE",
    "Hardware",
    "StepFlops",
    "StepMemory",
    "encoder_flops",
    "measured_matmul_rate",
    "predictor_flops",
    "step_flops",
    "step_memory",
]
