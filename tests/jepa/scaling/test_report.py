import lightning.pytorch as L
import pytest
import torch

from data_pipelines.datamodules import ClipDataModule, ImageDataModule
from data_pipelines.mixture import MixtureDataModule
from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.scaling.flops import step_flops
from jepa.scaling.memory import step_memory
from jepa.scaling.report import (
    ImageBatches,
    Rate,
    Run,
    clip_size,
    images_of,
    mean_flops,
    peak_memory,
    rate_of_table,
    report,
    run_of,
)
from jepa.training.pretraining import Pretraining


def make_run(**options):
    torch.manual_seed(0)
    module = Pretraining(
        VideoEncoder(
            image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=2, num_heads=4
        ),
        MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2),
        masks=[MultiBlock(target_fraction=0.5)],
    )
    settings = {
        "size": (4, 32, 32), "batch_size": 6, "accumulated": 2, "num_devices": 4, "steps": 100,
        "half": False, "is_sharded": False,
    }  # fmt: skip
    return Run(module=module, **settings | options)


def test_the_lines_say_what_the_parts_compute():
    run = make_run()
    rate = Rate(1e9, "a slow machine", memory_gigabytes=None)
    lines = report(run, rate, utilization=0.5)
    flops = step_flops(run.module, run.size, batch_size=6).times(2).total
    assert lines["clip"].endswith("32 tokens; masks show 16 and ask for 16")
    assert lines["step"] == "6 clips x 4 devices x 2 accumulated = 48 clips"
    assert f"{flops / 0.5e9:.3g} s a step" in lines["time"]
    assert f"{48 * 0.5e9 / flops:.4g} clips/s" in lines["time"]
    memory = step_memory(run.module, run.size, batch_size=6).total
    assert lines["memory"].startswith(f"{memory / 1e9:.3g} GB a device")


def test_a_sharded_run_is_told_the_memory_of_its_shards():
    rate = Rate(1e9, "", None)
    lines = [report(make_run(is_sharded=sharded), rate)["memory"] for sharded in (False, True)]
    whole, quarter = (float(line.split("optimizer ")[1].split(",")[0]) for line in lines)
    assert quarter == pytest.approx(whole / 4, rel=0.01)


def test_operations_and_clips_of_a_mixture_are_weighed_by_the_share_of_images():
    images = ImageBatches((1, 32, 32), batch_size=10, fraction=0.25)
    run, rate = make_run(images=images, accumulated=1), Rate(1e9, "", None)
    of_videos = step_flops(run.module, run.size, batch_size=6).total
    of_images = step_flops(run.module, images.size, batch_size=10).total
    assert mean_flops(run).total == pytest.approx(0.75 * of_videos + 0.25 * of_images, rel=1e-6)
    seconds = (0.75 * of_videos + 0.25 * of_images) / 1e9
    clips_per_second = 4 * (0.75 * 6 + 0.25 * 10) / seconds
    assert f"{clips_per_second:.4g} clips/s" in report(run, rate, utilization=1)["time"]


def test_memory_of_a_mixture_is_that_of_the_larger_batches():
    few, many = (make_run(images=ImageBatches((1, 32, 32), n, 0.5)) for n in (1, 100))
    videos, pictures = (
        step_memory(few.module, size, batch_size=n)
        for size, n in ((few.size, 6), ((1, 32, 32), 100))
    )
    assert peak_memory(few) == videos
    assert peak_memory(many) == pictures
    assert pictures.total > videos.total


def test_what_a_mixture_takes_beside_its_videos():
    videos = ClipDataModule("shards", 4, image_size=32)
    pictures = ImageDataModule("pictures", image_size=48)
    data = MixtureDataModule(
        [videos], batch_size=6, images=pictures, image_fraction=0.2, image_batch_size=9
    )
    assert images_of(data) == ImageBatches((1, 48, 48), 9, 0.2)
    assert images_of(MixtureDataModule([videos], batch_size=6)) is None
    assert images_of(videos) is None


def test_what_a_trainer_is_about_to_run():
    trainer = L.Trainer(
        accelerator="cpu", max_steps=7, accumulate_grad_batches=3, logger=False,
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    data = ClipDataModule("shards", 4, image_size=32, batch_size=5)
    run = run_of(trainer, make_run().module, data)
    assert run[1:] == ((4, 32, 32), 5, 3, 1, 7, False, False, None)


def test_images_are_clips_of_one_frame_and_other_data_have_no_size():
    assert clip_size(ImageDataModule("shards", image_size=64)) == (1, 64, 64)
    with pytest.raises(ValueError, match="object does not say how long and large its clips are"):
        clip_size(object())


def test_the_data_sheet_has_a_rate_for_each_precision():
    assert rate_of_table("h100", half=True).flops_per_second == 989e12
    assert rate_of_table("h100", half=False).flops_per_second == 67e12
