"""What a newcomer gets wrong with `jepa fit`: each one clear line, exit code 2, no traceback."""

import json
import shutil
import tarfile

import pytest
import torch

from data_pipelines.shards import pack_videos
from data_pipelines.synthetic import write_moving_shapes
from jepa import lightning_cli  # noqa: F401  (Lightning's log goes to no single test's stderr)
from jepa.__main__ import main


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_moving_shapes(folder, num_videos=6, num_frames=16, size=64)
    return folder


@pytest.fixture(scope="module")
def shards(videos, tmp_path_factory):
    return pack_videos(videos, tmp_path_factory.mktemp("shards") / "good").folder


@pytest.fixture
def fit(tmp_path, capfd, monkeypatch):
    """Runs two steps; returns the exit code and the error lines."""
    monkeypatch.chdir(tmp_path)

    def run(*options):
        code = main([
            "fit", "--config", "pretrain/tiny.yaml", "--trainer.accelerator", "cpu",
            "--trainer.max_steps", "2", "--data.steps_per_epoch", "2", "--data.batch_size", "4",
            "--trainer.enable_model_summary", "false", *map(str, options),
        ])  # fmt: skip
        run.printed, errors = capfd.readouterr()
        assert "Traceback" not in errors
        return code, [line for line in errors.splitlines() if line.startswith("error: ")]

    return run


def test_a_misspelt_key_gets_a_suggestion(fit, shards):
    code, errors = fit("--data.shards", shards, "--data.batch_siz", 3)
    assert code == 2 and len(errors) == 1
    assert "has no option 'batch_siz'; did you mean 'batch_size'?" in errors[0]


def test_shards_that_are_not_there_are_named(fit):
    code, errors = fit("--data.shards", "nowhere")
    assert code == 2 and len(errors) == 1
    assert "no shard folder or .tar at nowhere" in errors[0]


def test_a_shard_missing_from_the_folder_is_named(fit, shards, tmp_path):
    broken = shutil.copytree(shards, tmp_path / "broken")
    (broken / "shard-000000.tar").unlink()
    code, errors = fit("--data.shards", broken)
    assert code == 2 and len(errors) == 1
    assert "shard-000000.tar is in the index but missing" in errors[0]


def test_an_empty_folder_says_how_to_fill_it(fit, tmp_path):
    (tmp_path / "empty").mkdir()
    code, errors = fit("--data.shards", tmp_path / "empty")
    assert code == 2 and len(errors) == 1
    assert "is empty; make one with `data pack`" in errors[0]


def test_a_clip_longer_than_every_video_is_refused_with_both_lengths(fit, shards):
    code, errors = fit("--data.shards", shards, "--data.clip_length_frames", 64)
    assert code == 2 and len(errors) == 1
    assert "6 of 6 samples skipped" in errors[0]
    assert "clip needs 64 frames" in errors[0] and "the video has 16" in errors[0]


def test_an_output_folder_that_is_a_file_is_refused_before_training(fit, shards, tmp_path):
    (tmp_path / "file").write_text("")
    code, errors = fit("--data.shards", shards, "--trainer.default_root_dir", tmp_path / "file")
    assert code == 2 and len(errors) == 1
    assert "cannot write in the run folder" in errors[0] and "--name" in errors[0]


def test_sizes_that_the_tubelet_does_not_divide_name_the_sizes_that_do(fit, shards):
    code, errors = fit("--data.shards", shards, "--data.image_size", 60)
    assert code == 2 and len(errors) == 1
    assert "60 is not a multiple of the tubelet's 16; use 48 or 64" in errors[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.learning_rate", "0"], "learning_rate must be positive and finite, got 0.0 ("),
        (
            ["--model.objective", "jepa.objectives.LatentL2"],
            "jepa.objectives has no class 'LatentL2'; did you mean 'LatentL1'?",
        ),
        (["--model.objective", "LatentL3"], "no class 'LatentL3'; did you mean 'LatentL1'? (it t"),
        (
            ["--model.schedule", "jepa.training.schedules.Cosin"],
            "jepa.training.schedules has no class 'Cosin'; did you mean 'Cosine'?",
        ),
        (["--model.warmup_fraction", "0.1"], "Pretraining has no option 'warmup_fraction'; it"),
        (
            ["--model.masks", "[{class_path: jepa.masking.MultiBlock, "
             "init_args: {target_fraction: 1.0}}]"],
            "error: target_fraction must be in (0, 1), got 1.0 (",
        ),
        (["--data.image_size", "16"], "MultiBlock masks need at least 2 places a frame"),
        (["--data.clip_length_frames", "7"], "7 is not a multiple of the tubelet's 2; use 6 or 8"),
        (
            ["--data.batch_size", "400", "--data.steps_per_epoch", "null"],
            "6 samples x 4 clips < global batch 400; lower batch_size",
        ),
        (["--from", "nowhere.ckpt"], "no checkpoint at nowhere.ckpt"),
    ],
)  # fmt: skip
def test_a_recipe_without_sense_is_refused_in_its_own_words(options, words, fit, shards):
    code, errors = fit("--data.shards", shards, *options)
    assert code == 2 and len(errors) == 1
    assert words in errors[0]


