import logging
import math
import time

import pytest
import torch
from torch import nn

from jepa.training.collapse import (
    MAX_ROWS,
    CollapseMonitor,
    CollapsePolicy,
    clip_cosine,
    clip_std,
    dead_dimensions,
    effective_rank,
    feature_std,
    target_online_distance,
)


def with_singular_values(*values, offset=0.0):
    """Rows of mean `offset` whose singular values are in the ratio of the values."""
    half = torch.diag(torch.tensor(values))
    return torch.cat((half, -half)) + offset


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize(
    ("values", "rank"),
    [
        ((1.0,) * 8, 8.0),
        ((2.0, 2.0, 0.0, 0.0), 2.0),
        ((1.0, 0.0, 0.0), 1.0),
        ((3.0, 1.0), math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))),
    ],
)
def test_the_effective_rank_worked_out_by_hand(values, rank, offset):
    features = with_singular_values(*values, offset=offset)
    assert effective_rank(features).item() == pytest.approx(rank, abs=1e-4)


def test_the_effective_rank_does_not_change_with_scale_or_rotation():
    features = torch.randn(50, 6) * torch.arange(1.0, 7.0)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6))
    turned = effective_rank(features @ rotation * 30)
    torch.testing.assert_close(turned, effective_rank(features), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "features", [torch.full((40, 7), 0.1), torch.zeros(40, 7), torch.ones(1, 7)]
)
def test_what_does_not_vary_has_rank_one(features):
    assert effective_rank(features).item() == pytest.approx(1.0)


def test_rows_beyond_the_limit_are_chosen_from_all_places_of_the_grid():
    """61440 rows in which every 16th is alike: a stride of 16 would see one kind only."""
    features = torch.eye(16).repeat(61440 // 16, 1)
    assert len(features) // MAX_ROWS + 1 == 16
    assert effective_rank(features).item() == pytest.approx(15.0, abs=0.01)  # 16, less the mean


def test_features_of_another_layout_are_refused():
    with pytest.raises(ValueError, match=r"must be \(rows, dim\), got \(2, 3, 4\)"):
        effective_rank(torch.zeros(2, 3, 4))


def test_the_feature_std_is_over_rows_and_averaged_over_dimensions():
    features = torch.tensor([[0.0, 5.0], [2.0, 5.0]])  # standard deviations sqrt(2) and 0
    assert feature_std(features).item() == pytest.approx(math.sqrt(2) / 2)


def test_the_distance_of_target_and_online_is_relative_to_the_online_one():
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    assert target_online_distance(one, one) == 0
    for module, value in ((one, 1.5), (two, 1.0)):
        for parameter in module.parameters():
            nn.init.constant_(parameter, value)
    assert target_online_distance(one, two).item() == pytest.approx(0.5)


def test_clips_with_the_same_tokens_have_no_std_between_them_though_their_places_differ():
    tokens = torch.randn(1, 30, 8).expand(4, -1, -1)
    assert clip_std(tokens) == 0
    assert feature_std(tokens.flatten(0, 1)) > 0.5
    apart = torch.tensor([[[0.0, 5.0]], [[2.0, 5.0]]])  # two clips of one token
    assert clip_std(apart).item() == pytest.approx(0.5)  # standard deviations 1 and 0


def test_the_cosine_of_clips_worked_out_by_hand():
    same, opposite = torch.ones(3, 5, 4), torch.ones(2, 5, 4)
    opposite[1] = -1
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])[:, None]
    assert clip_cosine(same).item() == pytest.approx(1.0)
    assert clip_cosine(opposite).item() == pytest.approx(-1.0)
    assert clip_cosine(square).item() == pytest.approx(-1 / 3)  # pairs: 0, -1, 0
    assert clip_cosine(torch.randn(1, 5, 4)) == 1


def test_dimensions_that_hardly_vary_are_dead():
    features = torch.randn(100, 8)
    assert dead_dimensions(features) == 0
    features[:, :2] *= 1e-4
    assert dead_dimensions(features).item() == pytest.approx(0.25)


@pytest.fixture
def monitor():
    return CollapseMonitor(CollapsePolicy(min_rank_fraction=0.25), every_n_steps=10)


HEALTHY = torch.randn(4, 30, 8, generator=torch.Generator().manual_seed(0))
LOW_RANK = HEALTHY[..., :1] * torch.ones(8)
TINY = HEALTHY * 1e-4
ALIKE = HEALTHY[:1].expand(4, -1, -1)


def measure(monitor, tokens):
    return monitor.measure(tokens, nn.Linear(2, 2), nn.Linear(2, 2))


