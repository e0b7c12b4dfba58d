import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jepa.checkpoints.official_probe import (
    probe_from_official,
    probe_to_official,
    read_official_probes,
)
from jepa.models.pooler import AttentiveProbe

# A probe file, tokens and logits, made by the released code with random weights.
GOLDEN = Path(__file__).parents[2] / "golden" / "probe"
EK100 = {"verb": 5, "noun": 7, "action": 11}
PROJ = "pooler.cross_attention_block.xattn.proj"


@pytest.fixture
def golden_head():
    """One head as the file has it, names with "module." before."""
    return read_official_probes(GOLDEN / "checkpoint.pt")[0]


def build(config, weights):
    probe = AttentiveProbe(**config)
    probe.load_state_dict(weights)
    return probe


# Names and shapes.


def test_a_released_head_gives_its_logits(golden_head):
    settings = json.loads((GOLDEN / "config.json").read_text())
    config, weights = probe_from_official(golden_head, num_heads=settings["num_heads"])
    assert config == {
        "dim": settings["embed_dim"],
        "num_classes": {"label": settings["num_classes"]},
        "num_heads": settings["num_heads"],
        "depth": settings["depth"],
        "mlp_ratio": 4.0,
        "norm_eps": 1e-5,
    }
    golden = load_file(GOLDEN / "golden.safetensors")
    logits = build(config, weights)(golden["tokens"])["label"]
    assert (logits - golden["logits"]).abs().max() < 1e-6 * golden["logits"].abs().max()


def test_a_head_comes_back_bit_by_bit_without_the_prefix(golden_head):
    back = probe_to_official(build(*probe_from_official(golden_head, num_heads=4)))
    assert {f"module.{name}" for name in back} == golden_head.keys()
    assert all(torch.equal(value, golden_head[f"module.{name}"]) for name, value in back.items())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth": 1},
        {"num_classes": EK100, "depth": 4},
        {"mlp_ratio": 1.5},
        {"mlp_ratio": 48 / 11, "dim": 44, "num_heads": 4},
    ],
    ids=["plain", "cross_only", "ek100", "narrow", "odd_ratio"],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_config_and_weights_come_back_from_official_names(make_probe, options, prefix):
    probe = make_probe(**options)
    official = {f"{prefix}{name}": value for name, value in probe_to_official(probe).items()}
    config, weights = probe_from_official(official, num_heads=probe.config["num_heads"])
    assert config == probe.config
    assert list(config["num_classes"]) == list(probe.config["num_classes"])  # order is meaning
    assert weights.keys() == probe.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in probe.state_dict().items())


def test_heads_of_ek100_are_read_by_name_and_not_by_their_order_in_the_file(make_probe):
    probe = make_probe(num_classes=EK100)
    official = probe_to_official(probe)
    assert official["pooler.query_tokens"].shape == (1, 3, 24)
    assert official["noun_classifier.weight"].shape == (7, 24)
    shuffled = dict(sorted(official.items(), reverse=True))
    loaded, tokens = build(*probe_from_official(shuffled, num_heads=3)), torch.randn(2, 9, 24)
    for name, logits in probe(tokens).items():
        assert torch.equal(loaded(tokens)[name], logits)


def test_the_projection_that_v_jepa_1_never_applies_is_dropped(make_probe):
    probe = make_probe(depth=1)
    official = probe_to_official(probe)
    official |= {f"{PROJ}.weight": torch.randn(24, 24), f"{PROJ}.bias": torch.randn(24)}
    _, weights = probe_from_official(official, num_heads=3)
    assert weights.keys() == probe.state_dict().keys()


