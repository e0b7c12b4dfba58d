import pytest
import torch

from jepa.checkpoints.native import load_encoder, save_encoder, untrained_encoder
from jepa.checkpoints.official import write_official
from jepa.evaluation.encoders import FrameByFrameEncoder, WholeClipEncoder, load_probe_encoder
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel

TINY = {
    "image_size": 32,
    "clip_length_frames": 4,
    "patch_size": 16,
    "dim": 24,
    "depth": 3,
    "num_heads": 2,
}


def pixels(batch, *, frames=4, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (batch, 3, frames, size, size), dtype=torch.uint8, generator=generator
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return str(save_encoder(VideoEncoder(**TINY), tmp_path_factory.mktemp("run") / "encoder"))


def test_our_own_encoder_sees_whole_clips_and_gives_its_own_tokens(folder):
    encoder = load_probe_encoder(folder)
    assert isinstance(encoder, WholeClipEncoder)
    assert (encoder.clip_length_frames, encoder.image_size) == (4, 32)
    assert encoder.feature_shape == (1, 2 * 2 * 2, 24) and encoder.grid == (2, 2, 2)
    video = pixels(3)
    with torch.no_grad():
        expected = load_encoder(folder)(video)
    assert torch.equal(encoder.encode(video)[:, 0], expected)


def test_a_run_folder_is_the_encoder_in_it(folder):
    run = folder.removesuffix("/encoder")
    assert load_probe_encoder(run).fingerprint == load_probe_encoder(folder).fingerprint


def test_layers_come_normed_and_the_last_one_is_the_output(folder):
    video = pixels(2)
    layers = load_probe_encoder(folder, layers=(0, -1)).encode(video)
    assert layers.shape == (2, 2, 8, 24)
    assert torch.equal(layers[:, 1], load_probe_encoder(folder).encode(video)[:, 0])
    # the last norm's weight is 1 and its bias 0 at the start: mean 0 and deviation 1 per token
    torch.testing.assert_close(layers.mean(-1), torch.zeros(2, 2, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(layers.std(-1, correction=0), torch.ones(2, 2, 8), atol=1e-2, rtol=0)


def test_layers_that_are_not_there_are_refused(folder):
    with pytest.raises(ValueError, match="ascending block indices from 0 to 2, got"):
        load_probe_encoder(folder, layers=(3,)).encode(pixels(1))
    with pytest.raises(ValueError, match="PixelEncoder has no blocks to take layers"):
        load_probe_encoder("pixels", layers=(0,))


def test_frame_by_frame_every_frame_is_a_still_video(folder):
    encoder = load_probe_encoder(folder, frame_by_frame=True, clip_length_frames=3)
    video = pixels(2, frames=3)
    assert isinstance(encoder, FrameByFrameEncoder)
    assert encoder.grid == (3, 2, 2) and encoder.feature_shape == (1, 12, 24)
    with torch.no_grad():
        stills = load_encoder(folder)(video[:, :, 1:2].expand(-1, -1, 2, -1, -1))
    torch.testing.assert_close(encoder.encode(video)[:, 0, 4:8], stills)
    layers = load_probe_encoder(folder, frame_by_frame=True, clip_length_frames=3, layers=(-1,))
    torch.testing.assert_close(layers.encode(video), encoder.encode(video))


def test_the_untrained_twin_has_the_architecture_and_the_weights_of_the_seed(folder):
    twin = load_probe_encoder(f"untrained:{folder}", seed=5)
    assert twin.feature_shape == (1, 8, 24)
    video = pixels(1)
    with torch.no_grad():
        expected = untrained_encoder(folder, seed=5)(video)
    assert torch.equal(twin.encode(video)[:, 0], expected)
    assert twin.fingerprint == load_probe_encoder(f"untrained:{folder}", seed=5).fingerprint
    others = (load_probe_encoder(f"untrained:{folder}", seed=6), load_probe_encoder(folder))
    assert twin.fingerprint not in {other.fingerprint for other in others}


def test_the_fingerprint_changes_with_a_weight_and_with_what_is_taken(folder):
    before = load_probe_encoder(folder)
    changed = load_probe_encoder(folder)
    with torch.no_grad():
        changed.module.transformer.norm.bias[0] += 1e-3
    options = ({"layers": (0,)}, {"clip_length_frames": 8}, {"frame_by_frame": True})
    others = [load_probe_encoder(folder, **option) for option in options]
    prints = [encoder.fingerprint for encoder in (before, changed, *others)]
    assert len(set(prints)) == 5
    assert before.fingerprint == load_probe_encoder(folder).fingerprint


def test_an_official_file_gives_the_tokens_of_the_model_it_was_written_from(tmp_path):
    torch.manual_seed(0)
    written = VideoEncoder(positions="rope_tiled", dim=192, depth=12, num_heads=3).eval()
    write_official(JepaModel(written), tmp_path / "tiny.pt")
    encoder = load_probe_encoder(str(tmp_path / "tiny.pt"), image_size=32, clip_length_frames=4)
    video = pixels(1)
    with torch.no_grad():
        assert torch.equal(encoder.encode(video)[:, 0], written(video))


def test_a_shipped_world_model_is_found_by_its_name_and_sees_one_frame_at_a_time():
    encoder = load_probe_encoder("two_rooms", clip_length_frames=2)
    assert isinstance(encoder, FrameByFrameEncoder)
    video = pixels(2, frames=2, size=encoder.image_size)
    with torch.no_grad():
        expected = encoder.module.encode_frames(video).flatten(1, 2)
    assert torch.equal(encoder.encode(video)[:, 0], expected)
    assert encoder.grid[0] == 2 and encoder.feature_shape[1] == encoder.grid[1] ** 2 * 2
    twin = load_probe_encoder("untrained:two_rooms", clip_length_frames=2)
    assert twin.feature_shape == encoder.feature_shape
    assert not torch.equal(twin.encode(video), encoder.encode(video))


def test_an_image_model_of_timm_encodes_frames_and_its_layers():
    options = {"image_size": 32, "clip_length_frames": 2, "seed": 1}
    encoder = load_probe_encoder("untrained:timm:test_vit", **options)
    dim = encoder.module.dim
    assert encoder.feature_shape == (1, 2 * 2 * 2, dim) and encoder.grid == (2, 2, 2)
    video = pixels(2, frames=2)
    layers = load_probe_encoder("untrained:timm:test_vit", layers=(0, -1), **options)
    assert layers.feature_shape == (2, 8, dim)
    torch.testing.assert_close(layers.encode(video)[:, 1], encoder.encode(video)[:, 0])
    assert not torch.allclose(layers.encode(video)[:, 0], encoder.encode(video)[:, 0])


def test_an_image_encoder_cannot_see_a_whole_clip():
    with pytest.raises(ValueError, match="pixels encodes single images"):
        load_probe_encoder("pixels", frame_by_frame=False)


def test_pixels_have_nothing_to_be_left_out():
    with pytest.raises(ValueError, match="untrained:pixels: there is nothing trained in it"):
        load_probe_encoder("untrained:pixels")


def test_video_of_another_size_or_type_is_refused(folder):
    encoder = load_probe_encoder(folder)
    with pytest.raises(ValueError, match=r"\(batch, 3, 4, 32, 32\) uint8, got \(1, 3, 2, 32, 32\)"):
        encoder.encode(pixels(1, frames=2))
    with pytest.raises(ValueError, match="float32"):
        encoder.encode(pixels(1).float())


def test_nothing_of_that_name_is_said_in_one_line():
    with pytest.raises(FileNotFoundError, match="no file or folder 'nothing'"):
        load_probe_encoder("nothing")
