"""Objectives: one file each."""

from jepa.objectives.base import LossTerms, Objective, mean_terms
from jepa.objectives.latent_l1 import LatentL1
from jepa.objectives.rollout_l1 import RolloutL1

__all__ = ["LatentL1", "LossTerms", "Objective", "RolloutL1", "mean_terms"]
