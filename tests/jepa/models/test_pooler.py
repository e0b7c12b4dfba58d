import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from jepa.models.pooler import AttentivePooler, AttentiveProbe

# Random weights, tokens and logits, made by the released code.
GOLDEN = Path(__file__).parents[2] / "golden" / "probe"
OFFICIAL = {
    "module.pooler.query_tokens": "pooler.queries",
    "module.pooler.cross_attention_block.": "pooler.cross.",
    "module.pooler.blocks.": "pooler.blocks.",
    "module.linear.": "heads.0.",
    "xattn.": "attn.",
    "mlp.fc1.": "mlp.0.",
    "mlp.fc2.": "mlp.2.",
}
EK100 = {"verb": 5, "noun": 7, "action": 11}


# The released code and a calculation by hand agree.


def test_logits_are_those_of_the_released_code():
    checkpoint = torch.load(GOLDEN / "checkpoint.pt", map_location="cpu", weights_only=True)
    config = json.loads((GOLDEN / "config.json").read_text())
    weights = {}
    for name, value in checkpoint["classifiers"][0].items():
        for theirs, ours in OFFICIAL.items():
            name = name.replace(theirs, ours)
        weights[name] = value[0] if name == "pooler.queries" else value
    probe = AttentiveProbe(
        dim=config["embed_dim"],
        num_classes={"label": config["num_classes"]},
        num_heads=config["num_heads"],
        depth=config["depth"],
    )
    probe.load_state_dict(weights)
    golden = load_file(GOLDEN / "golden.safetensors")
    logits = probe(golden["tokens"])["label"]
    # Close enough to tell the epsilon of the norms: with 1e-6 it would be 2e-6.
    assert (logits - golden["logits"]).abs().max() < 1e-6 * golden["logits"].abs().max()


def norm_by_hand(layer, x, eps):
    centred = x - x.mean(-1, keepdim=True)
    std = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return centred / std * layer.weight + layer.bias


def attention_by_hand(queries, keys, values, num_heads):
    """One head after the other, one query after the other, of one sample."""
    heads = []
    for q, k, v in zip(*(x.chunk(num_heads, -1) for x in (queries, keys, values)), strict=True):
        weights = [torch.softmax(k @ query / math.sqrt(len(query)), 0) for query in q]
        heads.append(torch.stack([weight @ v for weight in weights]))
    return torch.cat(heads, -1)


def mlp_by_hand(mlp, x):
    hidden = x @ mlp[0].weight.T + mlp[0].bias
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return hidden @ mlp[2].weight.T + mlp[2].bias


def pooled_by_hand(pooler, tokens, *, num_heads, eps):
    """tokens (tokens, dim) of one sample to (queries, dim)."""
    for block in pooler.blocks:
        normed = norm_by_hand(block.norm1, tokens, eps)
        qkv = (normed @ block.attn.qkv.weight.T + block.attn.qkv.bias).chunk(3, -1)
        attended = attention_by_hand(*qkv, num_heads)
        tokens = tokens + attended @ block.attn.proj.weight.T + block.attn.proj.bias
        tokens = tokens + mlp_by_hand(block.mlp, norm_by_hand(block.norm2, tokens, eps))
    cross, queries = pooler.cross, pooler.queries
    normed = norm_by_hand(cross.norm1, tokens, eps)
    keys, values = (normed @ cross.attn.kv.weight.T + cross.attn.kv.bias).chunk(2, -1)
    asked = queries @ cross.attn.q.weight.T + cross.attn.q.bias
    queries = queries + attention_by_hand(asked, keys, values, num_heads)
    return queries + mlp_by_hand(cross.mlp, norm_by_hand(cross.norm2, queries, eps))


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("norm_eps", [1e-5, 0.3])
def test_the_pooler_does_what_the_paper_says_step_by_step(make_probe, depth, norm_eps):
    probe = make_probe(depth=depth, num_classes=EK100, mlp_ratio=1.5, norm_eps=norm_eps)
    tokens = torch.randn(2, 7, 24)
    expected = [
        pooled_by_hand(probe.pooler, sample, num_heads=3, eps=norm_eps) for sample in tokens
    ]
    torch.testing.assert_close(probe.pooler(tokens), torch.stack(expected), atol=1e-4, rtol=1e-4)