def test_transformers_computes_the_same_logits():
    transformers = pytest.importorskip("transformers")
    settings = transformers.VJEPA2Config(
        hidden_size=24, num_attention_heads=2, num_hidden_layers=1, mlp_ratio=2.0, num_labels=5
    )
    model = transformers.VJEPA2ForVideoClassification(settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    theirs = {name: value for name, value in model.state_dict().items() if "vjepa2." not in name}
    config, weights = probe_from_official(official_from_transformers(theirs), num_heads=2)
    assert config["depth"] == 4
    probe = build({**config, "norm_eps": 1e-6}, weights)  # where the released code has 1e-5
    tokens = torch.randn(2, 9, 24)
    expected = model.classifier(model.pooler(tokens))
    assert (probe(tokens)["label"] - expected).abs().max() < 1e-5 * expected.abs().max()


def official_from_transformers(theirs):
    renamed = {}
    for name, value in theirs.items():
        for word, official in {
            "classifier.": "linear.",
            "cross_attention_layer.layer_norm": "cross_attention_block.norm",
            "cross_attention_layer.cross_attn.": "cross_attention_block.xattn.",
            "cross_attention_layer.": "cross_attention_block.",
            "self_attention_layers.": "blocks.",
            "self_attn.out_proj": "attn.proj",
            "self_attn.": "attn.",
            "layer_norm": "norm",
        }.items():
            name = name.replace(word, official)
        renamed[name] = value
    for name in [name for name in renamed if ".k_proj." in name]:
        k, v = renamed.pop(name), renamed.pop(name.replace(".k_proj.", ".v_proj."))
        q = renamed.pop(name.replace(".k_proj.", ".q_proj."))
        if ".xattn." in name:
            renamed[name.replace(".k_proj.", ".q.")] = q
            renamed[name.replace(".k_proj.", ".kv.")] = torch.cat((k, v))
        else:
            renamed[name.replace(".k_proj.", ".qkv.")] = torch.cat((q, k, v))
    return renamed


# Weights that are refused: one line each, with how many and the first three.


def refused(official, words, **options):
    with pytest.raises(ValueError, match=words) as caught:
        probe_from_official(official, **{"num_heads": 3, **options})
    assert "\n" not in str(caught.value)


def test_missing_and_unexpected_weights_are_counted_and_three_are_named(make_probe):
    official = probe_to_official(make_probe())
    for name in list(official):
        if name.startswith("pooler.blocks.0.attn"):
            del official[name]
    official["patch_embed.proj.weight"] = torch.zeros(24, 3)
    refused(
        official,
        r"4 missing \['pooler.blocks.0.attn.proj.bias', 'pooler.blocks.0.attn.proj.weight', "
        r"'pooler.blocks.0.attn.qkv.bias'\], 1 unexpected \['patch_embed.proj.weight'\]",
    )


@pytest.mark.parametrize(
    "name", ["pooler.query_tokens", "linear.bias", "pooler.cross_attention_block.mlp.fc1.bias"]
)
def test_no_single_weight_may_be_missing(make_probe, name):
    official = probe_to_official(make_probe())
    del official[name]
    refused(official, rf"1 missing \['{name}'\], 0 unexpected \[\]")


def test_no_weight_may_be_left_over(make_probe):
    official = probe_to_official(make_probe()) | {"verb_classifier.bias": torch.zeros(5)}
    refused(official, r"0 missing \[\], 1 unexpected \['verb_classifier.bias'\]")


def test_a_gap_among_the_blocks_is_refused(make_probe):
    official = probe_to_official(make_probe(depth=4))
    gap = {name: value for name, value in official.items() if "blocks.1." not in name}
    refused(gap, "12 missing .*blocks.1.attn.proj.bias.*12 unexpected .*blocks.2.attn.proj.bias")


def test_a_head_of_ek100_that_lacks_its_verbs_is_refused(make_probe):
    official = probe_to_official(make_probe(num_classes=EK100))
    del official["verb_classifier.weight"], official["verb_classifier.bias"]
    refused(official, r"2 missing \['verb_classifier.bias', 'verb_classifier.weight'\]")


def test_a_prefix_before_some_names_only_is_refused(make_probe):
    official = probe_to_official(make_probe())
    official["module.linear.bias"] = official.pop("linear.bias")
    refused(official, r"1 missing \['linear.bias'\], 1 unexpected \['module.linear.bias'\]")


def test_no_weights_at_all_are_refused():
    refused({}, "missing .*linear.bias.*, 0 unexpected")


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("linear.weight", (5, 20), r"1 do not fit, linear.weight is \(5, 20\), not \(5, 24\)"),
        ("linear.weight", (), r"1 do not fit, linear.weight is \(\), not \(5, 24\)"),
        ("linear.bias", (0,), r"2 do not fit, linear.weight is \(5, 24\), not \(1, 24\); linear"),
        ("pooler.query_tokens", (1, 3, 24), r"query_tokens is \(1, 3, 24\), not \(1, 1, 24\)"),
        ("pooler.query_tokens", (1, 24), r"query_tokens is \(1, 24\), not \(1, 1, 24\)"),
        ("pooler.blocks.1.mlp.fc1.weight", (48, 24), r"is \(48, 24\), not \(96, 24\)"),
        ("pooler.cross_attention_block.xattn.kv.weight", (24, 24), r"not \(48, 24\)"),
        ("pooler.cross_attention_block.norm1.bias", (0,), "of width 1 disagree: .* do not fit"),
        ("pooler.cross_attention_block.norm1.bias", (20,), "of width 20 disagree: 3[0-9] do"),
    ],
)
def test_shapes_that_disagree_are_counted_and_named(make_probe, name, shape, words):
    official = probe_to_official(make_probe()) | {name: torch.zeros(shape)}
    refused(official, f"shapes of an official probe .*{words}")


