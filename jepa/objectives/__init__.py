"""Objectives, regularizers and action heads: one file each."""

from jepa.objectives.base import ActionHead, LossTerms, Objective, Regularizer, mean_terms
from jepa.objectives.contrastive_prediction import ContrastivePrediction
from jepa.objectives.dense_l1 import DenseL1
from jepa.objectives.inverse_dynamics import InverseDynamics
from jepa.objectives.latent_l1 import LatentL1
from jepa.objectives.latent_mse import LatentMSE
from jepa.objectives.latent_smooth_l1 import LatentSmoothL1
from jepa.objectives.rollout_l1 import RolloutL1
from jepa.objectives.sigreg import SIGReg
from jepa.objectives.temporal_similarity import TemporalSimilarity
from jepa.objectives.time_contrast import TimeContrast
from jepa.objectives.vicreg import VICReg

__all__ = [
    "ActionHead",
    "ContrastivePrediction",
    "DenseL1",
    "InverseDynamics",
    "LatentL1",
    "LatentMSE",
    "LatentSmoothL1",
    "LossTerms",
    "Objective",
    "Regularizer",
    "RolloutL1",
    "SIGReg",
    "TemporalSimilarity",
    "TimeContrast",
    "VICReg",
    "mean_terms",
]
