import pytest

from jepa.models import MaskedLatentPredictor, VideoEncoder
from jepa.models.settings import MAX_COUNT, refuse_wrong_counts, refuse_wrong_ratios

TINY = {
    "image_size": 32,
    "clip_length_frames": 4,
    "patch_size": 8,
    "dim": 48,
    "depth": 2,
    "num_heads": 4,
}


@pytest.mark.parametrize("value", [0, -2, 1.5, 2.0, "16", None, True, [1], 10**15])
def test_a_value_that_is_no_count_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^dim must be a whole number from 1 to 1000000, got"):
        refuse_wrong_counts(depth=1, dim=value)


def test_counts_are_taken_from_the_least_to_the_largest():
    refuse_wrong_counts(one=1, many=MAX_COUNT)
    refuse_wrong_counts(least=0, none=0)
    with pytest.raises(ValueError, match="none must be a whole number from 0"):
        refuse_wrong_counts(least=0, none=-1)


@pytest.mark.parametrize("value", [0, -1.0, "4", None, float("nan"), float("inf"), 1e30, True])
def test_a_value_that_is_no_ratio_is_refused_by_name(value):
    refuse_wrong_ratios(mlp_ratio=4, other=48 / 11)
    with pytest.raises(ValueError, match=r"^mlp_ratio must be a number above 0 and at most 1000"):
        refuse_wrong_ratios(mlp_ratio=value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"patch_size": 0}, "patch_size must be a whole number from 1"),
        ({"tubelet_size": -2}, "tubelet_size must be"),
        ({"image_size": "256"}, "image_size must be"),
        ({"clip_length_frames": 4.0}, "clip_length_frames must be"),
        ({"dim": -48}, "dim must be"),
        ({"dim": 10**15}, "dim must be"),
        ({"depth": 0}, "depth must be"),
        ({"num_heads": 1.5}, "num_heads must be"),
        ({"mlp_ratio": "4"}, "mlp_ratio must be"),
        ({"rope_grid": 0.5}, "rope_grid must be"),
        ({"levels": ["0", "1"]}, r"levels must be a list of whole numbers, got \['0', '1'\]"),
        ({"levels": 1}, "levels must be a list of whole numbers, got 1"),
    ],
    ids=str,
)
def test_an_encoder_of_nonsense_is_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        VideoEncoder(**(TINY | setting))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"encoder_dim": 0}, "encoder_dim must be"),
        ({"dim": "24"}, "dim must be"),
        ({"depth": -1}, "depth must be"),
        ({"num_heads": 0}, "num_heads must be"),
        ({"mlp_ratio": -4}, "mlp_ratio must be"),
        ({"num_mask_tokens": 0}, "num_mask_tokens must be"),
        ({"mask_token_index": 0.5}, "mask_token_index must be 0 to 0, got 0.5"),
        ({"num_levels": 0}, "num_levels must be"),
        ({"output_dim": 0}, "output_dim must be"),
        ({"grid": [1, 2]}, r"grid must be \(time, height, width\) in tokens, got \[1, 2\]"),
        ({"grid": 3}, "grid must be"),
        ({"grid": [1, 2, 0]}, "grid_width must be"),
    ],
    ids=str,
)
def test_a_predictor_of_nonsense_is_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        MaskedLatentPredictor(
            **({"encoder_dim": 20, "dim": 24, "depth": 1, "num_heads": 2} | setting)
        )