def test_three_shapes_are_named_and_the_rest_is_counted(make_probe):
    official = probe_to_official(make_probe())
    norms = [name for name in official if "norm2" in name]
    official |= {name: torch.zeros(2) for name in norms}
    with pytest.raises(ValueError, match="6 do not fit") as caught:
        probe_from_official(official, num_heads=3)
    assert sum(name in str(caught.value) for name in norms) == 3


def test_heads_that_the_released_code_has_no_name_for_are_not_written(make_probe):
    with pytest.raises(ValueError, match=r"\['label'\] or \['verb', 'noun', 'action'\], got \['no"):
        probe_to_official(make_probe(num_classes={"noun": 7, "verb": 5, "action": 11}))


# Files.


def same_heads(heads, others):
    return len(heads) == len(others) and all(
        head.keys() == other.keys() and all(torch.equal(head[name], other[name]) for name in head)
        for head, other in zip(heads, others, strict=True)
    )


@pytest.mark.parametrize("is_zip", [True, False])
def test_all_heads_of_a_file_are_read_in_their_order(make_probe, tmp_path, is_zip):
    heads = [probe_to_official(make_probe()) for _ in range(3)]
    path = tmp_path / "probe.pt"
    content = {"classifiers": heads, "opt": None, "epoch": 20}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    assert same_heads(read_official_probes(path), heads)
    assert same_heads(read_official_probes(str(path)), heads)


def refused_file(path, words, error=ValueError):
    with pytest.raises(error, match=words) as caught:
        read_official_probes(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    refused_file(tmp_path / "nowhere.pt", "no file ", FileNotFoundError)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.05, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(golden_head, tmp_path, is_zip, fraction):
    path = tmp_path / "probe.pt"
    torch.save({"classifiers": [golden_head]}, path, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    refused_file(path, "cannot be read as a checkpoint: cut short or something else")


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_that_ends_at_any_of_its_first_bytes_is_refused(golden_head, tmp_path, is_zip):
    path = tmp_path / "probe.pt"
    torch.save({"classifiers": [golden_head]}, path, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()
    for num_bytes in range(200):
        path.write_bytes(whole[:num_bytes])
        refused_file(path, "checkpoint")


def test_a_file_of_v_jepa_1_holds_one_head(golden_head, tmp_path):
    torch.save({"classifier": golden_head, "epoch": 1}, tmp_path / "probe.pt")
    assert same_heads(read_official_probes(tmp_path / "probe.pt"), [golden_head])


@pytest.mark.parametrize(
    "content",
    [{"encoder": {}, "target_encoder": {}}, {"classifiers": []}, {"classifiers": {}}, [1], 2],
)
def test_a_file_without_heads_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    refused_file(tmp_path / "other.pt", "it has no list of heads|not a checkpoint.s dictionary")


@pytest.mark.parametrize("head", [{"linear.weight": 3}, [torch.zeros(2)], {2: torch.zeros(2)}])
def test_one_bad_head_refuses_the_whole_file(golden_head, tmp_path, head):
    torch.save({"classifiers": [golden_head, head]}, tmp_path / "probe.pt")
    refused_file(tmp_path / "probe.pt", r"classifiers\[1\] holds more than tensors")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    shutil.copy(GOLDEN / "config.json", tmp_path / "config.pt")
    refused_file(tmp_path / "config.pt", "is no checkpoint: a pickle that torch did not write")


class MakesAFolder:
    """Unpickled where code is allowed, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_zip(content, path):
    torch.save(content, path)


def write_old_format(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_newer_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=4))


def trust_torch(path):
    torch.load(path, weights_only=False)


def trust_pickle(path):
    pickle.loads(path.read_bytes())


@pytest.mark.parametrize(
    ("write", "trust", "words"),
    [
        (write_zip, trust_torch, r"wants to run code \(\w+\.mkdir\), .*; it was not loaded"),
        (write_old_format, trust_torch, r"wants to run code \(\w+\.mkdir\), "),
        (write_plain_pickle, trust_pickle, r"wants to run code \(\w+\.mkdir\), "),
        (write_newer_pickle, trust_pickle, "it may want to run code and was not loaded"),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_file_is_refused_and_does_not_run(golden_head, tmp_path, write, trust, words):
    trace, path = tmp_path / "it_ran", tmp_path / "probe.pt"
    write({"opt": MakesAFolder(trace), "classifiers": [golden_head]}, path)
    refused_file(path, words)
    assert not trace.exists()
    trust(path)
    assert trace.exists()  # the file does run code where it is trusted