def test_a_batch_larger_than_the_data_is_refused_unless_samples_may_repeat(fit, shards):
    assert fit("--data.shards", shards, "--data.batch_size", 24) == (0, [])
    assert "holds samples more than once" not in fit.printed
    code, errors = fit("--data.shards", shards, "--data.batch_size", 32)
    assert code == 2 and len(errors) == 1
    assert (
        "6 samples x 4 clips < global batch 32: each batch would hold samples more than once; "
        "lower batch_size, add data, or allow it with samples_may_repeat" in errors[0]
    )
    allowed = (
        "--data.shards",
        shards,
        "--data.batch_size",
        32,
        "--data.samples_may_repeat",
        "true",
    )
    assert fit(*allowed) == (0, [])
    assert "warning: each batch holds samples more than once" in fit.printed


def test_a_checkpoint_of_another_architecture_is_refused_by_the_setting_that_differs(fit, shards):
    code, errors = fit("--data.shards", shards)
    assert (code, errors) == (0, [])
    shallower = ("--data.shards", shards, "--model.encoder.depth", 3)
    for option, source in (("--ckpt_path", "the checkpoint"), ("--from", "last.ckpt")):
        path = "runs/pretrain/tiny/checkpoints/last.ckpt"
        code, errors = fit(*shallower, option, path)
        assert code == 2 and len(errors) == 1
        assert f"{source} has encoder.depth=4, the config encoder.depth=3" in errors[0]


def test_a_cooldown_starts_from_a_run_and_can_be_resumed_itself(fit, shards, tmp_path):
    assert fit("--data.shards", shards)[0] == 0
    path = "runs/pretrain/tiny/checkpoints/last.ckpt"
    larger = ("--data.clip_length_frames", 16, "--model.encoder.clip_length_frames", 16)
    cooldown = (
        "--data.shards", shards, "--name", "cooldown", "--from", path, "--from_optimizer", "true",
        "--model.schedule", "jepa.training.schedules.LinearCooldown", *larger,
    )  # fmt: skip
    assert fit(*cooldown) == (0, [])
    saved = torch.load("runs/cooldown/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert saved["optimizer_states"][0]["state"][0]["step"] == 4
    assert fit(*cooldown, "--trainer.max_steps", 3, "--ckpt_path", "last") == (0, [])
    saved = torch.load("runs/cooldown/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 3


def test_text_files_named_mp4_are_refused_when_packed(tmp_path, capfd):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_text("not a video")
    assert main(["data", "pack", str(tmp_path), str(tmp_path / "out")]) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "no usable video" in errors[0] and "a.mp4: not a video" in errors[0]


def foreign_tar(path, files):
    """A WebDataset tar that somebody else made: no index beside it."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, video in files.items():
            for extension, data in (("mp4", video), ("json", json.dumps({}).encode())):
                member = path.parent / f"{key}.{extension}"
                member.write_bytes(data)
                tar.add(member, arcname=member.name)
                member.unlink()


def test_one_bad_video_among_good_ones_is_skipped_counted_and_named(fit, videos, tmp_path, caplog):
    good = sorted(videos.rglob("*.mp4"))
    files = {f"good{index}": path.read_bytes() for index, path in enumerate(good)}
    files["cut"] = good[0].read_bytes()[:600]
    (tmp_path / "foreign").mkdir()
    foreign_tar(tmp_path / "foreign" / "some.tar", files)
    code, errors = fit(
        "--data.shards", tmp_path / "foreign", "--data.clips_per_video", 1,
        "--data.max_skipped_fraction", 0.5, "--trainer.max_steps", 4,
        "--trainer.log_every_n_steps", 1, "--trainer.default_root_dir", tmp_path / "run",
        "--data.steps_per_epoch", 4,
    )  # fmt: skip
    assert (code, errors) == (0, [])
    assert any("cut" in record.getMessage() for record in caplog.records)
    header, *rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("data/skipped")
    assert float(rows[-1].split(",")[column]) >= 1


def test_a_set_of_bad_videos_only_ends_the_run_with_one_line(fit, tmp_path):
    (tmp_path / "foreign").mkdir()
    foreign_tar(tmp_path / "foreign" / "some.tar", {"a": b"hello", "b": b"world"})
    code, errors = fit(
        "--data.shards",
        tmp_path / "foreign",
        "--data.clips_per_video",
        1,
        "--data.samples_may_repeat",
        "true",
    )
    assert code == 2 and len(errors) == 1
    assert "no usable video" in errors[0] or "too many" in errors[0].lower()
