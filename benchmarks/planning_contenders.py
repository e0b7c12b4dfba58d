"""The planners that `planning.py` compares: the official one, a plain one, ours, and a peer's.

All search with one and the same cross-entropy method, that of the released V-JEPA 2-AC: every step
of a sequence is drawn by itself (three translations and the gripper), the elites' mean and standard
deviation are mixed with the ones before, and the answer is the last mean. All draw the same random
numbers in the same order, so they imagine the same candidates. What differs is the imagining.

The official planner is imported from a checkout of facebookresearch/vjepa2 and nothing of it is
written here. The plain one is for whoever has none: our weights, without what makes ours fast; the
whole prefix is computed again at every step.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepa.checkpoints.official_names import predictor_to_official
from jepa.models.dynamics import AdaLN
from jepa.models.encoder import VideoEncoder
from jepa.models.latents import PatchTokens, PooledTokens
from jepa.models.transformer import Attention
from jepa.models.world_model import ColumnScaling, LatentWorldModel
from planning.costs import GoalDistance
from planning.latent_world import LatentWorld
from planning.search.screening import Screening
from planning.types import Latent

PATCH = 16
DRAWN = [0, 1, 2, 6]  # of the seven numbers of an action: translations, gripper
NUM_ELITES, MOMENTUM = 10, 0.15
MAX_STEP_METRES, MAX_GRIPPER, LEAST_GRIPPER = 0.05, 0.75, 0.25
ACTION_HIGH = (*(MAX_STEP_METRES,) * 3, *(1e-6,) * 3, MAX_GRIPPER)  # it turns nothing
START_POSE = (0.4, 0.0, 0.3, 3.1, 0.02, 0.1, 0.5)


class PlanCase(NamedTuple):
    """A model and a budget.

    Attributes:
        name: as in the tables.
        side: of a frame, in patches.
        samples: sequences of an iteration.
        horizon: actions of a sequence.
        iterations: of the cross-entropy method.
        dim: of the predictor.
        depth: of the predictor, in blocks.
        num_heads: of the predictor.
        latent_dim: of a patch token.
    """

    name: str
    side: int
    samples: int
    horizon: int
    iterations: int = 2
    dim: int = 256
    depth: int = 6
    num_heads: int = 8
    latent_dim: int = 384

    @property
    def tokens_per_frame(self) -> int:
        """Patches, action and state."""
        return self.side**2 + 2


class Task(NamedTuple):
    """Where to plan from, and to.

    Attributes:
        start: of one frame, with its pose.
        goal: of one frame.
    """

    start: Latent
    goal: Latent


class Answer(NamedTuple):
    """What a planner found.

    Attributes:
        actions: (horizon, 7), the mean of the last distribution.
        energies: (iterations, samples), of all that it imagined.
    """

    actions: Tensor
    energies: Tensor


class Contender(Protocol):
    """A planner with its model."""

    def plan(self, task: Task, *, seed: int) -> Answer:
        """Plans from these random numbers."""
        ...


def make_model(
    case: PlanCase, *, weight_scale: float = 3.0, encoder_depth: int = 1
) -> LatentWorldModel:
    """Returns a world of an arm with random weights.

    Args:
        case: sizes.
        weight_scale: of the weights, over those that training begins with; with 1 actions say so
            little that which of them is best is a matter of rounding.
        encoder_depth: blocks of the encoder, which most parts leave out.
    """
    torch.manual_seed(0)
    model = LatentWorldModel(
        _encoder(case, encoder_depth),
        PatchTokens(),
        scaling=ColumnScaling((0.0,) * 7, (1.0,) * 7, (0.0,) * 7, (1.0,) * 7),
        uses_state=True,
        dim=case.dim,
        depth=case.depth,
        num_heads=case.num_heads,
        positions="rope_tiled",
        next_state="end_effector_pose",
        has_place_embedding=False,
    )
    with torch.no_grad():
        for layer in model.dynamics.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(weight_scale)
        for layer in model.dynamics.modules():
            if isinstance(layer, Attention):
                layer.qkv.weight[: 2 * case.dim].mul_(weight_scale)  # attention that chooses
    return model.eval().requires_grad_(False)


def make_lewm(
    case: PlanCase, *, weight_scale: float = 1.0, encoder_depth: int = 1
) -> LatentWorldModel:
    """Returns a world of LeWM's layout with random weights: a vector a frame, and no pose.

    Args:
        case: sizes; heads are a third as wide as the predictor, the MLPs 32 / 3 times, as LeWM's.
        weight_scale: of the weights, over those that training begins with.
        encoder_depth: blocks of the encoder.
    """
    torch.manual_seed(0)
    dynamics = AdaLN(
        dim=case.dim,
        depth=case.depth,
        num_heads=case.num_heads,
        head_dim=case.dim // 3,
        mlp_dim=case.dim * 32 // 3,
        dropout=0.0,
    )
    zeros, ones, stds = (0.0,) * 7, (1.0,) * 7, (*ACTION_HIGH[:3], 1.0, 1.0, 1.0, MAX_GRIPPER)
    model = LatentWorldModel(
        _encoder(case, encoder_depth),
        PooledTokens(dim=case.latent_dim, is_normed=True),
        scaling=ColumnScaling(zeros, ones, zeros, stds),
        uses_state=False,
        dynamics=dynamics,
    )
    with torch.no_grad():
        for layer in dynamics.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(weight_scale)
    return model.eval().requires_grad_(False)


def _encoder(case: PlanCase, depth: int) -> VideoEncoder:
    return VideoEncoder(
        image_size=case.side * PATCH,
        clip_length_frames=2,
        patch_size=PATCH,
        dim=case.latent_dim,
        depth=depth,
        num_heads=case.latent_dim // 32,
    )


def make_task(case: PlanCase, device: torch.device, *, seed: int = 0) -> Task:
    """Returns two frames that are noise, layer-normed as those of an encoder."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(2, case.side**2, case.latent_dim, generator=generator).to(device)
    start, goal = F.layer_norm(frames, frames.shape[-1:])
    return Task(Latent(start, torch.tensor(START_POSE, device=device)), Latent(goal))


