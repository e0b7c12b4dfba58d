"""A callback that watches what a run makes of its representation, and says when it collapses.

`jepa.training.collapse.CollapseMonitor` is part of every pretraining and knows absolute floors of a
few measures. This one is asked for: it measures more (spectrum, shares of the variance, repeated
and dead tokens, attention, the predictor beside the mean), over the joined batch of all ranks, and
judges by what the same model had before its first update, as `jepa health` does by the untrained
twin: the rules are `jepa.evaluation.health.verdict.RULES`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from jepa.evaluation.health.attention_entropy import attention_entropies
from jepa.evaluation.health.measuring import Measured, note_entropies, note_prediction, note_tokens
from jepa.evaluation.health.prediction import feature_lag, prediction_scores
from jepa.evaluation.health.verdict import Judgement, judge
from jepa.masking import Mask, mask_generator
from jepa.models import normalize_pixels, take_tokens
from jepa.objectives import LatentMSE
from jepa.objectives.ranks import num_ranks, rows_of_all_ranks, sum_over_ranks
from jepa.training.collapse import (
    CollapsePolicy,
    at_most,
    feature_std,
    is_due,
    on_all_ranks,
    target_online_distance,
)
from jepa.training.dynamics_training import DynamicsTraining
from jepa.training.pretraining import Pretraining
from jepa.training.regularized_pretraining import RegularizedPretraining
from jepa.training.target_encoder import TargetEncoder

logger = logging.getLogger(__name__)
MAX_PLACES = 64  # of a clip, whose tokens are compared
ATTENTIVE_CLIPS = 2
LEVELS = {"healthy": 0.0, "untrained": 0.0, "suspicious": 1.0, "collapsed": 2.0}


class Watched(NamedTuple):
    """What a recipe makes of one batch on this rank.

    Attributes:
        tokens: (clips, places, dim), what may collapse.
        predicted: (clips, targets, dim), None if what is predicted has no place.
        target: the same shape.
        means: what is a mean over this rank's clips, to be averaged over ranks: of the attention's
            entropies (layers, heads), and how far the teacher's tokens lag behind (1,), if there
            are any.
    """

    tokens: Tensor
    predicted: Tensor | None
    target: Tensor | None
    means: dict[str, Tensor]


class HealthMonitor(Callback):
    """Logs `health/...` now and then, and warns once when the representation collapses.

    Measured is a part of the training batch, without gradient and with all parts in evaluation
    mode, over the joined batch of all ranks: values are the same on all of them, and so is what
    they do. Losses and weights are those of a run without it. The share of the time that it takes
    is logged as `health/monitor_share`.

    Args:
        every_n_steps: optimizer steps between two measurements; the first is before any update.
        max_clips: of the batch, on each rank.
        policy: whether to stop, and after how many bad measurements in a row; its floors are those
            of the collapse monitor. None: the recipe's own, else `CollapsePolicy`.

    Raises:
        ValueError: if a number is out of range; when training starts, if the recipe is neither a
            masked pretraining nor one of world models; and if the representation has collapsed and
            the policy says to stop.
    """

    def __init__(
        self,
        *,
        every_n_steps: int = 50,
        max_clips: int = 16,
        policy: CollapsePolicy | None = None,
    ) -> None:
        if every_n_steps < 1 or max_clips < 2:
            raise ValueError(
                "every_n_steps must be at least 1 and max_clips at least 2, got "
                f"{every_n_steps} and {max_clips}"
            )
        self.every_n_steps, self.max_clips, self.policy = every_n_steps, max_clips, policy
        self.warned = self._is_told = False
        self._before: dict[str, dict[str, float]] = {}  # the first measures, by number of places
        self._bad_in_a_row = 0
        self._measured_at_step = -1
        self._ended_at: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses a recipe that it does not know."""
        if not isinstance(pl_module, Pretraining | DynamicsTraining):
            raise ValueError(
                "HealthMonitor watches masked pretraining and the training of world models, not "
                f"{type(pl_module).__name__}: leave it out"
            )
        if self.policy is None:
            monitor = getattr(pl_module, "collapse", None)
            self.policy = getattr(monitor, "policy", None) or CollapsePolicy()

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Measures if it is time: once a step, also where a step has several batches."""
        step = trainer.global_step
        is_wanted = not self._before or is_due(step, every_n_steps=self.every_n_steps)
        if not is_wanted or step == self._measured_at_step or not _has_its_units(pl_module):
            return
        self._measured_at_step, began_at = step, time.perf_counter()
        with _undisturbed(pl_module), trainer.precision_plugin.forward_context():
            watched = _watch(pl_module, batch, self.max_clips)
        measured = _measured_of_all_ranks(pl_module, watched)
        if measured is None:
            return
        before = self._before.setdefault(str(tuple(watched.tokens.shape[1:])), measured.values)
        judgement = judge(measured.values, before, twin_name="the start's")
        values = {f"health/{name}": value for name, value in measured.values.items()}
        values["health/verdict"] = LEVELS[judgement.verdict]
        pl_module.log_dict({**values, **self._share_of_time(began_at)})
        if step > 0:  # before, nothing can have collapsed
            self._tell(judgement, step, device=watched.tokens.device)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run goes on with: how it was before training, and lately."""
        return {"before": self._before, "bad_in_a_row": self._bad_in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self._before, self._bad_in_a_row = state_dict["before"], state_dict["bad_in_a_row"]

    def _share_of_time(self, began_at: float) -> dict[str, float]:
        now, before = time.perf_counter(), self._ended_at
        self._ended_at = now
        return {} if before is None else {"health/monitor_share": (now - began_at) / (now - before)}

    def _tell(self, judgement: Judgement, step: int, *, device: torch.device) -> None:
        """Warns, or stops, once a collapse has lasted; the same on all ranks."""
        assert self.policy is not None
        is_bad = on_all_ranks(judgement.verdict == "collapsed", device=device)
        self._bad_in_a_row = self._bad_in_a_row + 1 if is_bad else 0
        self._is_told = self._is_told and is_bad  # one that recovers may collapse again
        if self._bad_in_a_row < self.policy.patience:
            return
        worst = next(found for found in judgement.findings if found.verdict == "collapsed")
        reasons = "; ".join(judgement.reasons)
        line = f"collapsed at step {step}: {reasons}; {worst.rule.advice}"
        if self.policy.on_collapse == "stop":
            raise ValueError(f"{line}; on_collapse=warn goes on")
        if not self._is_told and rank_zero_only.rank == 0:
            logger.warning("%s", line)
        self.warned = self._is_told = True


def _watch(module: LightningModule, batch: Any, max_clips: int) -> Watched:  # noqa: ANN401
    if isinstance(module, Pretraining):
        return _watch_pretraining(module, normalize_pixels(batch.video[:max_clips]))
    assert isinstance(module, DynamicsTraining)
    return _watch_dynamics(module, _first(batch, max_clips))


def _watch_pretraining(module: Pretraining, video: Tensor) -> Watched:
    """Asks all clips for the same places, so that a place has a mean over clips."""
    target = module.target(video)  # (clips, tokens, dim)
    tokens = module.watched_tokens(video, target)
    time, height, width = video.shape[2:]
    generator = mask_generator(module.seed, module.global_step, 0, device=video.device)
    drawn = module.draw_masks(
        1, module.encoder.grid_of((time, height, width)), is_image=time == 1, generator=generator
    )[0]
    mask = Mask(*(ids.expand(len(video), -1) for ids in drawn))
    (predicted,) = module.predict(video, [mask])
    predicted = getattr(predicted, "targets", predicted)  # dense pretraining predicts more
    wanted = take_tokens(target, mask.target_ids)
    if not isinstance(module.objective, LatentMSE):  # all others layer-norm targets
        dim = module.target_network()[0].dim
        wanted = F.layer_norm(wanted.unflatten(-1, (-1, dim)).float(), (dim,)).flatten(-2)
    means = _entropies(module.released_encoder, video[:ATTENTIVE_CLIPS])
    if isinstance(module.target_encoder, TargetEncoder):
        means["lag"] = feature_lag(module.target_encoder(video), module.encoder(video))
    return Watched(_some_places(tokens), predicted, wanted, means)


def _watch_dynamics(module: DynamicsTraining, batch: Any) -> Watched:  # noqa: ANN401
    latents = module.encode(batch)  # (windows, time, tokens, dim)
    assert module.world is not None
    predicted = module.world(latents[:, :-1], batch.states[:, :-1], batch.actions).tokens
    return Watched(
        tokens=_some_places(latents.flatten(0, 1)),
        predicted=predicted.flatten(1, 2),
        target=latents[:, 1:].flatten(1, 2),
        means={},
    )


def _measured_of_all_ranks(module: LightningModule, watched: Watched) -> Measured | None:
    """Measures the joined batch; None if ranks have clips of different sizes, as in a mixture."""
    if not _have_one_shape(watched.tokens):
        return None
    tokens = _joined(watched.tokens)
    found = Measured(num_clips=len(tokens), dim=tokens.shape[-1])
    note_tokens(found, tokens)
    found.note(feature_std=feature_std(tokens.flatten(0, 1)))  # its own start is comparable
    if watched.predicted is not None and watched.target is not None:
        predicted, target = _joined(watched.predicted), _joined(watched.target)
        note_prediction(found, prediction_scores(predicted, target))
    means = {name: sum_over_ranks(mean) / num_ranks() for name, mean in watched.means.items()}
    if "entropies" in means:
        note_entropies(found, list(means["entropies"]))
    if "lag" in means and isinstance(module, Pretraining):
        pair: Any = module.target_encoder.encoder, module.encoder
        found.note(ema_distance=target_online_distance(*pair), ema_feature_lag=means["lag"])
    return found


def _joined(values: Tensor) -> Tensor:
    """Returns (clips, places, dim) of all ranks, one after the other."""
    rows = rows_of_all_ranks(values.float().flatten(1))
    return rows.unflatten(1, values.shape[1:])


def _some_places(tokens: Tensor) -> Tensor:
    return at_most(MAX_PLACES, tokens.transpose(0, 1)).transpose(0, 1)


def _entropies(encoder: nn.Module, video: Tensor) -> dict[str, Tensor]:
    with attention_entropies(encoder) as found:
        encoder(video)
    return {"entropies": torch.stack(found)} if found else {}


def _has_its_units(module: LightningModule) -> bool:
    """False before the first step of a recipe that scales what it predicts in that step."""
    return not isinstance(module, RegularizedPretraining) or bool(module.is_calibrated)


def _have_one_shape(tokens: Tensor) -> bool:
    """True if all ranks have as many places: their tokens can be joined."""
    places = torch.tensor([tokens.shape[1], tokens.shape[1] ** 2], dtype=torch.float64)
    first, second = (sum_over_ranks(places.to(tokens.device)) / num_ranks()).tolist()
    return first**2 == second


def _first(batch: Any, count: int) -> Any:  # noqa: ANN401
    """Cuts a batch, a named tuple of tensors and tuples, to its first rows."""
    cut = {
        name: value[:count]
        for name, value in batch._asdict().items()
        if isinstance(value, Tensor | tuple)
    }
    return batch._replace(**cut)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Puts all parts into evaluation mode, without gradient, and each back to what it was."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, was_training in modes.items():
            part.training = was_training
