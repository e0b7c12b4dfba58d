import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from data_pipelines.datamodules import ClipDataModule
from jepa.checkpoints.native import load_encoder, save_encoder
from jepa.masking import MultiBlock
from jepa.models import MaskedLatentPredictor, VideoEncoder, normalize_pixels
from jepa.training.distillation import Distillation

SIZE = {"image_size": 32, "clip_length_frames": 4, "patch_size": 8}


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.fixture
def teacher_folder(tmp_path):
    torch.manual_seed(7)
    teacher = VideoEncoder(**SIZE, dim=64, depth=3, num_heads=4)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return str(save_encoder(teacher, tmp_path / "teacher"))


def make_student(teacher, *, output_dim=64, **options):
    torch.manual_seed(0)
    settings = {
        "masks": [MultiBlock(num_blocks=2, target_fraction=0.5)],
        "learning_rate": 2e-3,
        "ema_momentum": (0.9, 0.99),
    }
    return Distillation(
        VideoEncoder(**SIZE, dim=48, depth=1, num_heads=4),
        MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2, output_dim=output_dim),
        teacher=teacher,
        **(settings | options),
    )


def make_data(shards):
    return ClipDataModule(shards, 4, image_size=32, batch_size=8, steps_per_epoch=60, seed=3)


def test_a_smaller_student_learns_what_the_teacher_sees(
    teacher_folder, clip_shards, make_trainer, tmp_path
):
    student, trainer = make_student(teacher_folder), make_trainer(60)
    before, start = weights(load_encoder(teacher_folder)), weights(student.encoder)
    trainer.fit(student, make_data(clip_shards))
    assert sum(trainer.losses[-10:]) < 0.85 * sum(trainer.losses[:10])
    assert torch.equal(weights(student.teacher), before)
    assert (weights(student.encoder) - start).norm() > 0.05 * start.norm()
    # The run leaves the moving average of the student.
    left = load_encoder(tmp_path / "encoder")
    assert left.dim == 48
    assert torch.equal(weights(left), weights(student.target_encoder))


def test_the_target_is_the_teachers_and_without_gradient(teacher_folder):
    student, video = make_student(teacher_folder), torch.randn(2, 3, 4, 32, 32)
    target = student.target(video)
    assert target.shape == (2, 32, 64)
    torch.testing.assert_close(target, load_encoder(teacher_folder)(video))
    assert not target.requires_grad


def test_health_is_that_of_the_student(teacher_folder):
    student, video = make_student(teacher_folder), torch.randn(2, 3, 4, 32, 32)
    watched = student.watched_tokens(video, student.target(video))
    assert torch.equal(watched, student.target_encoder(video))


def test_the_teacher_is_in_no_checkpoint_and_a_resumed_run_reads_it_again(
    teacher_folder, clip_shards, make_trainer, tmp_path
):
    def fit(folder, **options):
        saving = ModelCheckpoint(folder, "{step}", every_n_train_steps=2, save_top_k=-1)
        trainer = make_trainer(4, callbacks=[saving])
        student = make_student(teacher_folder)
        trainer.fit(student, make_data(clip_shards), **options)
        return student, trainer

    whole, straight = fit(tmp_path / "whole")
    path = tmp_path / "whole" / "step=2.ckpt"
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert not [name for name in saved if "teacher" in name]
    resumed, trainer = fit(tmp_path / "resumed", ckpt_path=str(path))
    assert trainer.losses == straight.losses[-2:]
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_every_evaluation_compares_with_the_teacher(
    teacher_folder, clip_shards, make_trainer, verb
):
    data = make_data(clip_shards)
    data.val_shards = clip_shards
    limits = {"limit_val_batches": 1, "limit_test_batches": 1}
    student, trainer = make_student(teacher_folder), make_trainer(1, **limits)
    loader = data.val_dataloader()
    (result,) = getattr(trainer, verb)(student, loader, verbose=False)
    batch = next(iter(loader))
    video = normalize_pixels(batch.video)
    masks = student.sample_masks(video, step=0)
    predicted, target = student.predict(video, masks), student.teacher(video)
    expected = student.compare(predicted, target, masks, grid=(2, 4, 4)).total
    assert result["validation/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_teacher_follows_the_clips_to_their_device(teacher_folder):
    """On the meta device, which like a GPU multiplies only what is there."""
    student = make_student(teacher_folder).to("meta")
    assert next(student.teacher.parameters()).device.type == "cpu"  # hidden: not moved with it
    video = torch.zeros(2, 3, 4, 32, 32, device="meta")
    assert student.target(video).device.type == "meta"
    assert next(student.teacher.parameters()).device.type == "meta"


def test_a_predictor_of_another_width_is_refused(teacher_folder):
    with pytest.raises(ValueError, match="48 channels, the teacher has 64: set predictor"):
        make_student(teacher_folder, output_dim=None)


def test_a_teacher_with_other_tokens_is_refused(tmp_path):
    teacher = VideoEncoder(**SIZE | {"patch_size": 16}, dim=64, depth=1, num_heads=4)
    save_encoder(teacher, tmp_path / "coarse")
    with pytest.raises(ValueError, match=r"tubelet \(2, 8, 8\).*is not the teacher's \(2, 16, 16"):
        make_student(str(tmp_path / "coarse"))
