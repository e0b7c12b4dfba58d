"""The convolutional encoder of frames: its grid, its independence of neighbours, and its file."""

import pytest
import torch

from jepa.checkpoints.native import load_world_model, save_world_model
from jepa.models.conv_encoder import ConvEncoder
from jepa.models.latents import PooledTokens
from jepa.models.pixels import normalize_pixels
from jepa.models.world_model import ColumnScaling, LatentWorldModel


def encoder(**changes):
    torch.manual_seed(0)
    return ConvEncoder(**{"image_size": 32, "widths": (8, 16), **changes})


def frames(batch=2, time=3, side=32):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(
        0, 256, (batch, 3, time, side, side), generator=generator, dtype=torch.uint8
    )


def test_each_stage_halves_the_frame_and_the_last_width_is_that_of_a_token():
    model = encoder()
    assert (model.grid, model.tubelet, model.dim) == ((1, 8, 8), (1, 4, 4), 16)
    assert model.encode_frames(frames()).shape == (2, 3, 64, 16)


def test_every_frame_is_encoded_on_its_own():
    model, clip = encoder(), frames()
    together = model.encode_frames(clip)
    torch.testing.assert_close(together[1, 2], model.encode_frames(clip[1:, :, 2:])[0, 0])


def test_bytes_and_normalised_pixels_give_the_same():
    model, clip = encoder(), frames()
    torch.testing.assert_close(
        model.encode_frames(clip), model.encode_frames(normalize_pixels(clip))
    )


def test_tokens_come_row_by_row():
    """What changes in the lower left corner changes the last row's first token most."""
    model, clip = encoder(), frames(batch=1, time=1)
    changed = clip.clone()
    changed[..., 28:, :4] = 255 - changed[..., 28:, :4]
    norms = (model.encode_frames(changed) - model.encode_frames(clip)).norm(dim=-1)[0, 0]
    assert norms.argmax() == 7 * 8


def test_gradients_reach_every_parameter():
    model = encoder()
    model.encode_frames(frames()).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_a_world_model_with_it_is_saved_and_read(tmp_path):
    world = LatentWorldModel(
        encoder(), PooledTokens(dim=4, pool_grid=(2, 2)), uses_state=False, dim=48, depth=1,
        num_heads=2, scaling=ColumnScaling((0.0,), (1.0,), (0.0, 0.0), (1.0, 1.0)),
    )  # fmt: skip
    save_world_model(world, tmp_path)
    read = load_world_model(tmp_path)
    assert isinstance(read.encoder, ConvEncoder)
    torch.testing.assert_close(read.encode(frames()), world.eval().encode(frames()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": (8, 12)}, r"widths must be multiples of 8, one a stage, got \(8, 12\)"),
        ({"widths": ()}, "widths must be multiples of 8"),
        ({"widths": (0,)}, "width must be a whole number from 1"),
        ({"image_size": 30}, "image_size=30 must be a multiple of 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        encoder(**changes)


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, 3, time, 32, 32\), got \(2, 3, 3, 16, 16\)"):
        encoder().encode_frames(frames(side=16))
