import numpy as np
import pytest

from jepa.evaluation.report.pixel_decoding import draw_rollouts, pixel_section
from jepa.evaluation.report.section import NotMeasured


def test_a_perfect_prediction_is_drawn_as_well_as_the_truth(exact_imagination):
    imagined = exact_imagination(lambda i: i.true, num_clips=12, num_times=4)
    drawings = draw_rollouts(imagined, num_steps=3)
    assert (drawings.drawn["imagined"] == drawings.drawn["true_latent"]).all()
    assert np.array_equal(drawings.psnr["imagined"], drawings.psnr["true_latent"])
    assert drawings.real.shape == (3, 2, 3, 16, 16)  # a quarter of the videos, two steps


def test_the_drawn_videos_are_not_those_of_the_training(exact_imagination, monkeypatch):
    from jepa.evaluation.report import pixel_decoding

    seen = []
    fit = pixel_decoding.fit_pixel_decoder
    monkeypatch.setattr(
        pixel_decoding, "fit_pixel_decoder",
        lambda latents, pictures, **options: seen.append(latents) or fit(latents, pictures,
                                                                        **options),
    )  # fmt: skip
    imagined = exact_imagination(lambda i: i.true, num_clips=12, num_times=4)
    drawings = draw_rollouts(imagined, num_steps=1)
    assert seen[0].shape == (9 * 4, 1, 2) and seen[0][:, 0, 0].max() == 800  # clips 0 to 8
    assert (drawings.real[0, 0, 0] == 9 * 40 % 256 + 2 * 5).all()


def test_the_current_latent_is_that_of_the_last_frame_seen(exact_imagination):
    imagined = exact_imagination(lambda i: i.current[:, None].expand_as(i.true), num_clips=12)
    drawings = draw_rollouts(imagined, num_steps=2)
    assert (drawings.drawn["imagined"] == drawings.drawn["current"]).all()
    section = pixel_section(imagined, num_steps=2)
    assert section.numbers["psnr_gain_over_current_at_last_step"] == [0, 0, 0]
    assert not section.findings[0].is_good


def test_all_four_are_told_with_their_intervals(exact_imagination):
    section = pixel_section(exact_imagination(lambda i: i.true, num_clips=8), num_steps=2)
    for name in ("true_latent", "imagined", "current", "mean_frame"):
        value, low, high = section.numbers[f"psnr_{name}"]
        assert low <= value <= high
        assert len(section.numbers[f"psnr_{name}_by_step"]) == 3
    assert section.html.count('class="bar') >= 4 and "mean frame" in section.html


def test_without_steps_there_is_no_decoder(exact_imagination):
    with pytest.raises(NotMeasured, match="--decoder-steps 0"):
        pixel_section(exact_imagination(lambda i: i.true, num_clips=8), num_steps=0)


def test_a_few_videos_cannot_be_kept_apart(exact_imagination):
    with pytest.raises(NotMeasured, match="at least 8 videos, there are 3"):
        pixel_section(exact_imagination(lambda i: i.true), num_steps=1)