class OfficialPlanner:
    """The released planner on the released predictor, with our weights.

    Args:
        modules: from `official_modules`.
        case: sizes and budget.
        model: where the weights come from.
        autocast: type of autocast; None: float32.
    """

    def __init__(
        self,
        modules: types.SimpleNamespace,
        case: PlanCase,
        model: LatentWorldModel,
        *,
        autocast: torch.dtype | None = None,
    ) -> None:
        predictor = modules.vit_ac_predictor(
            img_size=(case.side * PATCH,) * 2,
            patch_size=PATCH,
            num_frames=case.horizon + 1,
            tubelet_size=1,
            embed_dim=case.latent_dim,
            predictor_embed_dim=case.dim,
            depth=case.depth,
            num_heads=case.num_heads,
        ).eval()
        weights = predictor_to_official(model.dynamics, has_one_mask_token=False)
        left_out = predictor.load_state_dict(weights, strict=False)
        if left_out.unexpected_keys or any("extrinsics" not in k for k in left_out.missing_keys):
            raise SystemExit(f"the official predictor has other weights: {left_out}")
        self.device = model.action_mean.device
        self._energies: list[Tensor] = []
        self._l1, self._autocast = modules.l1, autocast
        self._planner = modules.WorldModel(
            encoder=None,
            predictor=predictor.to(self.device),
            tokens_per_frame=case.side**2,
            transform=None,
            device=str(self.device),
            mpc_args={
                "rollout": case.horizon,
                "samples": case.samples,
                "topk": NUM_ELITES,
                "cem_steps": case.iterations,
                "momentum_mean": MOMENTUM,
                "momentum_std": MOMENTUM,
                "maxnorm": MAX_STEP_METRES,
                "objective": self._objective,
            },
        )

    @torch.inference_mode()
    def plan(self, task: Task, *, seed: int) -> Answer:
        """See `Contender.plan`."""
        self._energies.clear()
        torch.manual_seed(seed)
        assert task.start.state is not None
        frames = (task.start.tokens[None, None], task.start.state[None, None])
        is_on = self._autocast is not None
        with torch.autocast(self.device.type, self._autocast, enabled=is_on):
            actions = self._planner.infer_next_action(*frames, task.goal.tokens[None, None])
        return Answer(actions.float(), torch.stack(self._energies))

    def _objective(self, found: Tensor, goal: Tensor) -> Tensor:
        energies = self._l1(found, goal)
        self._energies.append(energies)
        return energies


Scorer = Callable[[Latent, Tensor], Tensor]  # start, actions (samples, horizon, 7) -> (samples,)


