"""Healthy, suspicious, untrained or collapsed: all rules in one table.

A value is compared with a limit that is the larger of a number and a share of the same measure of
the untrained twin (the same architecture, fresh weights, the same data): data of little variety
lower the twin's rank as well, and then no fault is found with the model. The shares were chosen on
encoders of `checkpoints/two_rooms` and of short pretrainings (healthy: effective rank .4 to .6 of
the twin's, LiDAR .9 and more) and on the same encoders collapsed on purpose (few directions: .11
and .12 with three of 96 left), in the wide gap between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jepa.training.collapse import LEAST_RANK, CollapsePolicy

Verdict = Literal["healthy", "suspicious", "untrained", "collapsed"]
MIN_STD = CollapsePolicy().min_std
LEAST_INPUT_RANK = 1.5  # of the clips' pixels: below, all clips look the same
SAME_AS_TWIN = 0.15  # relative: measures that are all nearer than that are of an untrained model
# Two seeds of one architecture differ by at most a tenth in these (seven seeds, eight clips; in
# LiDAR by a quarter); training moves one of them far.
SIGNS_OF_TRAINING = (
    "effective_rank", "clip_rank", "alpha_req", "relative_std", "attention_entropy"
)  # fmt: skip
LEAST_SIGNS = 3
TWIN = "the untrained twin's"

REGULARIZE = (
    "raise the EMA momentum or the regularizers' weight, lower the learning rate, or hide more "
    "(docs/training.md)"
)
PREDICT = "train longer, or give the predictor more depth"
LOOK = "look at the data and at other layers"


class Bound(NamedTuple):
    """Which values are bad: those below (or above) the larger of two limits.

    Attributes:
        absolute: the limit without a twin.
        twin_share: times the twin's value, the other limit; None: there is no other.
    """

    absolute: float
    twin_share: float | None = None

    def limit(self, twin: float | None) -> float:
        """Returns the limit beside a twin's value."""
        if twin is None or self.twin_share is None:
            return self.absolute
        return max(self.absolute, self.twin_share * twin)


@dataclass(frozen=True)
class Rule:
    """What one measure should be.

    Attributes:
        measure: its name.
        family: the measures it belongs to.
        is_bad: on which side of a limit values are bad.
        collapsed: the limit of collapse; None: this measure alone proves none.
        suspicious: the limit of suspicion.
        source: where measure and limit come from.
        advice: what to do about it.
    """

    measure: str
    family: str
    is_bad: Literal["below", "above"] = "below"
    collapsed: Bound | None = None
    suspicious: Bound | None = None
    source: str = ""
    advice: str = REGULARIZE


NEVER = float("-inf")
RULES = (
    Rule("effective_rank", "rank", collapsed=Bound(LEAST_RANK, 0.15), suspicious=Bound(2.0, 0.25),
         source="RankMe (arXiv:2210.02885) of all tokens; 1 is one direction"),
    Rule("clip_rank", "rank", collapsed=Bound(1.2, 0.15), suspicious=Bound(1.5, 0.25),
         source="RankMe of the clips' mean tokens"),
    Rule("lidar", "rank", collapsed=Bound(1.2, 0.2), suspicious=Bound(1.5, 0.4),
         source="LiDAR (arXiv:2312.04000): rank of what tells clips apart"),
    Rule("alpha_req", "rank", source="alpha-ReQ (NeurIPS 2022): best near 1; no limit known"),
    Rule("relative_std", "spread", collapsed=Bound(MIN_STD), suspicious=Bound(0.03, 0.2),
         source="std over root mean square; the floor is CollapsePolicy.min_std"),
    Rule("feature_std", "spread", collapsed=Bound(1e-9, 0.1), suspicious=Bound(1e-9, 0.3),
         source="std of a dimension; in training only, where the start has the same units: "
         "embeddings that are not normed may shrink to a point"),
    Rule("clip_variance", "spread", collapsed=Bound(1e-9, 0.01), suspicious=Bound(1e-6, 0.04),
         source="share of the variance between clips; 0: all clips have the same tokens"),
    Rule("place_variance", "spread", collapsed=Bound(1e-9, 0.01), suspicious=Bound(1e-6, 0.1),
         source="share of the variance between places; 0: all tokens of a clip are equal"),
    Rule("dead_dimensions", "spread", "above", collapsed=Bound(0.9, 2.0),
         suspicious=Bound(0.1, 2.0), source="share with less than 1 % of the median std"),
    Rule("alignment", "sphere", source="Wang & Isola 2020: 0 if two views of a clip agree"),
    Rule("uniformity", "sphere", "above", suspicious=Bound(NEVER, 0.05),
         source="Wang & Isola 2020: 0 if all clips agree, lower if they are spread"),
    Rule("dead_tokens", "tokens", "above", collapsed=Bound(0.95, 2.0), suspicious=Bound(0.2, 2.0),
         source="share of changing places whose token does not change"),
    Rule("duplicate_tokens", "tokens", "above", collapsed=Bound(0.95, 2.0),
         suspicious=Bound(0.3, 2.0), source="share of unlike places with like tokens"),
    Rule("attention_entropy", "attention", suspicious=Bound(0.05), advice="lower the learning rate",
         source="share of log(tokens), mean over heads; near 0 training is unstable "
         "(arXiv:2303.06296)"),
    Rule("least_attention_entropy", "attention", source="that of the narrowest head"),
    Rule("ema_distance", "target", "above", suspicious=Bound(0.5), advice="lower the EMA momentum",
         source="|target - online| / |online| of the weights; chosen: a target half as far off "
         "as the weights are long is another network"),
    Rule("ema_feature_lag", "target", "above", suspicious=Bound(0.5),
         advice="lower the EMA momentum", source="1 - cosine of target's and online's tokens"),
    Rule("prediction_cosine", "prediction", source="prediction and target"),
    Rule("prediction_cosine_shuffled", "prediction", source="the target of another clip"),
    Rule("prediction_cosine_mean", "prediction", source="the mean target instead of a prediction"),
    Rule("prediction_gain", "prediction", suspicious=Bound(0.0), advice=PREDICT,
         source="1 - error over that of the mean target; 0: the predictor is no better"),
    Rule("prediction_gain_over_copy", "prediction", suspicious=Bound(0.0), advice=PREDICT,
         source="1 - error over that of predicting no change"),
    Rule("latent_rank", "latents", collapsed=Bound(1.2, 0.15), suspicious=Bound(1.5, 0.25),
         source="RankMe of the world model's latents over frames"),
    Rule("latent_relative_std", "latents", collapsed=Bound(MIN_STD), suspicious=Bound(0.03),
         source="as relative_std"),
    Rule("state_correlation", "geometry", suspicious=Bound(0.0), advice=LOOK,
         source="Spearman of latent and state distance over pairs of frames"),
    Rule("state_monotonic_share", "geometry",
         source="share of pairs within the radius up to which latent distance grows"),
    Rule("planning_signal", "planning", advice=PREDICT,
         source="(random - true cost) / std of random costs"),
    Rule("planning_signal_low", "planning", suspicious=Bound(0.0), advice=PREDICT,
         source="lower end of its 95 % interval: 0 or less: the cost cannot tell actions apart"),
    Rule("planning_share_beaten", "planning", source="random sequences that cost more; .5: none"),
)  # fmt: skip


