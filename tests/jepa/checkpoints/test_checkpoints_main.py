"""`jepa convert`, as it is called."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import jepa
from jepa.__main__ import main

GOLDEN = Path(__file__).parents[2] / "golden"


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def official():
    folder = GOLDEN / "vjepa2"
    return [folder / "checkpoint.pt", "--config", folder / "config.json"]


def source_and(official, out, *options):
    return [official[0], out, *official[1:], *options]


@pytest.fixture
def converted(official, tmp_path, capsys):
    assert convert(*source_and(official, tmp_path / "ours")) == 0
    return tmp_path / "ours"


def tokens_of(folder):
    golden = load_file(GOLDEN / "vjepa2" / "golden.safetensors")
    with torch.inference_mode():
        return jepa.from_pretrained(folder).encoder(golden["video"]), golden["encoder_full"]


def test_an_official_file_becomes_a_folder_with_the_same_numbers(converted):
    found, expected = tokens_of(converted)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    names = sorted(path.name for path in converted.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors", "sha256.json"]
    assert "converted from target_encoder of checkpoint.pt" in (converted / "README.md").read_text()


def test_it_says_what_it_found_out(official, tmp_path, capsys):
    convert(*source_and(official, tmp_path / "ours"))
    told = capsys.readouterr().out
    for words in ("family: V-JEPA 2 (", "encoder: target_encoder", "10 of 10 look", "using 0"):
        assert words in told


@pytest.mark.parametrize("family", ["vjepa1", "vjepa2", "vjepa2_1", "vjepa2_ac", "ijepa"])
def test_every_family_goes_there_and_back(family, tmp_path):
    folder = GOLDEN / family
    config = folder / "config.json"
    assert convert(folder / "checkpoint.pt", tmp_path / "ours", "--config", config) == 0
    assert convert(tmp_path / "ours", tmp_path / "back.pt", "--to", "official") == 0
    before = torch.load(folder / "checkpoint.pt", weights_only=True)
    after = torch.load(tmp_path / "back.pt", weights_only=True)
    for part in ("target_encoder", "predictor"):
        assert all(torch.equal(before[part][n], after[part][n]) for n in before[part])


def test_to_hugging_face_and_back(converted, tmp_path):
    assert convert(converted, tmp_path / "hf", "--to", "huggingface") == 0
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["model_type"] == "vjepa2"
    assert convert(tmp_path / "hf", tmp_path / "again", "--from", "huggingface") == 0
    found, expected = tokens_of(tmp_path / "again")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_mask_token_can_be_chosen(official, tmp_path, capsys):
    assert convert(*source_and(official, tmp_path / "ours", "--mask-token", 7)) == 0
    assert jepa.from_pretrained(tmp_path / "ours").predictor.mask_token_index == 7


def test_a_probe_is_put_on_an_encoder(make_encoder, tmp_path):
    from jepa.checkpoints.native import save_encoder

    encoder = make_encoder(dim=32, num_heads=2)
    save_encoder(encoder, tmp_path / "encoder")
    probe = GOLDEN / "probe" / "checkpoint.pt"
    options = ("--probe", probe, "--probe-num-heads", 4)
    assert convert(tmp_path / "encoder", tmp_path / "classifier", *options) == 0
    model = jepa.from_pretrained(tmp_path / "classifier")
    golden = load_file(GOLDEN / "probe" / "golden.safetensors")
    with torch.inference_mode():
        logits = model.probe(golden["tokens"])["label"]
        torch.testing.assert_close(logits, golden["logits"], atol=1e-5, rtol=1e-5)
        video = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)
        assert model.classify(video)["label"].shape == (2, 7)


def refused(capsys, words, *arguments):
    assert convert(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_what_is_there_is_not_replaced_unless_asked(official, converted, capsys):
    refused(capsys, "is there already; choose another name, or", *source_and(official, converted))
    assert convert(*source_and(official, converted, "--overwrite")) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--family", "vjepa2_1"], "is a V-JEPA 2 checkpoint (it has no position table), not V-"),
        (["--mask-token", "10"], "mask_token_index must be 0 to 9, got 10"),
        (["--encoder-key", "ema_encoder"], "holds no 'ema_encoder'"),
        (
            ["--probe", GOLDEN / "probe" / "checkpoint.pt"],
            "reads tokens of width 32, the encoder's",
        ),
        (["--probe", GOLDEN / "vjepa2" / "checkpoint.pt"], "is not a probe file"),
        (["--from", "huggingface"], "--config is for official files"),
    ],
)
def test_a_misunderstanding_is_one_line_and_leaves_nothing(
    official, options, words, tmp_path, capsys
):
    refused(capsys, words, *source_and(official, tmp_path / "ours", *options))
    assert not (tmp_path / "ours").exists()


def test_one_of_several_probes_must_be_chosen(official, tmp_path, capsys):
    head = torch.load(GOLDEN / "probe" / "checkpoint.pt", weights_only=True)["classifiers"][0]
    torch.save({"classifiers": [head, head]}, tmp_path / "probes.pt")
    options = ("--probe", tmp_path / "probes.pt")
    refused(capsys, "holds 2 classifiers", *source_and(official, tmp_path / "ours", *options))
    options += ("--probe-index", 2)
    words = "--probe-index must be 0 to 1, got 2"
    refused(capsys, words, *source_and(official, tmp_path / "ours", *options))


def test_the_probe_that_was_chosen_is_taken(make_encoder, tmp_path):
    from jepa.checkpoints.native import save_encoder

    save_encoder(make_encoder(dim=32, num_heads=2), tmp_path / "encoder")
    head = torch.load(GOLDEN / "probe" / "checkpoint.pt", weights_only=True)["classifiers"][0]
    other = {name: value + 1 for name, value in head.items()}
    torch.save({"classifiers": [head, other]}, tmp_path / "probes.pt")
    options = ["--probe", tmp_path / "probes.pt", "--probe-num-heads", 4, "--probe-index"]
    for index in (0, 1):
        out = tmp_path / f"probe{index}"
        assert convert(tmp_path / "encoder", out, *options, index) == 0
        bias = jepa.from_pretrained(out).probe.state_dict()["heads.0.bias"]
        assert torch.equal(bias, head["module.linear.bias"] + index)


@pytest.mark.parametrize("option", ["--probe-index", "--probe-num-heads"])
def test_options_of_a_probe_need_one(official, option, tmp_path, capsys):
    refused(capsys, f"{option} needs --probe", *source_and(official, tmp_path / "ours", option, 1))


def test_a_file_of_a_folder_stands_for_the_folder(converted, tmp_path):
    assert convert(converted / "model.safetensors", tmp_path / "again") == 0
    assert jepa.from_pretrained(tmp_path / "again").predictor is not None


def test_what_is_ignored_and_what_is_taken_for_granted_is_said(official, tmp_path, capsys):
    config = {"num_heads": 2, "predictor_num_heads": 1, "use_rope": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = (official[0], tmp_path / "ours", "--config", tmp_path / "config.json")
    assert convert(*arguments) == 0
    told = capsys.readouterr().out
    assert "ignored in the config: use_rope" in told
    assert "warning: taken to be made for 64 frames of 256 px" in told


def test_a_folder_is_no_place_for_a_file_and_the_reverse(converted, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    options = ("--to", "official", "--overwrite")
    refused(capsys, "is a folder; an official", converted, tmp_path / "folder", *options)
    (tmp_path / "file").write_text("")
    refused(capsys, "is a file; OUT is the folder", converted, tmp_path / "file", "--overwrite")


def test_a_checkpoint_of_a_training_run_is_recognised(tmp_path, capsys):
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": {}}, tmp_path / "last.ckpt")
    words = "is a checkpoint of a training run: give the run folder"
    refused(capsys, words, tmp_path / "last.ckpt", tmp_path / "ours")


def test_a_misspelt_key_of_the_config_is_refused(official, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"num_head": 2}))
    arguments = [official[0], tmp_path / "ours", "--config", tmp_path / "config.json"]
    refused(capsys, "has no use for 'num_head'; did you mean 'num_heads'?", *arguments)


def test_a_name_that_is_nowhere_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(capsys, "no file or folder 'nobody/nothing' here", "nobody/nothing", tmp_path / "ours")
    refused(capsys, "and that is no name on the hub", "a/b/c/d", tmp_path / "ours")
    refused(capsys, "and that is no name on the hub", "nosuch.pt", tmp_path / "ours")
    refused(capsys, "and that is no name on the hub", "./nosuch", tmp_path / "ours")
    refused(capsys, "and that is no name on the hub", "", tmp_path / "ours")


def test_an_arm_has_no_place_for_a_probe_or_a_mask_token(tmp_path, capsys):
    folder = GOLDEN / "vjepa2_ac"
    arm = [folder / "checkpoint.pt", tmp_path / "arm", "--config", folder / "config.json"]
    probe = GOLDEN / "probe" / "checkpoint.pt"
    refused(capsys, "a world model has no place for a probe", *arm, "--probe", probe)
    refused(capsys, "holds no masked predictor", *arm, "--mask-token", 0)


def test_a_misspelt_option_is_one_line(converted, tmp_path, capsys):
    refused(capsys, "--overwrit3", converted, tmp_path / "out", "--overwrit3")
