import re

import pytest
import torch

from jepa.models.encoder import take_tokens
from jepa.models.pixels import normalize_pixels
from jepa.models.rope import grid_coordinates, rope_angles, rotation


@pytest.fixture
def encoder(make_encoder):
    return make_encoder()  # 2 x 4 x 4 tokens of 2 x 8 x 8 pixels


@pytest.fixture
def video():
    return torch.randn(2, 3, 4, 32, 32)


@pytest.fixture
def ids():
    return torch.stack([torch.randperm(32)[:10] for _ in range(2)])


def test_gathering_before_embedding_equals_embedding_all_with_the_convolution(encoder, video, ids):
    embedded = encoder.patch_embed(video).flatten(2).mT  # (batch, tokens, dim)
    tokens = take_tokens(embedded, ids)
    angles = rope_angles(grid_coordinates((2, 4, 4))[ids], head_dim=12)
    expected = encoder.transformer(tokens, rotation(angles))
    torch.testing.assert_close(encoder(video, token_ids=ids), expected, atol=1e-5, rtol=1e-4)


def test_all_ids_in_order_give_the_same_as_no_ids(encoder, video):
    ids = torch.arange(32).expand(2, -1)
    torch.testing.assert_close(encoder(video, token_ids=ids), encoder(video))


def test_permuted_ids_permute_the_tokens(encoder, video, ids):
    order = torch.randperm(10)
    straight, shuffled = (encoder(video, token_ids=i) for i in (ids, ids[:, order]))
    torch.testing.assert_close(shuffled, straight[:, order], atol=1e-5, rtol=1e-4)


def test_hidden_pixels_change_nothing_and_visible_ones_do(encoder, video):
    left_half = grid_coordinates((2, 4, 4))[:, 2] < 2
    ids = left_half.nonzero().flatten().expand(2, -1)
    before = encoder(video, token_ids=ids)
    video[..., 16:] = 7.0
    assert torch.equal(encoder(video, token_ids=ids), before)
    video[..., :8, :8] = 7.0
    assert not torch.allclose(encoder(video, token_ids=ids), before, atol=0.1)


@pytest.mark.parametrize(("first", "row", "column"), [(0, 0, 0), (1, 2, 3)])
def test_a_crop_of_a_larger_video_encodes_as_it_would_alone(encoder, first, row, column):
    """Any size may come in, and positions count by their differences only."""
    large = torch.randn(1, 3, 8, 64, 72)  # 4 x 8 x 9 tokens
    assert encoder(large).shape == (1, 4 * 8 * 9, 48)
    corner, size = torch.tensor([first, row, column]), torch.tensor([2, 4, 4])
    places = grid_coordinates((4, 8, 9))
    is_inside = ((places >= corner) & (places < corner + size)).all(1)
    part = large[
        :,
        :,
        2 * first : 2 * first + 4,
        8 * row : 8 * row + 32,
        8 * column : 8 * column + 32,
    ]
    inside = encoder(large, token_ids=is_inside.nonzero().T)
    torch.testing.assert_close(inside, encoder(part), atol=1e-4, rtol=1e-3)


def test_a_frame_is_encoded_as_a_still_video_of_one_tubelet(encoder):
    frames = torch.randn(2, 3, 3, 32, 32)
    tokens = encoder.encode_frames(frames)  # (batch, time, tokens, dim)
    assert tokens.shape == (2, 3, 16, 48)
    for time in range(3):
        still = frames[:, :, time].unsqueeze(2).repeat(1, 1, 2, 1, 1)
        torch.testing.assert_close(tokens[:, time], encoder(still), atol=1e-5, rtol=1e-4)


def test_pixels_are_normalised_and_floats_are_taken_as_they_are(encoder):
    pixels = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)
    assert torch.equal(encoder(pixels), encoder(normalize_pixels(pixels)))
    frames = encoder.encode_frames(pixels)
    assert torch.equal(frames, encoder.encode_frames(normalize_pixels(pixels)))


def test_a_single_frame_is_a_still_video_of_one_tubelet(encoder, video):
    image = video[:, :, :1]
    torch.testing.assert_close(encoder(image), encoder(image.repeat(1, 1, 2, 1, 1)))


def test_an_image_tokenizer_sees_single_frames_only(make_encoder, video):
    encoder = make_encoder(has_image_tokenizer=True)
    image = video[:, :, :1]
    before, video_before = encoder(image), encoder(video)
    assert before.shape == (2, 16, 48)
    with torch.no_grad():
        encoder.image_embed.weight.mul_(-1)
    assert not torch.allclose(encoder(image), before, atol=0.01)
    assert torch.equal(encoder(video), video_before)
    assert not torch.allclose(encoder(image), encoder(image.repeat(1, 1, 2, 1, 1)), atol=0.01)


def test_layers_go_through_the_last_norm(encoder, video):
    first, last = encoder.layers(video, [0, 1])
    torch.testing.assert_close(last, encoder(video))
    assert not torch.allclose(first, last, atol=0.1)
    ids = torch.arange(5).expand(2, -1)
    torch.testing.assert_close(
        encoder.layers(video, [1], token_ids=ids)[0], encoder(video, token_ids=ids)
    )