class Finding(NamedTuple):
    """What a rule says of a value.

    Attributes:
        rule: the rule.
        value: what was measured.
        untrained: the twin's; None if there is none.
        verdict: "ok", "suspicious", "collapsed", or "" where there is no limit.
        limit: the limit that was crossed, or that of suspicion; None if there is none.
    """

    rule: Rule
    value: float
    untrained: float | None
    verdict: Literal["ok", "suspicious", "collapsed", ""]
    limit: float | None

    def reason(self, twin_name: str = TWIN) -> str:
        """Says measure, value and limit, and where the limit comes from."""
        assert self.limit is not None
        text = f"{self.rule.measure} {self.value:.3g} is {self.rule.is_bad} {self.limit:.3g}"
        bound = self.rule.collapsed if self.verdict == "collapsed" else self.rule.suspicious
        if self.untrained is None or bound is None or bound.twin_share is None:
            return text
        if self.limit == bound.absolute:
            return text
        return f"{text}, {bound.twin_share:g} of {twin_name} {self.untrained:.3g}"


class Judgement(NamedTuple):
    """The verdict on a model.

    Attributes:
        verdict: the overall one.
        reasons: why, none if healthy.
        findings: one per measure that was taken, in the order of the rules.
    """

    verdict: Verdict
    reasons: list[str]
    findings: list[Finding]

    @property
    def line(self) -> str:
        """The verdict with its reasons."""
        return self.verdict if not self.reasons else f"{self.verdict} ({'; '.join(self.reasons)})"


def judge(
    values: Mapping[str, float],
    twin: Mapping[str, float] | None = None,
    *,
    twin_name: str = TWIN,
) -> Judgement:
    """Judges measures beside those of the untrained twin, or of the same model before training.

    Args:
        values: by name; see `RULES`. `input_rank` is that of the data.
        twin: the same of the twin; None: only absolute limits count.
        twin_name: what reasons call it.
    """
    twin = twin or {}
    findings = [
        judge_one(rule, values[rule.measure], twin.get(rule.measure))
        for rule in RULES
        if rule.measure in values
    ]
    if values.get("input_rank", LEAST_INPUT_RANK) < LEAST_INPUT_RANK:
        rank = values["input_rank"]
        reason = f"all clips look the same (input_rank {rank:.3g}): give other data"
        return Judgement("suspicious", [reason], findings)
    bad = {
        verdict: [found.reason(twin_name) for found in findings if found.verdict == verdict]
        for verdict in ("collapsed", "suspicious")
    }
    if bad["collapsed"]:
        return Judgement("collapsed", bad["collapsed"], findings)
    if _is_like(values, twin):
        reason = "no sign of training differs from the untrained twin's by more than 15 %"
        return Judgement("untrained", [reason], findings)
    verdict: Verdict = "suspicious" if bad["suspicious"] else "healthy"
    return Judgement(verdict, bad["suspicious"], findings)


def judge_one(rule: Rule, value: float, twin: float | None) -> Finding:
    """Compares one value with the limits of a rule."""
    if rule.collapsed is not None and _is_crossed(rule, rule.collapsed, value, twin):
        return Finding(rule, value, twin, "collapsed", rule.collapsed.limit(twin))
    bound = rule.suspicious or rule.collapsed
    if bound is None:
        return Finding(rule, value, twin, "", None)
    is_bad = _is_crossed(rule, bound, value, twin)
    return Finding(rule, value, twin, "suspicious" if is_bad else "ok", bound.limit(twin))


def _is_crossed(rule: Rule, bound: Bound, value: float, twin: float | None) -> bool:
    limit = bound.limit(twin)
    return value < limit if rule.is_bad == "below" else value > limit


def _is_like(values: Mapping[str, float], twin: Mapping[str, float]) -> bool:
    """True if all signs of training that both have are nearly equal."""
    signs = [name for name in SIGNS_OF_TRAINING if name in values and name in twin]
    near = [abs(values[name] - twin[name]) <= SAME_AS_TWIN * abs(twin[name]) for name in signs]
    return len(signs) >= LEAST_SIGNS and all(near)