def test_healthy_features_are_measured_without_a_warning(monitor, caplog):
    report = measure(monitor, HEALTHY)
    assert 7 < report["collapse/effective_rank"] <= 8
    assert report["collapse/feature_std"].item() == pytest.approx(1.0, abs=0.1)
    assert report["collapse/target_online_distance"] > 0
    assert report["collapse/dead_dimensions"] == 0
    assert caplog.records == []


def test_an_encoder_that_is_its_own_target_has_no_distance(monitor):
    module = nn.Linear(2, 2)
    for report in (monitor.measure(HEALTHY, module, module), monitor.measure(HEALTHY)):
        assert "collapse/target_online_distance" not in report


def test_clips_that_look_alike_are_seen_in_the_rank_over_clips():
    policy = CollapsePolicy(min_rank_fraction=0, min_std=0)
    report = measure(CollapseMonitor(policy, every_n_steps=1), ALIKE)
    assert report["collapse/effective_rank"] > 7
    assert report["collapse/clip_rank"].item() == pytest.approx(1.0, abs=1e-3)
    assert report["collapse/clip_cosine"].item() == pytest.approx(1.0)


@pytest.mark.parametrize("collapsed", [LOW_RANK, TINY, ALIKE], ids=["rank", "std", "clips"])
def test_collapse_is_said_once_and_only_when_it_is_there(collapsed, monitor, caplog):
    with caplog.at_level(logging.WARNING):
        for tokens in (HEALTHY, collapsed, collapsed, collapsed):
            measure(monitor, tokens)
    (record,) = caplog.records
    assert "the representation is collapsing: effective rank" in record.getMessage()
    assert "of 8 (floor 2.0)" in record.getMessage()
    assert "raise the EMA momentum" in record.getMessage()


def test_a_single_clip_is_no_collapse(monitor, caplog):
    measure(monitor, HEALTHY[:1])
    assert caplog.records == []


def test_collapse_stops_the_run_if_asked_and_after_as_many_measurements_as_asked():
    policy = CollapsePolicy(on_collapse="stop", min_rank_fraction=0.25, patience=2)
    monitor = CollapseMonitor(policy, every_n_steps=1)
    for tokens in (LOW_RANK, HEALTHY, LOW_RANK):
        measure(monitor, tokens)
    with pytest.raises(ValueError, match=r"is collapsing: .*; on_collapse=warn goes on"):
        measure(monitor, LOW_RANK)


def test_its_share_of_the_time_is_measured_from_the_second_measurement_on(monitor):
    assert "health/seconds_share" not in measure(monitor, HEALTHY)
    time.sleep(0.05)
    assert 0 < measure(monitor, HEALTHY)["health/seconds_share"] < 0.5


def test_it_is_due_at_the_first_step_and_at_every_step_that_lightning_logs(monitor):
    assert [step for step in range(31) if monitor.is_due(step)] == [0, 9, 19, 29]
    with pytest.raises(ValueError, match="every_n_steps must be at least 1, got 0"):
        CollapseMonitor(every_n_steps=0)


@pytest.mark.parametrize("options", [{"min_rank_fraction": 2.0}, {"min_std": -1}, {"patience": 0}])
def test_a_policy_out_of_range_is_refused(options):
    with pytest.raises(
        ValueError, match=r"min_rank_fraction must be in \[0, 1\], min_std at least"
    ):
        CollapsePolicy(**options)


def test_nothing_has_collapsed_before_the_first_update(caplog):
    monitor = CollapseMonitor(every_n_steps=1)
    monitor.measure(ALIKE, is_trained=False)
    assert not monitor.warned
    assert caplog.text == ""


def test_a_representation_that_recovered_may_collapse_again_and_is_told_again(caplog):
    monitor = CollapseMonitor(every_n_steps=1)
    for tokens in (ALIKE, ALIKE, HEALTHY, ALIKE):
        monitor.measure(tokens)
    assert caplog.text.count("the representation is collapsing") == 2


def test_the_floor_of_a_narrow_representation_is_above_the_least_rank_there_is():
    line = torch.randn(64, 1, 1) * torch.ones(1, 1, 16)  # 16 dimensions, one direction
    monitor = CollapseMonitor(CollapsePolicy(min_std=0.0), every_n_steps=1)
    monitor.measure(line)
    assert monitor.warned


def test_the_floor_of_the_rank_is_a_share_of_the_dimensions_and_never_one_direction():
    assert CollapsePolicy(min_rank_fraction=0.1).rank_floor(96) == pytest.approx(9.6)
    assert CollapsePolicy(min_rank_fraction=0.1).rank_floor(4) == 1.5
    assert CollapsePolicy(min_rank_fraction=0.0).rank_floor(96) == 0
