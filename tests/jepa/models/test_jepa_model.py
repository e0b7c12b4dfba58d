import json
import math

import pytest
import torch

import jepa
from jepa.models.jepa_model import JepaModel
from jepa.models.pooler import AttentiveProbe

NAMES = {"verb": ["cut", "wash", "pour"], "noun": ["pan", "knife"]}


@pytest.fixture
def make_model(make_encoder):
    """Makes a model with a probe of two heads; logits: of every clip the same."""

    def make(class_names=None, *, logits=None):
        sizes = {head: len(values) for head, values in (logits or NAMES).items()}
        settings = {"dim": 48, "num_heads": 4, "depth": 1, "num_classes": sizes}
        probe = AttentiveProbe(**settings, class_names=class_names)
        for head, values in zip(probe.heads, (logits or {}).values(), strict=False):
            head.weight.data.zero_()
            head.bias.data.copy_(torch.tensor(values))
        return JepaModel(make_encoder(), probe=probe).eval()

    return make


@pytest.fixture
def video():
    return torch.randint(0, 256, (3, 3, 4, 32, 32), dtype=torch.uint8)


# The most probable classes.


def test_top_classes_are_names_with_probabilities_the_most_probable_first(make_model, video):
    logits = {"verb": [math.log(0.2), math.log(0.7), math.log(0.1)], "noun": [0.0, math.log(3)]}
    clips = make_model(NAMES, logits=logits).top_classes(video, k=2)
    assert len(clips) == 3
    for clip in clips:
        assert list(clip) == ["verb", "noun"]
        assert [name for name, _ in clip["verb"]] == ["wash", "cut"]
        assert [name for name, _ in clip["noun"]] == ["knife", "pan"]
        assert [share for _, share in clip["verb"]] == pytest.approx([0.7, 0.2])
        assert [share for _, share in clip["noun"]] == pytest.approx([0.75, 0.25])


def test_every_clip_has_its_own_classes(make_model, video):
    model = make_model(NAMES)
    for head in model.probe.heads:
        torch.nn.init.normal_(head.weight)
    clips, logits = model.top_classes(video), model.classify(video)
    assert clips[0] != clips[1]
    for index, clip in enumerate(clips):
        for head, names in NAMES.items():
            shares = logits[head][index].softmax(-1).tolist()
            expected = sorted(zip(names, shares, strict=True), key=lambda pair: -pair[1])
            assert [name for name, _ in clip[head]] == [name for name, _ in expected]
            assert [p for _, p in clip[head]] == pytest.approx([p for _, p in expected], abs=1e-5)


def test_without_names_classes_are_called_by_their_index(make_model, video):
    clip = make_model(logits={"label": [1.0, 3.0, 2.0]}).top_classes(video, k=2)[0]
    assert [name for name, _ in clip["label"]] == ["1", "2"]


def test_of_a_head_with_fewer_classes_all_are_told_and_probabilities_sum_to_one(make_model, video):
    clip = make_model(NAMES).top_classes(video)[0]  # k is 5
    for head, names in NAMES.items():
        assert {name for name, _ in clip[head]} == set(names)
        assert sum(share for _, share in clip[head]) == pytest.approx(1.0)


def test_classes_whose_probability_is_too_small_for_a_float_are_in_order_all_the_same(
    make_model, video
):
    clip = make_model(logits={"label": [0.0, 2.0, 1.0, 300.0]}).top_classes(video[:1])[0]
    assert clip["label"] == [("3", 1.0), ("1", 0.0), ("2", 0.0), ("0", 0.0)]


def test_classes_of_one_name_are_told_apart_by_their_place_only(make_model, video):
    model = make_model({"label": ["cut", "wash", "cut"]}, logits={"label": [2.0, 1.0, 3.0]})
    assert [name for name, _ in model.top_classes(video)[0]["label"]] == ["cut", "cut", "wash"]


def test_probabilities_of_half_precision_logits_are_those_of_float32(make_model):
    video = torch.randn(1, 3, 4, 32, 32, dtype=torch.bfloat16)
    clip = make_model(logits={"label": [0.0] * 3}).bfloat16().top_classes(video)[0]
    shares = [share for _, share in clip["label"]]  # in bfloat16 a third is 0.334
    assert shares == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_names_leave_the_logits_as_they_are(make_model, video):
    named, plain = make_model(NAMES), make_model()
    plain.load_state_dict(named.state_dict())
    for head, logits in named.classify(video).items():
        assert torch.equal(logits, plain.classify(video)[head])


def test_less_than_one_class_is_refused(make_model, video):
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        make_model().top_classes(video, k=0)


def test_a_model_without_probe_has_no_classes(make_encoder, video):
    with pytest.raises(ValueError, match="holds no probe: it has no classes to tell"):
        JepaModel(make_encoder()).top_classes(video)


# Saved and loaded.


def test_names_of_classes_are_saved_and_loaded(make_model, video, tmp_path):
    model = make_model(NAMES)
    loaded = jepa.from_pretrained(model.save_pretrained(tmp_path))
    assert loaded.probe.config == model.probe.config
    assert loaded.probe.class_names == NAMES
    assert loaded.top_classes(video) == model.top_classes(video)


def test_a_folder_from_before_there_were_names_is_loaded(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "class_names" not in config["probe"]
    assert jepa.from_pretrained(tmp_path).probe.class_names is None


def test_a_folder_with_too_few_names_is_refused_in_one_line(make_model, tmp_path):
    make_model(NAMES).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["probe"]["class_names"]["noun"].pop()
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "sha256.json").unlink()  # as one who changes a config by hand must do
    with pytest.raises(ValueError, match="class_names must name all classes of") as caught:
        jepa.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
