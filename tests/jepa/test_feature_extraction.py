"""Features of one's own files: which frames, when, where, and what is left after an error."""

import io
import json
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from data_pipelines.decoders import decoder_class
from data_pipelines.synthetic import moving_shape
from data_pipelines.transforms import CropBox, ResizeShortSideAndCenterCrop, crop_and_resize
from data_pipelines.video_writing import write_mp4
from jepa import feature_extraction
from jepa.__main__ import main
from jepa.checkpoints.native import save_model
from jepa.feature_extraction import extract_features, look_at, read_clips
from jepa.feature_plan import Options, Source, make_plan
from jepa.models.jepa_model import JepaModel


@pytest.fixture
def encoder(make_encoder):
    """Clips of 4 frames of 32 pixels: a grid of 2 x 4 x 4 tokens 48 wide."""
    return make_encoder().eval()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Makes a video of a moving shape, 48 high and 64 wide; one file per length."""
    folder = tmp_path_factory.mktemp("videos")

    def make(num_frames):
        path = folder / f"{num_frames}.mp4"
        if not path.exists():
            frames = moving_shape(
                np.random.default_rng(num_frames), "right", num_frames=num_frames, size=64
            )
            write_mp4(path, frames[:, :48], frames_per_second=10, keyframe_interval=5)
        return path

    return make


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "features.safetensors"


@pytest.fixture(autouse=True)
def folder_of_the_result(out):
    out.parent.mkdir()


@pytest.fixture
def extract(encoder, out):
    """Extracts with options; returns the arrays."""

    def run(*, videos=(), images=(), **options):
        extract_features(encoder, out, videos=videos, images=images, options=Options(**options))
        return load_file(out)

    return run


def decoded(path):
    with decoder_class("pyav")(path.read_bytes(), "by hand") as opened:
        return opened.frames_at(range(len(opened.timestamps_seconds())))


def inputs_of(path):
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["inputs"])


def by_hand(encoder, frames, indices, *, size=32):
    """Tokens (time, height, width, dim) of one clip of these frames, cropped as for evaluation."""
    clip = torch.from_numpy(frames.pixels[np.array(indices)])
    clip = ResizeShortSideAndCenterCrop(size)(clip, torch.Generator())
    with torch.no_grad():
        tokens = encoder(clip[None])[0]
    return tokens.unflatten(0, encoder.grid_of((len(indices), size, size))).numpy()


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


# What is encoded.


def test_features_are_those_of_the_encoder_on_the_same_frames_clip_by_clip(extract, encoder, video):
    arrays = extract(videos=[video(12)])
    frames = decoded(video(12))
    clips = [by_hand(encoder, frames, range(start, start + 4)) for start in (0, 4, 8)]
    assert arrays["features"].shape == (6, 4, 4, 48) and arrays["features"].dtype == np.float32
    assert_close(arrays["features"], np.concatenate(clips))
    assert np.abs(clips[0] - clips[1]).max() > 0.01  # the clips differ, so their order matters


@pytest.mark.parametrize(("num_frames", "start", "new"), [(14, 10, 1), (13, 9, 1), (15, 11, 2)])
def test_the_last_clip_ends_with_the_video_and_gives_only_its_new_rows(
    extract, encoder, video, num_frames, start, new
):
    arrays = extract(videos=[video(num_frames)])
    last = by_hand(encoder, decoded(video(num_frames)), range(start, num_frames))
    assert len(arrays["features"]) == 6 + new
    assert_close(arrays["features"][6:], last[-new:])
    assert arrays["frame_indices"][-1].tolist() == [num_frames - 2, num_frames - 1]


def test_a_smaller_stride_gives_later_rows_more_past(extract, encoder, video):
    arrays = extract(videos=[video(8)], stride_frames=2)
    frames = decoded(video(8))
    clips = [by_hand(encoder, frames, range(start, start + 4)) for start in (0, 2, 4)]
    assert_close(arrays["features"], np.concatenate([clips[0], clips[1][1:], clips[2][1:]]))
    assert arrays["frame_indices"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_video_shorter_than_a_clip_is_encoded_in_the_tubelets_that_it_fills(
    extract, encoder, video, out
):
    arrays = extract(videos=[video(7)], clip_length_frames=16)
    frames = decoded(video(7))
    first, last = by_hand(encoder, frames, range(6)), by_hand(encoder, frames, range(1, 7))
    assert_close(arrays["features"], np.concatenate([first, last[-1:]]))
    assert inputs_of(out)[0]["clip_length_frames"] == 6


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_the_batch_changes_nothing(extract, video, batch):
    paths = [video(13), video(12)]
    one, more = extract(videos=paths), extract(videos=paths, batch=batch)
    assert one.keys() == more.keys()
    for name in one:
        assert_close(more[name], one[name])


@pytest.mark.parametrize("options", [{}, {"stride_frames": 2}, {"frames_per_second": 15}])
def test_decoding_in_small_pieces_changes_nothing(extract, video, monkeypatch, options):
    at_once = extract(videos=[video(13)], **options)
    monkeypatch.setattr(feature_extraction, "DECODED_BYTES", 3 * 48 * 64 * 3)  # three frames
    in_pieces = extract(videos=[video(13)], **options)
    for name in at_once:
        np.testing.assert_array_equal(in_pieces[name], at_once[name])


def test_a_long_video_is_never_in_memory_as_a_whole(extract, video, monkeypatch):
    asked = []
    pyav = decoder_class("pyav")
    frames_at = pyav.frames_at
    monkeypatch.setattr(
        pyav, "frames_at", lambda self, wanted: asked.append(len(wanted)) or frames_at(self, wanted)
    )
    monkeypatch.setattr(feature_extraction, "DECODED_BYTES", 5 * 48 * 64 * 3)
    extract(videos=[video(31)])
    assert max(asked) == 5 and sum(asked) == 31  # every frame once


def test_both_decoders_give_the_same_features_and_times(extract, video):
    one, other = (extract(videos=[video(13)], decoder=name) for name in ("pyav", "decord"))
    np.testing.assert_array_equal(other["frame_indices"], one["frame_indices"])
    for name in ("time_start_seconds", "time_end_seconds"):
        np.testing.assert_allclose(other[name], one[name], atol=1e-4)
    np.testing.assert_allclose(other["features"], one["features"], atol=0.3)  # colours round apart
    assert np.abs(other["features"] - one["features"]).mean() < 0.02


# When.


def test_times_are_the_decoders_and_rows_end_where_the_next_frame_begins(extract, video):
    arrays = extract(videos=[video(13)])
    times = decoded(video(13)).timestamps_seconds
    frames = arrays["frame_indices"]
    np.testing.assert_array_equal(arrays["time_start_seconds"], times[frames[:, 0]])
    ends = np.append(times[1:], 1.3)
    np.testing.assert_allclose(arrays["time_end_seconds"], ends[frames[:, 1]], atol=1e-6)


@pytest.fixture
def irregular(tmp_path):
    """Eight frames whose times grow by 1, 2, 3 ... ticks of 20 ms, the first one at 2 s."""
    buffer, ticks = io.BytesIO(), 100 + np.cumsum(range(8))
    with av.open(buffer, mode="w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=50, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 50)
        for index, tick in enumerate(ticks):
            pixels = np.full((48, 64, 3), 20 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = int(tick), Fraction(1, 50)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    path = tmp_path / "irregular.mp4"
    path.write_bytes(buffer.getvalue())
    return path


def test_times_of_an_irregular_video_are_its_own_counted_from_the_first_frame(extract, irregular):
    arrays = extract(videos=[irregular])
    starts = np.cumsum(range(8)) * 0.02
    np.testing.assert_allclose(arrays["time_start_seconds"], starts[[0, 2, 4, 6]], atol=1e-6)
    np.testing.assert_allclose(arrays["time_end_seconds"][:3], starts[[2, 4, 6]], atol=1e-6)
    assert arrays["time_end_seconds"][3] > starts[7]


def test_a_rate_is_kept_in_time_not_in_numbers_of_frames(extract, irregular, out):
    # At 12.5 per second: 0, 80, 160 ... ms; frames begin at 0, 20, 60, 120, 200, 300, 420, 560 ms.
    arrays = extract(videos=[irregular], frames_per_second=12.5)
    assert arrays["frame_indices"].tolist() == [[0, 2], [3, 4], [5, 5], [6, 7]]
    np.testing.assert_allclose(arrays["time_start_seconds"], [0, 0.12, 0.3, 0.42], atol=1e-6)
    facts = inputs_of(out)[0]
    assert (facts["frames_not_looked_at"], facts["frames_repeated"]) == (1, 1)


def test_a_lower_rate_encodes_the_frames_on_screen_at_its_moments(extract, encoder, video):
    arrays = extract(videos=[video(31)], frames_per_second=2.5)
    assert arrays["frame_indices"].ravel().tolist() == [0, 4, 8, 12, 16, 20, 24, 28]
    frames = decoded(video(31))
    assert_close(arrays["features"][2:], by_hand(encoder, frames, [16, 20, 24, 28]))
    # A row ends with its last frame, not with the next moment: it has seen no more.
    np.testing.assert_allclose(arrays["time_end_seconds"], [0.5, 1.3, 2.1, 2.9], atol=1e-6)


def test_the_videos_own_rate_is_every_frame(extract, video):
    every, asked = extract(videos=[video(13)]), extract(videos=[video(13)], frames_per_second=10)
    np.testing.assert_array_equal(every["frame_indices"], asked["frame_indices"])


# Where.


def test_boxes_tile_the_centred_square_in_pixels_of_the_source(extract, video):
    boxes = extract(videos=[video(12)])["boxes_pixels"]  # (4, 4, 4): 48 x 48 of 48 x 64
    assert boxes[0, 0].tolist() == [0, 8, 12, 20]
    assert boxes[1, 2].tolist() == [12, 32, 24, 44]
    assert boxes[3, 3].tolist() == [36, 44, 48, 56]


def test_boxes_of_an_upright_image_leave_out_its_top_and_bottom(extract, tmp_path):
    Image.new("RGB", (40, 60)).save(tmp_path / "a.png")
    boxes = extract(images=[tmp_path / "a.png"])["boxes_pixels"]
    assert boxes[0, 0].tolist() == [10, 0, 20, 10]
    assert boxes[3, 3].tolist() == [40, 30, 50, 40]


def test_the_box_of_a_token_is_where_its_pixels_come_from(extract, encoder, tmp_path):
    with torch.no_grad():  # no mixing and no positions: a token is its patch
        for block in encoder.transformer.blocks:
            block.attn.proj.weight.zero_(), block.attn.proj.bias.zero_()
    black = np.zeros((48, 64, 3), np.uint8)
    marked = black.copy()
    marked[24:36, 44:56] = 255
    for name, pixels in (("black", black), ("marked", marked)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    arrays = extract(images=[tmp_path / "black.png", tmp_path / "marked.png"])
    change = np.abs(arrays["1/features"] - arrays["0/features"]).max(-1)[0]  # (height, width)
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert arrays["0/boxes_pixels"][row, column].tolist() == [24, 44, 36, 56]


def test_a_full_frame_is_kept_whole_at_a_size_of_its_own_shape(extract, encoder, video, out):
    arrays = extract(videos=[video(12)], full_frame=True)  # 48 x 64 -> 32 x 42.7 -> 32 x 40
    assert arrays["features"].shape == (6, 4, 5, 48)
    pixels = torch.from_numpy(decoded(video(12)).pixels[:4])
    clip = crop_and_resize(pixels, CropBox(0, 0, 48, 64), (32, 40), antialias=True)
    reference = torch.nn.functional.interpolate(
        pixels.permute(0, 3, 1, 2).float(), (32, 40), mode="bilinear", antialias=True
    )
    assert (clip.transpose(0, 1) - reference).abs().max() < 1.5
    with torch.no_grad():
        tokens = encoder(clip[None])[0].unflatten(0, (2, 4, 5)).numpy()
    assert_close(arrays["features"][:2], tokens)
    boxes = arrays["boxes_pixels"]
    np.testing.assert_allclose(boxes[0, 0], [0, 0, 12, 12.8], rtol=1e-6)
    assert boxes[3, 4, 2:].tolist() == [48, 64]
    assert inputs_of(out)[0]["resized_to_pixels"] == [32, 40]


def test_size_and_clip_length_are_those_the_encoder_was_made_for(make_encoder, video, out):
    encoder = make_encoder(image_size=24, clip_length_frames=6).eval()
    extract_features(encoder, out, videos=[video(12)])
    features = load_file(out)["features"]
    assert features.shape == (6, 3, 3, 48) and inputs_of(out)[0]["clip_length_frames"] == 6
    assert_close(features[:3], by_hand(encoder, decoded(video(12)), range(6), size=24))


def test_a_size_asked_for_sets_the_grid(extract, encoder, video):
    arrays = extract(videos=[video(12)], size=48)
    assert arrays["features"].shape == (6, 6, 6, 48)
    assert_close(arrays["features"][:2], by_hand(encoder, decoded(video(12)), range(4), size=48))


# What is stored.


def test_pooling_over_frames_is_the_mean_over_each_rows_tokens(extract, video):
    tokens, pooled = extract(videos=[video(13)]), extract(videos=[video(13)], pool="frame")
    assert pooled["features"].shape == (7, 48) and "boxes_pixels" not in pooled
    assert_close(pooled["features"], tokens["features"].mean((1, 2)))
    for name in ("time_start_seconds", "time_end_seconds", "frame_indices"):
        np.testing.assert_array_equal(pooled[name], tokens[name])


def test_pooling_over_clips_is_the_mean_over_all_tokens_of_each_clip(extract, encoder, video):
    pooled = extract(videos=[video(9)], pool="clip")
    frames, starts = decoded(video(9)), [0, 4, 5]
    clips = [by_hand(encoder, frames, range(start, start + 4)).mean((0, 1, 2)) for start in starts]
    assert_close(pooled["features"], np.stack(clips))
    assert pooled["frame_indices"].tolist() == [list(range(s, s + 4)) for s in starts]
    np.testing.assert_allclose(pooled["time_start_seconds"], [0, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(pooled["time_end_seconds"], [0.4, 0.8, 0.9], atol=1e-6)


def test_layers_are_stored_by_number(extract, encoder, video, out):
    arrays = extract(videos=[video(12)], layers=(0, 1))
    assert "features" not in arrays
    assert not np.allclose(arrays["features_layer_0"], arrays["features_layer_1"])
    assert_close(arrays["features_layer_1"], extract(videos=[video(12)])["features"])
    clip = torch.from_numpy(decoded(video(12)).pixels[8:])
    clip = ResizeShortSideAndCenterCrop(32)(clip, torch.Generator())
    with torch.no_grad():
        layer = encoder.layers(clip[None], [0])[0][0].unflatten(0, (2, 4, 4)).numpy()
    assert_close(arrays["features_layer_0"][4:], layer)


def test_levels_are_stored_side_by_side(make_encoder, video, out):
    encoder = make_encoder(levels=[0, 1]).eval()
    extract_features(encoder, out, videos=[video(12)], options=Options(levels=True))
    levels = load_file(out)["features"]
    assert levels.shape == (6, 4, 4, 96)
    extract_features(encoder, out, videos=[video(12)])
    assert_close(levels[..., 48:], load_file(out)["features"])


def test_half_precision_is_the_rounded_full_one(extract, video):
    full, half = extract(videos=[video(12)]), extract(videos=[video(12)], dtype="float16")
    assert half["features"].dtype == np.float16
    np.testing.assert_array_equal(half["features"], full["features"].astype(np.float16))


def test_an_image_is_one_row_at_time_zero(extract, encoder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    arrays = extract(images=[tmp_path / "a.png"])
    clip = ResizeShortSideAndCenterCrop(32)(torch.from_numpy(pixels[None]), torch.Generator())
    with torch.no_grad():
        assert_close(arrays["features"], encoder(clip[None])[0].unflatten(0, (1, 4, 4)).numpy())
    assert arrays["frame_indices"].tolist() == [[0]]
    assert arrays["time_start_seconds"].tolist() == arrays["time_end_seconds"].tolist() == [0.0]
    assert arrays["boxes_pixels"][0, 0].tolist() == [0, 8, 10, 18]


def test_an_image_goes_through_the_image_tokenizer_where_there_is_one(make_encoder, tmp_path, out):
    encoder = make_encoder(has_image_tokenizer=True).eval()
    Image.new("RGB", (32, 32), (200, 30, 90)).save(tmp_path / "a.png")
    extract_features(encoder, out, images=[tmp_path / "a.png"])
    before = load_file(out)["features"]
    with torch.no_grad():
        encoder.image_embed.bias.add_(torch.randn(48))
    extract_features(encoder, out, images=[tmp_path / "a.png"])
    assert not np.allclose(before, load_file(out)["features"])


def test_several_inputs_are_what_each_is_alone_under_its_number(extract, video, tmp_path, out):
    Image.new("RGB", (64, 48), (200, 30, 90)).save(tmp_path / "a.png")
    together = extract(videos=[video(12), video(7)], images=[tmp_path / "a.png"], batch=2)
    facts = inputs_of(out)
    alone = [extract(videos=[video(number)]) for number in (12, 7)]
    alone.append(extract(images=[tmp_path / "a.png"]))
    assert sum(map(len, alone)) == len(together)
    for number, arrays in enumerate(alone):
        for name, array in arrays.items():
            assert_close(together[f"{number}/{name}"], array)
    assert facts[1]["path"] == str(video(7)) and facts[2]["path"] == str(tmp_path / "a.png")
    assert [fact["kind"] for fact in facts] == ["video", "video", "image"]


def test_the_header_says_how_the_features_were_made(extract, video, out):
    extract(videos=[video(13)], frames_per_second=5, layers=(1,))
    with safe_open(out, "np") as file:
        header = file.metadata()
    assert header["frames_per_second"] == "5" and header["layers"] == "1"
    assert header["resize"] == "largest centred square, resized to 32 x 32 pixels"
    facts = inputs_of(out)[0]
    assert facts["grid"] == [4, 4, 4] and facts["num_clips"] == 2
    assert (facts["num_frames"], facts["frames_encoded"]) == (13, 7)
    assert facts["frames_not_looked_at"] == 6
    assert facts["frames_per_second"] == pytest.approx(10)
    assert facts["crop_box_pixels"] == {"top": 0, "left": 8, "height": 48, "width": 48}


# The command.


@pytest.fixture
def model(encoder, tmp_path):
    return str(save_model(JepaModel(encoder), tmp_path / "model"))


@pytest.fixture
def predict(model, out, capfd):
    """Runs `jepa predict`; returns the exit code, what was printed, and the error lines."""

    def run(*options, model=model, out=out):
        code = main(["predict", "--model", model, "--out", str(out), *map(str, options)])
        captured = capfd.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


def test_the_command_writes_the_file_and_says_what_it_holds(predict, extract, video, out):
    code, printed, errors = predict("--video", video(13), "--batch", 2, "--device", "cpu")
    assert (code, errors) == (0, [])
    assert printed.splitlines()[-1] == (
        f"{out}: 7x4x4 tokens as float32, 1.30 s of video in 4 clips"
    )
    assert printed.splitlines()[0].startswith("4 clips to encode, 2")
    from_command = load_file(out)
    assert_close(from_command["features"], extract(videos=[video(13)])["features"])


def test_every_option_reaches_the_features(predict, video, out, tmp_path, model):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    code, _, _ = predict(
        "--image", tmp_path / "a.png", "--video", video(13), video(12), "--size", 40, "--frames", 6,
        "--fps", 5, "--stride", 2, "--layers", 0, 1, "--pool", "frame", "--dtype", "float16",
        "--full-frame", "--decoder", "pyav",
    )  # fmt: skip
    assert code == 0
    arrays = load_file(out)
    assert arrays["0/features_layer_0"].shape == (1, 48)  # in the order of the command
    assert arrays["1/features_layer_1"].shape == (4, 48)
    assert arrays["2/features_layer_1"].dtype == np.float16
    with safe_open(out, "np") as file:
        header = file.metadata()
    assert header["model"] == model
    assert inputs_of(out)[1]["clip_starts"] == [0, 1]
    assert inputs_of(out)[0]["resized_to_pixels"] == [40, 56]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_of_half_precision_gives_features(predict, encoder, video, out, tmp_path, dtype):
    folder = save_model(JepaModel(encoder.to(dtype)), tmp_path / "half")
    code, _, errors = predict("--video", video(12), model=str(folder))
    assert (code, errors) == (0, [])
    frames = decoded(video(12))
    clips = [by_hand(encoder.float(), frames, range(start, start + 4)) for start in (0, 4, 8)]
    features = load_file(out)["features"]
    np.testing.assert_allclose(features, np.concatenate(clips), atol=0.15, rtol=0.05)


def test_predict_with_a_config_is_still_lightnings(monkeypatch):
    seen = []
    monkeypatch.setattr("jepa.lightning_cli.main", lambda argv: seen.append(argv) or 0)
    arguments = ["predict", "--config", "--video.yaml", "--data.video", "x"]
    assert main(arguments) == 0
    assert seen == [arguments]


@pytest.mark.parametrize("option", [["--video", "a.mp4"], ["--image=a.png"]])
def test_predict_with_files_is_not(monkeypatch, option):
    seen = []
    monkeypatch.setattr("jepa.feature_extraction.main", lambda argv: seen.append(argv) or 0)
    assert main(["predict", "--model", "m", *option]) == 0
    assert seen == [["--model", "m", *option]]


def test_the_help_names_the_other_way_to_predict(capsys):
    assert main(["predict", "--help"]) == 0
    page = capsys.readouterr().out
    assert "--full-frame" in page and "jepa predict --config FILE" in page


REFUSALS = [
    ("--video nowhere.mp4", "no video file nowhere.mp4"),
    ("--image nowhere.png", "no image file nowhere.png"),
    ("--video words.txt", "words.txt: not a video: begins with"),
    ("--video a.png", "a.png: not a video"),
    ("--image words.txt", "words.txt: not an image"),
    ("--video cut.mp4", "cut.mp4: PyAV cannot open it"),
    (
        "--video 12.mp4 --size 60",
        "--size 60 is not a multiple of the patch's 8 pixels; use 56 or 64",
    ),
    ("--video 12.mp4 --size 0", "--size 0 is not a multiple"),
    ("--video 12.mp4 --size 99999999984", "--size must be at most 16384 pixels, got 99999999984"),
    ("--image a.png --size 99999999984", "--size must be at most 16384 pixels, got 99999999984"),
    ("--video 12.mp4 --frames 5", "is not a multiple of the tubelet's 2 frames; use 4 or 6"),
    ("--video 12.mp4 --frames 0", "--frames 0 is not a multiple"),
    ("--video 12.mp4 --stride 3", "--stride 3 is not a multiple of the tubelet's 2 frames; use 2"),
    ("--video 12.mp4 --stride 8", "--stride 8 exceeds the clip's 4 frames: those in between"),
    ("--video 12.mp4 --fps 0", "--fps must be above 0"),
    ("--video 12.mp4 --fps nan", "--fps must be above 0"),
    ("--video 12.mp4 --fps 0.5", "12.mp4: 1 frame to look at, but a token needs 2"),
    ("--video 12.mp4 --batch 0", "--batch must be at least 1"),
    ("--video 12.mp4 --layers 1 2", "layers must be ascending block indices from 0 to 1"),
    ("--video 12.mp4 --layers -1", "layers must be ascending block indices from 0 to 1, got [-1]"),
    ("--video 12.mp4 --layers 1 --levels", "--layers and --levels exclude each other"),
    ("--video 12.mp4 --sise 32", "unrecognized arguments: --sise 32"),
    ("--video 12.mp4 --pool all", "argument --pool: invalid choice: 'all'"),
    ("--video 12.mp4 --decoder vlc", "argument --decoder: invalid choice: 'vlc'"),
    ("--video", "argument --video: expected at least one argument"),
]


@pytest.mark.parametrize(("options", "words"), REFUSALS)
def test_a_fault_of_the_user_is_one_line_and_leaves_nothing(
    predict, video, out, tmp_path, monkeypatch, options, words
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(video(12), "12.mp4")
    (tmp_path / "cut.mp4").write_bytes(video(12).read_bytes()[:2000])
    (tmp_path / "words.txt").write_text("these are words")
    Image.new("RGB", (64, 48)).save("a.png")
    out.write_text("from before")
    code, _, errors = predict(*options.split())
    assert code == 2 and len(errors) == 1
    assert errors[0].startswith("error: ") and words in errors[0]
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert out.read_text() == "from before"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("features.npz", "--out must end in .safetensors, got"),
        ("nowhere/features.safetensors", "there is no folder"),
        ("file/features.safetensors", "there is no folder"),
        ("folder.safetensors", "is a folder; name a file in it"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_looked_for(
    predict, tmp_path, video, name, words
):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    code, _, errors = predict("--video", video(12), model="no/such/model", out=tmp_path / name)
    assert code == 2 and len(errors) == 1 and words in errors[0]


def test_a_model_that_is_not_there_is_one_line(predict, video, tmp_path):
    code, _, errors = predict("--video", video(12), model=str(tmp_path / "nowhere"))
    assert code == 2 and len(errors) == 1 and "nowhere" in errors[0]


def test_no_gpu_is_one_line(predict, video, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, errors = predict("--video", video(12), "--device", "cuda")
    assert code == 2 and "this torch sees no GPU" in errors[0]


def test_more_than_the_disk_holds_is_refused_before_anything_is_encoded(
    predict, video, encoder, monkeypatch, out
):
    free = shutil.disk_usage("/")._replace(free=18_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    monkeypatch.setattr(feature_extraction, "encode", None)
    code, _, errors = predict("--video", video(12))  # 6 x 4 x 4 tokens of 192 bytes
    assert code == 2 and len(errors) == 1
    assert "the features take 2" in errors[0] and "--pool frame" in errors[0]
    assert list(out.parent.iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    assert predict("--video", video(12), "--pool", "frame")[0] == 0


def test_a_video_damaged_in_its_middle_says_how_far_it_went_and_leaves_nothing(
    predict, video, out, monkeypatch
):
    path = out.parent.parent / "damaged.mp4"
    data = bytearray(video(31).read_bytes())
    with av.open(str(video(31))) as file:
        packets = [packet for packet in file.demux(video=0) if packet.pos]
    for packet in packets[20:]:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    monkeypatch.setattr(feature_extraction, "DECODED_BYTES", 5 * 48 * 64 * 3)
    code, _, errors = predict("--video", video(12), path)
    assert code == 2 and len(errors) == 1
    assert f"{path}: frames before 20 of 31 (2.0 s) were decoded, then PyAV: " in errors[0]
    assert "nothing is written" in errors[0]
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(extract, video, out, monkeypatch, error):
    def stop(*_):
        raise error

    monkeypatch.setattr(feature_extraction, "encode", stop)
    with pytest.raises(error):
        extract(videos=[video(12)])
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "words"), [(float("nan"), "not finite"), (1e5, "too large for float16")]
)
def test_numbers_that_cannot_be_stored_are_refused(extract, encoder, video, value, words):
    with torch.no_grad():
        encoder.transformer.norm.bias.fill_(value)
    with pytest.raises(ValueError, match=words):
        extract(videos=[video(12)], dtype="float16")


def test_nothing_to_encode_is_refused(extract):
    with pytest.raises(ValueError, match="nothing to encode"):
        extract()


def test_a_frame_size_that_changes_is_refused(video, encoder):
    source = look_at(video(12), "video")
    wrong = Source(
        source.path, "video", 64, 64, source.frame_starts_seconds, source.frame_ends_seconds
    )
    plan = make_plan(encoder, wrong, Options())
    with pytest.raises(ValueError, match="the frame size changes within the video"):
        next(read_clips([plan], "pyav"))
