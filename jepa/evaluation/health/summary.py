"""The health of a model in one dictionary, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from jepa.checkpoints.native import build_encoder, describe, untrained_world_model
from jepa.evaluation.health.measuring import Measured, measure
from jepa.evaluation.health.model_inputs import AnyModel, Batch
from jepa.evaluation.health.verdict import Finding, Judgement, judge
from jepa.models import JepaModel, LatentWorldModel, MaskedLatentPredictor

FORMAT = 1


def health_summary(
    model: AnyModel,
    batches: Sequence[Batch],
    *,
    untrained: AnyModel | None = None,
    online: nn.Module | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures a model and its untrained twin on the same batches, and judges.

    Args:
        model: an encoder with or without predictor, or a world model; gets into evaluation mode.
        batches: of clips or trajectories that fit the encoder. A world model wants trajectories.
        untrained: the twin; None: `untrained_twin` of the seed.
        online: the encoder that this one followed in training, if it is known: a lag is measured.
        seed: of the twin's weights, of masks, views and random actions.

    Returns:
        What JSON can hold. "verdict": "healthy", "suspicious", "untrained" or "collapsed"; "line":
        the same with its reasons, which are a list under "reasons"; "measures": a list of name,
        family, value, untrained, limit, is_bad, verdict, source; "curves": "spectrum" and
        "spectrum_untrained" (eigenvalues, sum 1), "attention_entropy" (layers, heads),
        "state_distance" and "planning_costs", where they could be measured.

    Raises:
        ValueError: if there are fewer than 2 clips, or a world model gets no trajectories.
    """
    twin = untrained_twin(model, seed=seed) if untrained is None else untrained
    device = next(model.parameters()).device
    ours = measure(model.eval(), batches, online=online, seed=seed)
    theirs = measure(twin.to(device).eval(), batches, seed=seed)
    judgement = judge(ours.values, theirs.values)
    return {
        "format": FORMAT,
        "model": type(model).__name__,
        "num_clips": ours.num_clips,
        "dim": ours.dim,
        "seed": seed,
        "verdict": judgement.verdict,
        "line": judgement.line,
        "reasons": judgement.reasons,
        "measures": [_as_row(finding) for finding in judgement.findings],
        "others": {"input_rank": ours.values["input_rank"], **_intervals(ours, judgement)},
        "curves": {**ours.curves, "spectrum_untrained": theirs.curves["spectrum"]},
    }


def health_table(summary: dict[str, Any]) -> str:
    """Returns a table for the terminal: measure, value, the twin's, what it should be, verdict."""
    lines = [f"{'measure':<27}{'value':>10}{'untrained':>11}  {'should be':<12}{'verdict':<11}"]
    for row in summary["measures"]:
        twin = "-" if row["untrained"] is None else f"{row['untrained']:.4g}"
        lines.append(
            f"{row['name']:<27}{row['value']:>10.4g}{twin:>11}  {row['reference']:<12}"
            f"{row['verdict']:<11}".rstrip()
        )
    rank = summary["others"]["input_rank"]
    lines.append(f"{summary['num_clips']} clips, whose pixels have rank {rank:.3g}")
    return "\n".join([*lines, f"verdict: {summary['line']}"])


def untrained_twin(model: AnyModel, *, seed: int = 0) -> AnyModel:
    """Returns the same architecture with fresh weights, in evaluation mode."""
    if isinstance(model, LatentWorldModel):
        return untrained_world_model(model, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(describe(model), device="cpu")
        predictor = None
        if model.predictor is not None:
            predictor = MaskedLatentPredictor(**model.predictor.config)
    return JepaModel(encoder, predictor=predictor).eval()


def _as_row(finding: Finding) -> dict[str, Any]:
    rule, limit = finding.rule, finding.limit
    reference = ""
    if limit is not None:
        reference = f"{'>=' if rule.is_bad == 'below' else '<='} {limit:.3g}"
    return {
        "name": rule.measure,
        "family": rule.family,
        "value": finding.value,
        "untrained": finding.untrained,
        "reference": reference,
        "verdict": finding.verdict,
        "source": rule.source,
    }


def _intervals(measured: Measured, judgement: Judgement) -> dict[str, float]:
    """Values that no rule is about: ends of intervals."""
    ruled = {finding.rule.measure for finding in judgement.findings} | {"input_rank"}
    return {name: value for name, value in measured.values.items() if name not in ruled}
