"""What is hidden and what is shown: one sampler a file."""

from jepa.masking.base import Mask, MaskSampler, mask_generator
from jepa.masking.future import Future
from jepa.masking.image_multi_block import ImageMultiBlock
from jepa.masking.multi_block import MultiBlock
from jepa.masking.random_tokens import RandomTokens
from jepa.masking.reference_multi_block import ReferenceMultiBlock
from jepa.masking.tube import Tube

__all__ = [
    "Future",
    "ImageMultiBlock",
    "Mask",
    "MaskSampler",
    "MultiBlock",
    "RandomTokens",
    "ReferenceMultiBlock",
    "Tube",
    "mask_generator",
]