class SamePlanner:
    """The same search on our weights.

    Args:
        case: budget.
        scorer: made for a goal, tells the energies of candidates.
    """

    def __init__(self, case: PlanCase, scorer: Callable[[Latent], Scorer]) -> None:
        self.case, self.scorer = case, scorer

    @torch.inference_mode()
    def plan(self, task: Task, *, seed: int) -> Answer:
        """See `Contender.plan`."""
        torch.manual_seed(seed)
        horizon, device = self.case.horizon, task.start.tokens.device
        mean = torch.zeros(horizon, len(DRAWN), device=device)
        std = torch.full_like(mean, MAX_STEP_METRES)
        std[:, -1] = 1
        scorer, energies = self.scorer(task.goal), []
        for _ in range(self.case.iterations):
            actions = self._draw(mean, std)
            energies.append(scorer(task.start, actions))
            elites = actions[energies[-1].topk(NUM_ELITES, largest=False).indices][..., DRAWN]
            mean = elites.mean(0) * (1 - MOMENTUM) + mean * MOMENTUM
            std = elites.std(0) * (1 - MOMENTUM) + std * MOMENTUM
        answer = mean.new_zeros(horizon, 7)
        answer[:, DRAWN] = mean
        gripper = answer[:, -1]
        gripper[gripper.abs() < LEAST_GRIPPER] = 0
        return Answer(answer, torch.stack(energies))

    def _draw(self, mean: Tensor, std: Tensor) -> Tensor:
        """Returns (samples, horizon, 7), inside the box that the released planner clips to."""
        actions = mean.new_zeros(self.case.samples, self.case.horizon, 7)
        for step, (centre, spread) in enumerate(zip(mean, std, strict=True)):
            noise = torch.randn(self.case.samples, len(DRAWN), device=mean.device)
            actions[:, step, DRAWN] = noise * spread + centre
        actions[..., :3].clamp_(-MAX_STEP_METRES, MAX_STEP_METRES)
        actions[..., -1].clamp_(-MAX_GRIPPER, MAX_GRIPPER)
        return actions


def ours(case: PlanCase, world: LatentWorld) -> SamePlanner:
    """The search on `LatentWorld`."""

    def scorer(goal: Latent) -> Scorer:
        cost = GoalDistance(goal, world.distance, "last")
        return lambda start, actions: cost(world.rollout(start, actions), actions)

    return SamePlanner(case, scorer)


class Screened(SamePlanner):
    """The search on rough costs, and exact ones of the best.

    Attributes:
        share: of the candidates that were imagined exactly, in the last plan.
    """

    share = 0.0

    def __init__(self, case: PlanCase, rough: LatentWorld, exact: LatentWorld) -> None:
        super().__init__(case, self._make)
        self._rough, self._exact = rough, exact

    def plan(self, task: Task, *, seed: int) -> Answer:
        """See `Contender.plan`."""
        answer = super().plan(task, seed=seed)
        self.share = self._screening.num_exact / answer.energies.numel()
        return answer

    def _make(self, goal: Latent) -> Scorer:
        cost = GoalDistance(goal, self._exact.distance, "last")
        self._screening = screening = Screening(self._rough, self._exact, cost)
        return lambda start, actions: screening(start, actions, NUM_ELITES)


def plain(case: PlanCase, model: LatentWorldModel) -> SamePlanner:
    """The search on our weights, computing the whole prefix again at every step."""

    def scorer(goal: Latent) -> Scorer:
        def energies(start: Latent, actions: Tensor) -> Tensor:
            assert start.state is not None
            frames = start.tokens.expand(len(actions), 1, *start.tokens.shape)
            states = start.state.expand(len(actions), 1, -1)
            for step in range(actions.shape[1]):
                prediction = model(frames, states, actions[:, : step + 1])
                frames = torch.cat((frames, prediction.tokens[:, -1:]), 1)
                states = torch.cat((states, prediction.state[:, -1:]), 1)
            return model.latents.distance(frames[:, -1], goal.tokens)

        return energies

    return SamePlanner(case, scorer)


def official_modules(checkout: Path) -> types.SimpleNamespace:
    """Imports the planner and the predictor of a checkout of facebookresearch/vjepa2.

    Raises:
        SystemExit: if there is no such checkout, or what it imports is missing.
    """
    if not (checkout / "notebooks" / "utils" / "mpc_utils.py").is_file():
        raise SystemExit(f"{checkout} is no checkout of facebookresearch/vjepa2")
    sys.path.insert(0, str(checkout))
    found = types.SimpleNamespace()
    for module, names in {
        "src.models.ac_predictor": ["vit_ac_predictor"],
        "notebooks.utils.mpc_utils": ["l1"],
        "notebooks.utils.world_model_wrapper": ["WorldModel"],
    }.items():
        for name in names:
            setattr(found, name, getattr(importlib.import_module(module), name))
    logging.getLogger("notebooks.utils.mpc_utils").setLevel(logging.WARNING)  # a line an iteration
    return found
