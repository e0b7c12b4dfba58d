from dataclasses import replace

import numpy as np
import pytest

from data_pipelines.pooled_statistics import pooled_statistics
from data_pipelines.trajectories import ColumnStatistics, RowSummary


def summary(states, actions):
    fields = {}
    for prefix, rows in (("state", states), ("action", actions)):
        rows_seen = RowSummary(rows.shape[1])
        rows_seen.add(rows)
        fields |= rows_seen.result(prefix)
    return ColumnStatistics(**fields)


def test_two_sources_by_hand():
    """Rows around 0 and around 4, three times as many there: 3 on average, of variance 1 + 3."""
    one = ColumnStatistics((0.0,), (1.0,), (5.0,), (0.0,))
    other = ColumnStatistics((4.0,), (1.0,), (5.0,), (2.0,))
    pooled = pooled_statistics([one, other], [1, 3])
    assert pooled.state_mean == (3.0,)
    assert pooled.state_std == pytest.approx((2.0,))
    assert (pooled.action_mean, pooled.action_std) == ((5.0,), pytest.approx((3**0.5,)))


def test_they_are_those_of_the_rows_themselves_repeated_by_their_shares():
    rng = np.random.default_rng(0)
    scales = ((0, 1, 500), (3, 0.1, 200), (-7, 4, 300))  # centre, spread, rows
    states = [rng.normal(centre, spread, (rows, 3)) for centre, spread, rows in scales]
    actions = [rng.normal(-centre, spread, (rows, 2)) for centre, spread, rows in scales]
    shares = (1, 2, 5)
    pooled = pooled_statistics(
        [summary(*pair) for pair in zip(states, actions, strict=True)], shares
    )
    for prefix, sources in (("state", states), ("action", actions)):
        # 3000 is a multiple of every number of rows, so each source gives 3000 x its share
        rows = np.concatenate(
            [
                np.tile(part, (3000 * n // len(part), 1))
                for part, n in zip(sources, shares, strict=True)
            ]
        )
        np.testing.assert_allclose(getattr(pooled, f"{prefix}_mean"), rows.mean(0), atol=1e-12)
        np.testing.assert_allclose(getattr(pooled, f"{prefix}_std"), rows.std(0), rtol=1e-12)
        assert getattr(pooled, f"{prefix}_min") == tuple(rows.min(0))
        assert getattr(pooled, f"{prefix}_max") == tuple(rows.max(0))
        low, high = (np.array(getattr(pooled, f"{prefix}_quantile_{q}")) for q in ("01", "99"))
        assert ((rows < low).mean(0) <= 0.01 + 1 / 200).all()  # one of 200 rows is half a percent
        assert ((rows > high).mean(0) <= 0.01 + 1 / 200).all()


def test_one_source_is_itself():
    rows = np.random.default_rng(1).normal(size=(40, 2))
    one = summary(rows, rows[:, :1])
    pooled = pooled_statistics([one], [0.3])
    for name, column in vars(one).items():
        assert getattr(pooled, name) == pytest.approx(column)


def test_what_one_source_does_not_know_nobody_knows():
    rows = np.random.default_rng(1).normal(size=(40, 2))
    known = summary(rows, rows)
    old = replace(known, state_min=(), state_quantile_01=(), action_max=())
    pooled = pooled_statistics([known, old], [1, 1])
    assert (pooled.state_min, pooled.state_quantile_01, pooled.action_max) == ((), (), ())
    assert pooled.state_max == known.state_max and pooled.action_min == known.action_min


@pytest.mark.parametrize(
    ("num_sources", "shares", "said"),
    [
        (0, [], "0 shares for the statistics of 0 sources"),
        (2, [1], "1 shares for the statistics of 2 sources"),
        (2, [1, 0], r"shares must be positive and finite, got \[1, 0\]"),
        (2, [1, float("nan")], "must be positive and finite"),
    ],
)
def test_shares_without_a_meaning_are_refused(num_sources, shares, said):
    one = ColumnStatistics((0.0,), (1.0,), (5.0,), (0.0,))
    with pytest.raises(ValueError, match=said):
        pooled_statistics([one] * num_sources, shares)


def test_sources_of_other_columns_are_refused():
    one = ColumnStatistics((0.0,), (1.0,), (5.0,), (0.0,))
    two = ColumnStatistics((0.0, 1.0), (1.0, 1.0), (5.0,), (0.0,))
    with pytest.raises(ValueError, match=r"sources of 1 and 2 columns \(state_mean\)"):
        pooled_statistics([one, two], [1, 1])
