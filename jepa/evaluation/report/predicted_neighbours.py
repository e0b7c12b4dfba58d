"""Nearest neighbours of predicted latents: what the model thinks comes next, as real frames."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from torch import Tensor

from jepa.evaluation.report.imagination import Distance, Imagination
from jepa.evaluation.report.pieces import number, photo, table
from jepa.evaluation.report.section import Finding, NotMeasured, Section
from jepa.evaluation.scores import Interval, bootstrap_interval

NUM_QUERIES, NUM_NEIGHBOURS = 4, 3
SHOWN_STEP = 4  # steps ahead, or as far as the horizon goes
TOP = 5


@dataclass(frozen=True)
class NeighbourRanks:
    """Where the frame that came is among all frames, nearest first; 1 is the best rank.

    Attributes:
        predicted: (clips, horizon), by distance to the predicted latent.
        current: (clips, horizon), by distance to the latent of the last frame that was seen.
        num_frames: of the bank that is searched, which holds the frame that came.
    """

    predicted: np.ndarray
    current: np.ndarray
    num_frames: int

    def top_share(self, which: str, step: int) -> Interval:
        """Share of clips whose next frame is among the nearest five, from 0 to 1."""
        return bootstrap_interval((getattr(self, which)[:, step] <= TOP).astype(float))

    def gain(self, step: int) -> Interval:
        """By how much the predicted latent does better, of the same clips."""
        better = (self.predicted[:, step] <= TOP).astype(float)
        return bootstrap_interval(better - (self.current[:, step] <= TOP))


def neighbour_section(imagined: Imagination) -> Section:
    """Returns pictures and ranks of what is nearest to the predicted latents."""
    ranks = neighbour_ranks(imagined)
    last = imagined.horizon - 1
    gain = ranks.gain(last)
    numbers = {
        "bank_frames": ranks.num_frames,
        "clips": len(ranks.predicted),
        "steps": [_step_numbers(ranks, step) for step in range(imagined.horizon)],
    }
    html = (
        f"<p>{escape(imagined.words)} The predicted latent is looked up among those of "
        f"{number(ranks.num_frames)} real frames of held-out videos, the one that really came "
        "among them.</p>\n"
        f"{_rank_table(ranks, imagined)}{_pictures(imagined)}"
    )
    return Section(html, numbers, (_finding(gain, imagined, ranks),))


def neighbour_ranks(imagined: Imagination) -> NeighbourRanks:
    """Ranks the frames that came by distance to what was predicted, and to what was seen last.

    Frames at equal distance share the mean of their ranks: a model to which all frames are alike
    gets the middle of the bank, and not the first place.

    Raises:
        NotMeasured: if a distance is not finite.
    """
    num_clips, num_times = imagined.latents.shape[:2]
    bank = imagined.latents.flatten(0, 1)
    ranks = np.empty((2, num_clips, imagined.horizon))
    for clip in range(num_clips):
        truths = clip * num_times + imagined.num_seen + np.arange(imagined.horizon)
        ranks[1, clip] = _ranks(imagined.distance, bank, imagined.current[clip], truths)
        for step in range(imagined.horizon):
            query, truth = imagined.predicted[clip, step], truths[step : step + 1]
            ranks[0, clip, step] = _ranks(imagined.distance, bank, query, truth)[0]
    return NeighbourRanks(ranks[0], ranks[1], len(bank))


def nearest(imagined: Imagination, query: Tensor, count: int) -> np.ndarray:
    """Returns the `count` nearest frames (count, 2) as clip and time, nearest first."""
    distances = imagined.distance(imagined.latents.flatten(0, 1), query)
    flat = torch.topk(distances, count, largest=False, sorted=True).indices.numpy()
    return np.stack(np.divmod(flat, imagined.latents.shape[1]), -1)


def _ranks(distance: Distance, bank: Tensor, query: Tensor, truths: np.ndarray) -> np.ndarray:
    distances = distance(bank, query).double().numpy()
    if not np.isfinite(distances).all():
        raise NotMeasured("the model predicts latents that are NaN or infinite")
    return np.array([_rank(distances, int(truth)) for truth in truths])


def _rank(distances: np.ndarray, truth: int) -> float:
    """1 + how many are nearer + half of how many others are as near."""
    nearer = (distances < distances[truth]).sum()
    as_near = (distances == distances[truth]).sum() - 1
    return float(1 + nearer + as_near / 2)


def _step_numbers(ranks: NeighbourRanks, step: int) -> dict[str, object]:
    shares = {which: ranks.top_share(which, step) for which in ("predicted", "current")}
    return {
        "step": step + 1,
        **{f"{which}_top_{TOP}": list(share) for which, share in shares.items()},
        "predicted_median_rank": float(np.median(ranks.predicted[:, step])),
        "current_median_rank": float(np.median(ranks.current[:, step])),
    }


def _rank_table(ranks: NeighbourRanks, imagined: Imagination) -> str:
    steps = sorted({0, min(SHOWN_STEP, imagined.horizon) - 1, imagined.horizon - 1})
    rows = []
    for step in steps:
        shares = [ranks.top_share(which, step) for which in ("predicted", "current")]
        medians = [float(np.median(part[:, step])) for part in (ranks.predicted, ranks.current)]
        rows.append([
            f"{escape(imagined.ahead(step + 1))} ahead",
            *(f"{_percentages(share)}" for share in shares),
            *(number(median) for median in medians),
        ])  # fmt: skip
    head = ["The frame that came", f"in the {TOP} nearest to the predicted latent",
            f"in the {TOP} nearest to the current latent", "median rank, predicted",
            "median rank, current"]  # fmt: skip
    by_chance = 100 * TOP / ranks.num_frames
    middle = (ranks.num_frames + 1) / 2
    return table(
        head,
        rows,
        caption="With 95 % bootstrap intervals over videos. The current latent is the baseline: it "
        f"says that nothing will change. By chance {by_chance:.1f} % are among the nearest {TOP}, "
        f"and the median rank is {middle:.0f}. It would be bad if the predicted latent were no "
        "better than the current one.",
    )


def _percentages(share: Interval) -> str:
    value, low, high = (f"{100 * part:.0f}" for part in share)
    return f"<b>{value}&nbsp;%</b> <small>{low} to {high}&nbsp;%</small>"


def _pictures(imagined: Imagination) -> str:
    step = min(SHOWN_STEP, imagined.horizon) - 1
    chosen = np.unique(np.linspace(0, len(imagined.latents) - 1, NUM_QUERIES).round().astype(int))
    queries = "".join(_query(imagined, int(clip), step) for clip in chosen)
    steps = imagined.ahead(step + 1)
    return (
        f'<figure><div class="queries">{queries}</div><figcaption>{len(chosen)} videos, evenly '
        f"spaced over those read; {escape(steps)} ahead. A green frame is the one that really "
        "came, found again.</figcaption></figure>\n"
    )


def _query(imagined: Imagination, clip: int, step: int) -> str:
    truth = (clip, imagined.num_seen + step)
    cells = [
        _cell(imagined.current_frames[clip], "seen last", is_right=False),
        _cell(imagined.true_frames[clip, step], "what came", is_right=False),
    ]
    queries = {
        "predicted": imagined.predicted[clip, step],
        "current": imagined.current[clip],
    }
    count = min(NUM_NEIGHBOURS, len(imagined.latents.flatten(0, 1)))
    for word, query in queries.items():
        for place, (other, time) in enumerate(nearest(imagined, query, count), start=1):
            name = f"{word}, {place}" if word == "predicted" else f"baseline, {place}"
            is_right = (int(other), int(time)) == truth
            cells.append(_cell(imagined.frames[other, time], name, is_right=is_right))
    return f'<div class="query">{"".join(cells)}</div>'


def _cell(frame: np.ndarray, name: str, *, is_right: bool) -> str:
    described = f"{name}: the frame that came" if is_right else name
    marker = ' class="right"' if is_right else ""
    return f"<figure{marker}>{photo(frame, described)}<figcaption>{name}</figcaption></figure>"


def _finding(gain: Interval, imagined: Imagination, ranks: NeighbourRanks) -> Finding:
    last = imagined.horizon - 1
    ours, theirs = (100 * ranks.top_share(which, last).value for which in ("predicted", "current"))
    text = (
        f"{imagined.ahead(imagined.horizon)} ahead, the frame that came is among the {TOP} nearest "
        f"to the predicted latent in {ours:.0f} % of {len(ranks.predicted)} videos, to the current "
        f"latent in {theirs:.0f} % (difference {100 * gain.value:.0f} [{100 * gain.low:.0f}, "
        f"{100 * gain.high:.0f}] points)"
    )
    return Finding(text, gain.low > 0)