# What it means.


def test_the_order_of_the_tokens_does_not_matter(make_probe):
    probe, tokens = make_probe(), torch.randn(2, 9, 24)
    shuffled = probe(tokens[:, torch.randperm(9)])["label"]
    torch.testing.assert_close(shuffled, probe(tokens)["label"], atol=1e-4, rtol=1e-4)


def test_every_token_and_its_sample_alone_decide(make_probe):
    probe, tokens = make_probe(), torch.randn(2, 9, 24, requires_grad=True)
    probe(tokens)["label"][0].sum().backward()
    assert (tokens.grad[0].abs().amax(-1) > 0).all()
    assert (tokens.grad[1] == 0).all()


def test_query_i_feeds_head_i_and_is_a_probe_of_its_own(make_probe):
    probe, tokens = make_probe(num_classes=EK100), torch.randn(2, 9, 24)
    together = probe(tokens)
    assert list(together) == ["verb", "noun", "action"]
    for index, (name, classes) in enumerate(EK100.items()):
        weights = {
            key: value for key, value in probe.state_dict().items() if not key.startswith("heads.")
        }
        weights["pooler.queries"] = weights["pooler.queries"][index : index + 1]
        weights["heads.0.weight"] = probe.heads[index].weight
        weights["heads.0.bias"] = probe.heads[index].bias
        alone = make_probe(num_classes={name: classes})
        alone.load_state_dict(weights)
        assert together[name].shape == (2, classes)
        torch.testing.assert_close(alone(tokens)[name], together[name], atol=1e-5, rtol=1e-5)


def test_a_probe_of_depth_one_looks_at_tokens_as_they_are(make_probe):
    probe = make_probe(depth=1)
    assert len(probe.pooler.blocks) == 0
    token = torch.randn(1, 1, 24)  # alone, it gets all the attention, whatever the query asks
    cross, queries = probe.pooler.cross, probe.pooler.queries
    value = F.linear(cross.norm1(token[0]), cross.attn.kv.weight[24:], cross.attn.kv.bias[24:])
    looked = queries + value
    expected = probe.heads[0](looked + cross.mlp(cross.norm2(looked)))
    torch.testing.assert_close(probe(token)["label"], expected, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_queries_and_every_weight(make_probe):
    probe = make_probe(num_classes=EK100)
    logits = probe(torch.randn(2, 9, 24))
    sum(values.square().sum() for values in logits.values()).backward()
    assert (probe.pooler.queries.grad.abs().amax(-1) > 0).all()
    assert all(parameter.grad.abs().max() > 0 for parameter in probe.parameters())


def test_the_config_makes_the_same_architecture_after_a_trip_through_json(make_probe):
    probe = make_probe(num_classes=EK100, depth=2, mlp_ratio=1.5, norm_eps=1e-6)
    twin = AttentiveProbe(**json.loads(json.dumps(probe.config)))
    assert twin.config == probe.config
    twin.load_state_dict(probe.state_dict())
    tokens = torch.randn(2, 9, 24)
    for name, logits in probe(tokens).items():
        assert torch.equal(twin(tokens)[name], logits)


def test_changing_the_classes_that_were_passed_does_not_change_the_config():
    classes = {"label": 5}
    probe = AttentiveProbe(dim=24, num_classes=classes, num_heads=3, depth=1)
    classes["other"] = 3
    assert probe.config["num_classes"] == {"label": 5}


# Names of classes.


def test_names_of_classes_are_in_the_config_in_the_order_of_the_heads():
    names = {"noun": ["pan", "cup", "cup"], "verb": ["cut", "wash"]}
    settings = {"dim": 24, "num_classes": {"verb": 2, "noun": 3}, "num_heads": 3, "depth": 1}
    probe = AttentiveProbe(**settings, class_names=names)
    twin = AttentiveProbe(**json.loads(json.dumps(probe.config)))
    assert twin.class_names == twin.config["class_names"] == names
    assert list(twin.class_names) == ["verb", "noun"]
    assert (twin.class_name("verb", 1), twin.class_name("noun", 0)) == ("wash", "pan")


def test_a_probe_without_names_has_the_config_that_it_had_before_there_were_any(make_probe):
    for probe in (make_probe(), make_probe(class_names=None)):
        assert "class_names" not in probe.config
        assert probe.class_names is None
        assert probe.class_name("label", 3) == "3"


def test_changing_the_names_that_were_passed_does_not_change_the_probe():
    names = {"label": ["cut", "wash"]}
    probe = AttentiveProbe(dim=24, num_classes={"label": 2}, num_heads=3, class_names=names)
    names["label"][0] = "pour"
    assert probe.class_name("label", 0) == "cut"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"label": ["a", "b"]}, "all classes of {'label': 3}, got {'label': 2} names"),
        ({"label": ["a"] * 4}, "all classes of {'label': 3}, got {'label': 4} names"),
        ({"verb": ["a"] * 3}, "all classes of {'label': 3}, got {'verb': 3} names"),
        ({"label": ["a"] * 3, "verb": ["a"]}, "got {'label': 3, 'verb': 1} names"),
        ({}, "all classes of {'label': 3}, got {} names"),
        ({"label": "abc"}, "class_names of 'label' must be a list of strings"),
        ({"label": ["a", "b", 3]}, "class_names of 'label' must be a list of strings"),
        (["a", "b", "c"], "class_names must be lists by head, got a list"),
    ],
)
def test_names_that_are_not_one_for_every_class_are_refused(names, words):
    with pytest.raises(ValueError, match="class_names") as caught:
        AttentiveProbe(dim=24, num_classes={"label": 3}, num_heads=3, class_names=names)
    assert words in str(caught.value)


