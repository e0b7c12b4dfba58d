import pytest
import torch
from torchvision.transforms import v2

from data_pipelines.augmentation import ClipAugmentation, ColourAugmentation, refuse_moving_pixels

TRANSFORMS = {
    "ColorJitter": v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "GaussianBlur": v2.GaussianBlur(5, sigma=(0.5, 2.0)),
    "RandAugment": v2.RandAugment(num_ops=4, magnitude=7),
    "RandomAffine": v2.RandomAffine(20, translate=(0.1, 0.1), scale=(0.8, 1.2)),
    "RandomApply": v2.RandomApply([v2.RandomSolarize(100.0, p=1.0)], p=0.5),
    "RandomChoice": v2.RandomChoice([v2.RandomInvert(1.0), v2.RandomPosterize(2, p=1.0)]),
    "RandomGrayscale": v2.RandomGrayscale(0.5),
    "RandomErasing": v2.RandomErasing(1.0, value="random"),
    "RandomHorizontalFlip": v2.RandomHorizontalFlip(),
    "RandomPhotometricDistort": v2.RandomPhotometricDistort(),
    "TrivialAugmentWide": v2.TrivialAugmentWide(),
}


@pytest.fixture
def still():
    """Five equal frames of noise: (3, time, height, width)."""
    frame = torch.randint(0, 256, (3, 1, 24, 32), dtype=torch.uint8)
    return frame.expand(-1, 5, -1, -1).clone()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_all_frames_of_a_clip_get_the_same_draw(name, still):
    augmentation = ClipAugmentation([TRANSFORMS[name]])
    results = [augmentation(still, seed) for seed in range(12)]
    for result in results:
        assert result.shape == still.shape and result.dtype == torch.uint8
        assert (result == result[:, :1]).all()
    assert any(not torch.equal(result, still) for result in results)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_seed_decides_and_another_seed_draws_anew(name, still):
    augmentation = ClipAugmentation([TRANSFORMS[name]])
    first = [augmentation(still, seed) for seed in range(12)]
    torch.manual_seed(5)  # what was drawn elsewhere does not matter
    again = [augmentation(still, seed) for seed in reversed(range(12))][::-1]
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert len({bytes(result.numpy().tobytes()) for result in first}) > 1


def test_a_known_draw_gives_a_value_worked_out_by_hand():
    grey = torch.full((3, 2, 4, 4), 100, dtype=torch.uint8)
    darker = ClipAugmentation([v2.ColorJitter(brightness=(0.5, 0.5)), v2.RandomInvert(1.0)])
    assert (darker(grey, 0) == 255 - 50).all()


def test_torchs_own_generator_goes_on_as_if_nothing_had_happened(still):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    ClipAugmentation([v2.ColorJitter(0.5), v2.RandomErasing(1.0)])(still, 11)
    assert torch.equal(torch.rand(4), expected)


def test_the_order_of_bytes_in_memory_does_not_matter(still):
    clip = torch.randint(0, 256, still.shape, dtype=torch.uint8)
    augmentation = ClipAugmentation([TRANSFORMS["GaussianBlur"], TRANSFORMS["ColorJitter"]])
    channels_last = clip.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    for seed in range(6):
        assert torch.equal(augmentation(clip, seed), augmentation(channels_last, seed))


def test_each_clip_of_a_batch_follows_its_own_seed(still):
    augmentation = ClipAugmentation([v2.ColorJitter(0.8)])
    batch = torch.stack([still, still, still])
    result = augmentation.to_batch(batch, (4, 9, 4))
    assert torch.equal(result[0], augmentation(still, 4)) and torch.equal(result[0], result[2])
    assert not torch.equal(result[0], result[1])
    assert len(augmentation.to_batch(batch[:0], ())) == 0
    with pytest.raises(ValueError, match="3 clips came with 0 seeds: its dataset must give every"):
        augmentation.to_batch(batch, ())


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (v2.Resize((8, 8)), r"Resize turned uint8 \(5, 3, 24, 32\) into uint8 \(5, 3, 8, 8\)"),
        (v2.ToDtype(torch.float32), r"ToDtype turned uint8 .* into float32 \(5, 3, 24, 32\)"),
        (v2.Grayscale(1), r"Grayscale turned .* into uint8 \(5, 1, 24, 32\); only transforms that"),
    ],
)
def test_a_transform_that_changes_shape_or_dtype_is_refused_by_name(transform, message, still):
    with pytest.raises(ValueError, match=message):
        ClipAugmentation([v2.ColorJitter(0.1), transform])(still, 0)


def test_one_draw_for_each_frame_is_refused(still):
    with pytest.raises(ValueError, match="AugMix mixes each frame of a clip by a draw of its own"):
        ClipAugmentation([v2.RandomApply([v2.AugMix()])])
    mixed = v2.AugMix()(still.transpose(0, 1))  # the reason: equal frames become unequal
    assert not (mixed == mixed[:1]).all()


def test_what_is_no_transform_is_refused():
    with pytest.raises(ValueError, match=r"transforms of torchvision\.transforms\.v2, got 'x'"):
        ClipAugmentation(["x"])


# Trajectories: colours only.


def test_colours_may_change_also_inside_containers(still):
    inner = v2.RandomApply([v2.Compose([v2.GaussianBlur(3), v2.RandomInvert()])], p=0.5)
    augmentation = ColourAugmentation([v2.ColorJitter(0.3), inner])
    assert torch.equal(augmentation(still, 2), ClipAugmentation(augmentation.transforms)(still, 2))


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomHorizontalFlip(),
        v2.RandomErasing(),
        v2.RandAugment(),
        v2.RandomChoice([v2.RandomInvert(), v2.RandomRotation(10)]),
        v2.RandomOrder([v2.Compose([v2.ElasticTransform()])]),
        v2.Lambda(lambda video: video),
    ],
)
def test_what_moves_or_hides_pixels_is_refused_for_trajectories(transform):
    with pytest.raises(ValueError, match=r"may move or hide pixels, and actions .* ColorJitter"):
        ColourAugmentation([v2.ColorJitter(0.3), transform])


def test_every_colour_transform_leaves_pixels_in_place(still):
    # A picture with one bright pixel: where it is bright before, it is the odd one out after.
    transforms = [
        v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        v2.RandomAutocontrast(1.0),
        v2.RandomChannelPermutation(),
        v2.RandomGrayscale(1.0),
        v2.RandomInvert(1.0),
        v2.RandomPhotometricDistort(),
        v2.RandomPosterize(4, p=1.0),
        v2.RandomSolarize(128.0, p=1.0),
    ]
    refuse_moving_pixels(transforms)
    dot = torch.tensor([40, 50, 60], dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 9, 9)
    dot[:, 0, 2, 6] = torch.tensor([230, 220, 210])
    for transform in transforms:
        result = ClipAugmentation([transform])(dot, 1)
        assert not torch.equal(result, dot)
        unlike = (result.int() - result[:, :, :1, :1].int()).abs().sum((0, 1))
        assert unlike.argmax() == 2 * 9 + 6 and (unlike > 0).sum() == 1