def test_levels_have_norms_of_their_own(make_encoder, video):
    encoder = make_encoder(levels=(0, 1))
    levels = encoder.levels(video)
    assert levels.shape == (2, 32, 96)
    torch.testing.assert_close(levels[..., 48:], encoder(video))
    with torch.no_grad():
        encoder.level_norms[0].bias.add_(1.0)
    torch.testing.assert_close(
        encoder.levels(video) - levels,
        torch.tensor([1.0] * 48 + [0.0] * 48).expand(2, 32, 96),
        atol=1e-5,
        rtol=0,
    )


def test_without_levels_the_levels_are_the_tokens(encoder, video):
    assert torch.equal(encoder.levels(video), encoder(video))


@pytest.mark.parametrize("indices", [[], [1, 0], [2], [-1], [0, 0]])
def test_layers_that_are_not_there_are_refused(encoder, video, indices):
    with pytest.raises(ValueError, match="layers must be ascending block indices from 0 to 1"):
        encoder.layers(video, indices)


def test_a_layer_without_a_norm_is_refused(make_encoder, video):
    encoder = make_encoder(depth=3, levels=(0, 2))
    with pytest.raises(ValueError, match=r"norms for the layers \[0, 2\] only, not for \[1\]"):
        encoder.layers(video, [1, 2])


@pytest.mark.parametrize("levels", [(), (0,), (1, 0), (-1, 1)])
def test_levels_that_do_not_end_with_the_last_block_are_refused(make_encoder, levels):
    with pytest.raises(ValueError, match="levels must be ascending block indices that end with"):
        make_encoder(levels=levels)


def test_take_tokens_takes_each_clips_own(ids):
    tokens = torch.randn(2, 32, 5)
    taken = take_tokens(tokens, ids)
    for clip in range(2):
        assert torch.equal(taken[clip], tokens[clip, ids[clip]])


def test_the_config_makes_the_same_architecture_again(encoder):
    again = type(encoder)(**encoder.config)
    again.load_state_dict(encoder.state_dict())
    assert again.grid == encoder.grid == (2, 4, 4)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 3, 5, 32, 32), "video time 5 is not a multiple of the tubelet's 2; use 4 or 6"),
        ((1, 3, 4, 30, 32), "video height 30 is not a multiple of the tubelet's 8; use 24 or 32"),
        ((1, 3, 4, 32, 4), "video width 4 is not a multiple of the tubelet's 8; use 8 or 16"),
        ((1, 4, 3, 32, 32), "(batch, 3, time, height, width), got (1, 4, 3, 32, 32)"),
        ((3, 4, 32, 32), "(batch, 3, time, height, width), got (3, 4, 32, 32)"),
    ],
)
def test_a_video_that_does_not_fit_is_refused_with_what_would(encoder, shape, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        encoder(torch.zeros(shape))


def test_frames_of_another_layout_are_refused(encoder):
    with pytest.raises(ValueError, match=r"frames must be .* got \(2, 3, 32, 32\)"):
        encoder.encode_frames(torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize("shape", [(1, 10), (10,)])
def test_ids_of_another_batch_are_refused(encoder, video, shape):
    with pytest.raises(ValueError, match=r"token_ids must be \(batch=2, context\), got"):
        encoder(video, token_ids=torch.zeros(shape, dtype=torch.long))


def test_an_image_size_that_no_patch_divides_is_refused_when_it_is_made(make_encoder):
    with pytest.raises(ValueError, match="height 36 is not a multiple of the tubelet's 8"):
        make_encoder(image_size=36)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("positions", ["rope_interleaved", "sincos_3d"])
def test_pixels_go_into_an_encoder_of_any_precision(make_encoder, dtype, positions):
    encoder = make_encoder(positions=positions)
    pixels = torch.randint(0, 256, (1, 3, 4, 32, 32), dtype=torch.uint8)
    expected = encoder(pixels)
    tokens = encoder.to(dtype)(pixels)
    assert tokens.dtype == dtype
    torch.testing.assert_close(tokens.float(), expected, atol=0.15, rtol=0.05)
    assert encoder.encode_frames(pixels).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.bool])
def test_a_video_that_is_neither_pixels_nor_floats_is_refused(encoder, dtype):
    with pytest.raises(ValueError, match=rf"video must be uint8 in \[0, 255\], or .* got {dtype}"):
        encoder(torch.zeros(1, 3, 4, 32, 32, dtype=dtype))


@pytest.mark.parametrize("wrong", [-1, 32])
@pytest.mark.parametrize("positions", ["rope_interleaved", "sincos_3d"])
def test_ids_that_are_no_places_are_refused(make_encoder, video, ids, wrong, positions):
    ids[1, 3] = wrong
    words = r"token_ids must be 0 to 31, places in a grid of \(2, 4, 4\) tokens, got "
    with pytest.raises(ValueError, match=words):
        make_encoder(positions=positions)(video, token_ids=ids)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_ids_that_are_no_integers_are_refused(encoder, video, ids, dtype):
    with pytest.raises(ValueError, match=f"token_ids must be int64, got {dtype}"):
        encoder(video, token_ids=ids.to(dtype))


def test_no_ids_at_all_are_no_tokens(encoder, video, ids):
    assert encoder(video, token_ids=ids[:, :0]).shape == (2, 0, 48)
