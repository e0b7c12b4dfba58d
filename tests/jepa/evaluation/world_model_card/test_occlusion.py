import pytest
import torch

from jepa.evaluation.world_model_card.occlusion import (
    covered_frames,
    frames_needed,
    measure_occlusion,
)


def test_a_model_that_remembers_the_start_knows_what_comes_back(toys):
    found = measure_occlusion(toys.world("keeper"), toys.windows())
    assert found.covered.high < 1e-5
    assert found.kept_ratio.high < 1e-5
    assert found.verdict.outcome == "pass"
    assert found.verdict.reason.startswith("kept: after 2 covered frames")


@pytest.mark.parametrize("cover", ["blank", "mean"])
def test_a_model_without_memory_knows_nothing_but_can_imagine(toys, cover):
    found = measure_occlusion(toys.world(), toys.windows(), cover=cover)
    assert found.kept_ratio == (1.0, 1.0, 1.0)
    assert found.verdict.outcome == "fail"
    assert found.seen.high < 1e-5  # without a cover it is exact
    assert found.imagined.high < 1e-5  # and so it is if it does not look
    assert found.imagined_ratio.high < 1e-5


def test_what_is_kept_must_be_of_use(toys):
    found = measure_occlusion(toys.world("half keeper"), toys.windows(num_episodes=80))
    assert found.kept_ratio.high < 1 < found.covered_ratio.low
    assert found.verdict.outcome == "fail"
    assert found.verdict.reason.startswith("too little is kept: after 2 covered frames")


def test_a_single_frame_model_is_said_to_be_one(toys):
    found = measure_occlusion(toys.world("shortsighted"), toys.windows())
    assert found.verdict.outcome == "not measurable"
    assert "sees 1 frame(s) at a time" in found.verdict.reason
    assert "what it knows then is what it imagines" in found.verdict.reason


def test_the_mean_latent_hides_as_the_blank_frame_does(toys):
    windows, model = toys.windows(), toys.world()
    found = measure_occlusion(model, windows, num_hidden=1, cover="mean")
    # Visible are frames 0 and 1, frame 2 is the mean, and its action leads to frame 3.
    predicted = windows.latents.mean((0, 1)) + windows.actions[:, 2:3]
    expected = model.latents.distance(predicted, windows.latents[:, 3]).mean()
    assert found.covered.value == pytest.approx(float(expected), rel=1e-5)


def test_a_covered_frame_has_one_colour():
    frames = torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8)
    frames[:, 0, :, :2] = 100
    covered = covered_frames(frames)
    assert covered.shape == frames.shape
    assert covered.unique(dim=-1).flatten().unique().tolist() == [0, 50]


def test_windows_that_are_too_short_are_refused(toys):
    model = toys.world()
    assert frames_needed(model, 4) == 7
    found = measure_occlusion(model, toys.windows(horizon=5), num_hidden=4)
    assert found.verdict == ("not measurable", "needs windows of 7 frames to cover 4")
