from urllib.error import URLError

import pytest
import timm
import torch
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import nn

from jepa.checkpoints.native import load_model
from jepa.checkpoints.timm_weights import read_timm_ijepa

# The flags of vit_huge_patch14_gap_224 in timm.
IJEPA = {"class_token": False, "global_pool": "avg", "fc_norm": False, "num_classes": 0}
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}


def make_vit(**options):
    """A tiny vision transformer of timm, whose weights are large enough that all of them matter."""
    torch.manual_seed(0)
    module = VisionTransformer(**(IJEPA | TINY | options)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def difference(one, two):
    return float((one - two).abs().max() / two.abs().max())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"embed_dim": 96, "num_heads": 4, "depth": 3, "mlp_ratio": 48 / 11},
        {"img_size": 42, "patch_size": 14, "num_heads": 4},
    ],
    ids=["tiny", "giant's ratio", "patch of 14"],
)
@torch.no_grad()
def test_tokens_are_those_of_timm_in_its_order(options):
    module = make_vit(**options)
    model = read_timm_ijepa(module)
    images = torch.randn(2, 3, *module.patch_embed.img_size)
    tokens, theirs = model(images.unsqueeze(2)), module.forward_features(images)
    assert difference(tokens, theirs) < 1e-5
    assert difference(tokens.flip(1), theirs) > 0.1  # so the order is theirs
    assert not model.training


def test_heads_and_sizes_are_those_of_the_module():
    config = read_timm_ijepa(make_vit()).encoder.config
    wanted = {"num_heads": 3, "dim": 48, "depth": 2, "patch_size": 8, "image_size": 32}
    wanted |= {"tubelet_size": 1, "clip_length_frames": 1, "positions": "sincos_2d"}
    assert config | wanted == config


def test_the_table_of_positions_is_the_modules_and_not_a_fresh_one():
    module = make_vit()
    assert torch.equal(read_timm_ijepa(module).encoder.positions.table, module.pos_embed[0])


@torch.no_grad()
def test_a_head_is_dropped_and_named(caplog, tmp_path):
    module = make_vit(num_classes=5)
    model = read_timm_ijepa(module)
    assert "dropped: head.weight (5, 48), head.bias (5,)" in caplog.text
    again = load_model(model.save_pretrained(tmp_path))
    assert "Dropped: head.weight (5, 48)" in again.source
    images = torch.randn(1, 3, 32, 32)
    assert difference(again(images.unsqueeze(2)), module.forward_features(images)) < 1e-5


def test_half_precision_becomes_float32_and_the_module_stays_what_it_was():
    module = make_vit().half()
    model = read_timm_ijepa(module)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        model.encoder.transformer.norm.weight.zero_()
    assert module.norm.weight.abs().sum() > 0
    assert module.norm.weight.dtype == torch.float16


def test_our_weights_do_not_share_memory_with_the_module():
    module = make_vit()
    model = read_timm_ijepa(module)
    with torch.no_grad():
        model.encoder.transformer.norm.weight.zero_()
    assert module.norm.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_token": True, "global_pool": "token"}, "it has cls_token"),
        ({"reg_tokens": 2}, "it has reg_token"),
        ({"global_pool": "map"}, "it has attn_pool"),
        ({"pos_embed": "none"}, "it has no pos_embed"),
        ({"pre_norm": True}, "it has norm_pre"),
        ({"fc_norm": True}, "it has fc_norm"),
        ({"img_size": (32, 40)}, r"a grid of \(4, 5\) patches of \(8, 8\) is not square"),
        ({"act_layer": nn.SiLU}, "its blocks are made of Block, Attention, Mlp, SiLU"),
        ({"block_fn": ResPostBlock}, "its blocks are made of ResPostBlock"),
        ({"norm_layer": nn.LayerNorm}, r"layer norms have eps \[1e-05\], not 1e-06"),
        ({"init_values": 1e-5}, r"4 unexpected .*ls1\.gamma"),
        ({"qk_norm": True}, r"unexpected .*k_norm\.bias"),
        ({"qkv_bias": False}, r"missing .*qkv\.bias"),
    ],
)
def test_what_is_no_plain_vision_transformer_is_refused(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        read_timm_ijepa(make_vit(**options))
    assert "\n" not in str(caught.value)


def test_a_model_of_another_class_is_refused():
    with pytest.raises(ValueError, match="Linear is a Linear, not a VisionTransformer of timm"):
        read_timm_ijepa(nn.Linear(2, 2))


def test_a_name_that_timm_does_not_have_is_refused_with_those_that_it_has():
    words = (
        r"no I-JEPA weights 'vit_tiny_patch16_224'; it has .*vit_huge_patch14_gap_224.in1k_ijepa"
    )
    with pytest.raises(ValueError, match=words):
        read_timm_ijepa("vit_tiny_patch16_224")


def test_without_network_one_line_says_that_the_weights_cannot_be_downloaded(monkeypatch):
    def offline(name, pretrained):
        assert pretrained
        raise URLError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", offline)
    words = "in1k_ijepa of timm cannot be downloaded: .*Name or service not known"
    with pytest.raises(FileNotFoundError, match=words) as caught:
        read_timm_ijepa("vit_huge_patch14_gap_224.in1k_ijepa")
    assert "\n" not in str(caught.value)


def test_a_name_is_downloaded_with_its_weights(monkeypatch):
    asked = []

    def create(name, pretrained):
        asked.append((name, pretrained))
        return make_vit()

    monkeypatch.setattr(timm, "create_model", create)
    model = read_timm_ijepa("vit_huge_patch14_gap_224.in1k_ijepa")
    assert asked == [("vit_huge_patch14_gap_224.in1k_ijepa", True)]
    assert "vit_huge_patch14_gap_224.in1k_ijepa of timm" in model.source
