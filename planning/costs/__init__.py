"""What a planner minimises. The planner never knows the goal; a cost does. One file each."""

from planning.costs.action_terms import ActionChange, ActionSize
from planning.costs.constraints import KeepOut, Workspace
from planning.costs.disagreement import Disagreement
from planning.costs.distances import L1, L2, Cosine, Distance, distance_named
from planning.costs.finite import finite_costs, trusted_costs
from planning.costs.goal_distance import GoalDistance
from planning.costs.imagined_states import StateUnits
from planning.costs.latent_banks import LatentBank, Mahalanobis, NearestLatents
from planning.costs.out_of_distribution import OutOfDistribution
from planning.costs.reductions import Discounted, PenaltyReduction, Reduction
from planning.costs.regions import Box, Disc, Region
from planning.costs.state_distance import StateDistance
from planning.costs.sub_goals import SubGoalProgress, SubGoals
from planning.costs.weighted_sum import WeightedSum

__all__ = [
    "L1",
    "L2",
    "ActionChange",
    "ActionSize",
    "Box",
    "Cosine",
    "Disagreement",
    "Disc",
    "Discounted",
    "Distance",
    "GoalDistance",
    "KeepOut",
    "LatentBank",
    "Mahalanobis",
    "NearestLatents",
    "OutOfDistribution",
    "PenaltyReduction",
    "Reduction",
    "Region",
    "StateDistance",
    "StateUnits",
    "SubGoalProgress",
    "SubGoals",
    "WeightedSum",
    "Workspace",
    "distance_named",
    "finite_costs",
    "trusted_costs",
]