def test_defaults_are_those_of_the_released_probes():
    config = AttentiveProbe(dim=32, num_classes={"label": 2}).config
    assert (config["num_heads"], config["depth"], config["mlp_ratio"]) == (16, 4, 4.0)
    assert config["norm_eps"] == 1e-5


# How it starts.


def test_weights_start_small_and_residual_branches_smaller_with_depth():
    pooler = AttentivePooler(dim=96, num_heads=4, depth=4, num_queries=64)
    for name, parameter in pooler.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
    full = [pooler.queries, pooler.cross.attn.q.weight, pooler.cross.attn.kv.weight]
    full += [pooler.cross.mlp[0].weight, *(block.attn.qkv.weight for block in pooler.blocks)]
    for weight in full:
        assert weight.std().item() == pytest.approx(0.02, rel=0.04)
    for layer, block in enumerate(pooler.blocks, start=1):
        for weight in (block.attn.proj.weight, block.mlp[2].weight):
            assert weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * layer), rel=0.04)


@pytest.mark.parametrize(("depth", "layer"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_the_last_mlp_starts_scaled_as_the_block_before_it(depth, layer):
    pooler = AttentivePooler(dim=96, num_heads=4, depth=depth)
    last = pooler.cross.mlp[2].weight
    assert last.std().item() == pytest.approx(0.02 / math.sqrt(2 * layer), rel=0.04)


# What is refused.


@pytest.mark.parametrize("depth", [1, 4])
def test_heads_that_do_not_divide_the_width_are_refused(depth):
    with pytest.raises(ValueError, match="dim=24 must be divisible by num_heads=5"):
        AttentivePooler(dim=24, num_heads=5, depth=depth)


def test_a_pooler_without_cross_attention_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 1, the cross-attention, got 0"):
        AttentivePooler(dim=24, num_heads=3, depth=0)


def test_a_pooler_without_queries_is_refused():
    with pytest.raises(ValueError, match="num_queries must be at least 1, got 0"):
        AttentivePooler(dim=24, num_heads=3, num_queries=0)


@pytest.mark.parametrize("num_classes", [{}, {"verb": 5, "noun": 0}])
def test_heads_without_classes_are_refused(num_classes):
    with pytest.raises(ValueError, match="num_classes must name heads of at least one class each"):
        AttentiveProbe(dim=24, num_classes=num_classes, num_heads=3)


@pytest.mark.parametrize("shape", [(2, 24), (2, 9, 20), (2, 3, 9, 24), (2, 0, 24)])
def test_tokens_of_another_layout_are_refused(make_probe, shape):
    with pytest.raises(ValueError, match=r"tokens must be \(batch, tokens, 24\), got \(") as caught:
        make_probe()(torch.randn(shape))
    assert str(caught.value).endswith(f"got {shape}")
