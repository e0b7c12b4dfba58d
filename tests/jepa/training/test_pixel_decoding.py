import math

import pytest
import torch

from jepa.training.pixel_decoding import draw, fit_pixel_decoder, psnr_decibels


def squares(num, *, seed):
    """Pictures of a white square, and latents that are its place, turned and stretched."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.randint(0, 12, (num, 2), generator=generator)
    pictures = torch.zeros(num, 3, 16, 16, dtype=torch.uint8)
    for picture, (row, column) in zip(pictures, places.tolist(), strict=True):
        picture[:, row : row + 4, column : column + 4] = 255
    turned = places.float() @ torch.tensor([[3.0, 1.0], [-1.0, 2.0]])
    return turned[:, None], pictures


def test_a_decoder_draws_what_is_in_the_latents_of_pictures_it_has_not_seen():
    latents, pictures = squares(400, seed=0)
    decoder = fit_pixel_decoder(latents, pictures, grid=(1, 1), num_steps=200, seed=0)
    test_latents, true = squares(50, seed=1)
    mean = (decoder.mean_picture * 255).round().to(torch.uint8).expand_as(true)
    drawn = psnr_decibels(draw(decoder, test_latents), true).mean()
    assert drawn > psnr_decibels(mean, true).mean() + 3


def test_a_decoder_of_noise_draws_no_better_than_the_mean():
    _, pictures = squares(200, seed=0)
    noise = torch.randn(200, 1, 2)
    decoder = fit_pixel_decoder(noise, pictures, grid=(1, 1), num_steps=60)
    _, true = squares(50, seed=1)
    mean = (decoder.mean_picture * 255).round().to(torch.uint8).expand_as(true)
    drawn = psnr_decibels(draw(decoder, torch.randn(50, 1, 2)), true).mean()
    assert drawn < psnr_decibels(mean, true).mean() + 0.3


def test_no_gradient_reaches_the_latents_and_the_seed_decides():
    latents, pictures = squares(20, seed=0)
    latents.requires_grad_(False)
    first, second = (
        fit_pixel_decoder(latents, pictures, grid=(1, 1), num_steps=3, seed=4) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(),
                                                 strict=True))  # fmt: skip
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_psnr_by_hand():
    black = torch.zeros(3, 4, 4, dtype=torch.uint8)
    white = torch.full_like(black, 255)
    assert float(psnr_decibels(white, black)) == pytest.approx(0)
    one_off = black.clone() + 1
    assert float(psnr_decibels(one_off, black)) == pytest.approx(20 * math.log10(255), rel=1e-5)
    assert float(psnr_decibels(black, black)) > 140


def test_pictures_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="alike in shape"):
        psnr_decibels(torch.zeros(3, 4, 4), torch.zeros(3, 4, 5))


def test_there_must_be_a_picture_for_every_latent():
    latents, pictures = squares(4, seed=0)
    with pytest.raises(ValueError, match="a picture for every latent, got 3 and 4"):
        fit_pixel_decoder(latents[:3], pictures, grid=(1, 1))
    with pytest.raises(ValueError, match="num_steps and batch_size must be at least 1"):
        fit_pixel_decoder(latents, pictures, grid=(1, 1), num_steps=0)
