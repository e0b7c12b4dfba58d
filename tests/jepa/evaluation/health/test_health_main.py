import json

import pytest

from jepa.checkpoints.native import save_model
from jepa.evaluation.health.__main__ import main
from jepa.models import JepaModel
from tests.jepa.evaluation.health.collapsed_encoders import few_directions, fresh


@pytest.fixture(scope="module")
def collapsed_folder(tmp_path_factory):
    return str(save_model(JepaModel(few_directions(1)), tmp_path_factory.mktemp("collapsed")))


def test_a_collapsed_checkpoint_is_called_so_and_written_down(
    collapsed_folder, clip_shards, tmp_path, capsys
):
    arguments = [collapsed_folder, "--data", clip_shards, "--clips", "16"]
    assert main([*arguments, "--out", str(tmp_path / "health.json")]) == 0
    printed = capsys.readouterr().out
    assert "verdict: collapsed (effective_rank 1" in printed
    summary = json.loads((tmp_path / "health.json").read_text())
    assert summary["verdict"] == "collapsed"
    assert summary["line"] in printed


def test_the_exit_code_is_one_for_a_collapsed_model_if_asked(collapsed_folder, clip_shards):
    assert main([collapsed_folder, "--data", clip_shards, "--clips", "8", "--fail-on-collapse"])


def test_an_untrained_checkpoint_has_not_collapsed(
    encoder_folder, trajectory_shards, capsys, tmp_path
):
    arguments = [encoder_folder, "--data", trajectory_shards, "--clips", "8", "--seed", "5"]
    assert main([*arguments, "--fail-on-collapse"]) == 0
    printed = capsys.readouterr().out
    assert "verdict: untrained" in printed
    assert "state_correlation" in printed  # trajectories have states


def test_the_lag_is_measured_against_an_online_encoder_of_one_architecture(
    encoder_folder, clip_shards, tmp_path, capsys
):
    other = str(save_model(JepaModel(fresh(3)), tmp_path / "other"))
    arguments = [encoder_folder, "--data", clip_shards, "--clips", "8", "--online"]
    main([*arguments, other])
    assert "ema_feature_lag" in capsys.readouterr().out
    narrow = str(save_model(JepaModel(fresh(3, dim=24, num_heads=2)), tmp_path / "narrow"))
    with pytest.raises(ValueError, match="has another architecture"):
        main([*arguments, narrow])


def test_too_few_clips_and_missing_files_are_one_clear_line(encoder_folder, clip_shards, tmp_path):
    with pytest.raises(ValueError, match="at least 2 clips, got --clips 1"):
        main([encoder_folder, "--data", clip_shards, "--clips", "1"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        main([str(tmp_path / "nowhere"), "--data", clip_shards])


def test_a_world_model_wants_trajectories(clip_shards):
    with pytest.raises(ValueError, match="give shards of trajectories"):
        main(["two_rooms", "--data", clip_shards])
