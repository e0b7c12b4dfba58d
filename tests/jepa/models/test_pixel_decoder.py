import pytest
import torch

from jepa.models.pixel_decoder import PixelDecoder


@pytest.mark.parametrize(
    ("grid", "image_size"), [((1, 1), 64), ((4, 4), 64), ((2, 3), 32), ((8, 8), 64), ((7, 7), 60)]
)
def test_it_draws_pictures_of_its_size_from_any_grid(grid, image_size):
    decoder = PixelDecoder(latent_dim=6, grid=grid, image_size=image_size, width=16)
    drawn = decoder(torch.randn(2, grid[0] * grid[1], 6))
    assert drawn.shape == (2, 3, image_size, image_size)


def test_before_training_it_draws_the_mean_picture():
    decoder = PixelDecoder(latent_dim=4, grid=(4, 4), image_size=32, width=16)
    pictures = torch.rand(5, 3, 32, 32)
    latents = torch.randn(5, 16, 4)
    decoder.fit_statistics(latents, pictures)
    assert torch.allclose(decoder(latents), pictures.mean(0).expand(5, -1, -1, -1), atol=1e-6)


def test_scale_and_offset_of_latents_do_not_matter():
    latents = torch.randn(6, 16, 4)
    drawn = []
    for scaled in (latents, 1000 * latents + 7):
        torch.manual_seed(0)
        decoder = PixelDecoder(latent_dim=4, grid=(4, 4), image_size=16, width=16)
        torch.nn.init.normal_(decoder.to_pixels.weight)
        decoder.fit_statistics(scaled, torch.rand(6, 3, 16, 16))
        decoder.mean_picture.zero_()
        drawn.append(decoder(scaled))
    assert torch.allclose(*drawn, atol=1e-3)


def test_a_token_of_a_grid_draws_at_its_place():
    decoder = PixelDecoder(latent_dim=4, grid=(8, 8), image_size=64, width=16)
    torch.nn.init.normal_(decoder.to_pixels.weight)
    latents = torch.zeros(1, 64, 4)
    for block in decoder.blocks:
        block[1] = torch.nn.Identity()  # the norm is over the whole picture
    before = decoder(latents)
    latents[0, 9] = 5.0  # row 1, column 1: pixels 8 to 15
    change = (decoder(latents) - before).abs().sum((0, 1))
    row, column = (change == change.max()).nonzero()[0].tolist()
    assert 6 <= row <= 17 and 6 <= column <= 17
    assert change[32:].sum() == 0 and change[:, 32:].sum() == 0


def test_other_tokens_are_refused():
    decoder = PixelDecoder(latent_dim=4, grid=(4, 4), image_size=32)
    with pytest.raises(ValueError, match=r"latents must be \(batch, 16, 4\), got \(2, 16, 5\)"):
        decoder(torch.zeros(2, 16, 5))


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="latent_dim"):
        PixelDecoder(latent_dim=0, grid=(4, 4))
