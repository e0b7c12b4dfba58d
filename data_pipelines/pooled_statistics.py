"""Statistics of several sources of trajectories as one: out of theirs, no row is read again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from data_pipelines.trajectories import ColumnStatistics


def pooled_statistics(
    sources: Sequence[ColumnStatistics], shares: Sequence[float]
) -> ColumnStatistics:
    """Returns the statistics of rows of which each source gives its share.

    A source's number of rows does not count, only its share: with the shares of a mixture's batches
    these are the statistics of what a model is trained on.

    Mean and spread are exact: mean = sum_i share_i mean_i, variance = sum_i share_i (std_i^2 +
    (mean_i - mean)^2). So are extremes: the least of the least, the greatest of the greatest.
    Quantiles cannot be had from those of the sources; the outermost ones are taken, so that at most
    1 % of the rows lie below "01", and at most 1 % above "99". What one source does not know (as of
    sets that were packed before extremes were kept) is () in the result.

    Args:
        sources: with equal columns.
        shares: of each source, as parts of one another, above 0.

    Raises:
        ValueError: if there is no source, not one share for each, a share that is not positive and
            finite, or if columns differ in number.
    """
    if not sources or len(sources) != len(shares):
        raise ValueError(f"{len(shares)} shares for the statistics of {len(sources)} sources")
    if any(not 0 < share < math.inf for share in shares):
        raise ValueError(f"shares must be positive and finite, got {list(shares)}")
    fields = {
        f"{prefix}_{name}": column
        for prefix in ("state", "action")
        for name, column in _pooled_columns(sources, np.array(shares), prefix).items()
    }
    return ColumnStatistics(**{name: tuple(column.tolist()) for name, column in fields.items()})


def _pooled_columns(
    sources: Sequence[ColumnStatistics], shares: np.ndarray, prefix: str
) -> dict[str, np.ndarray]:
    """Returns mean, std, min, ... of the state or the action columns."""
    weights = (shares / shares.sum())[:, None]  # (sources, 1)
    means, stds = (_stacked(sources, f"{prefix}_{name}") for name in ("mean", "std"))
    mean = (weights * means).sum(0)
    variance = (weights * (stds**2 + (means - mean) ** 2)).sum(0)
    return {
        "mean": mean,
        "std": np.sqrt(variance),
        "min": _stacked(sources, f"{prefix}_min").min(0),
        "max": _stacked(sources, f"{prefix}_max").max(0),
        "quantile_01": _stacked(sources, f"{prefix}_quantile_01").min(0),
        "quantile_99": _stacked(sources, f"{prefix}_quantile_99").max(0),
    }


def _stacked(sources: Sequence[ColumnStatistics], name: str) -> np.ndarray:
    """Returns a field of all sources: (sources, columns), without columns if one lacks it."""
    columns = [getattr(source, name) for source in sources]
    if not all(columns):
        columns = [()] * len(columns)
    if len({len(column) for column in columns}) > 1:
        raise ValueError(
            f"sources of {' and '.join(str(len(column)) for column in columns)} columns "
            f"({name}) have no statistics in common"
        )
    return np.array(columns, dtype=np.float64)
