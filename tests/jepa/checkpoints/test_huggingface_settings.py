"""Settings, both ways, without transformers; test_huggingface.py compares with it."""

import json

import pytest

from jepa.checkpoints.huggingface import convert_huggingface, read_huggingface, write_huggingface
from jepa.checkpoints.huggingface_settings import DEFAULTS, describe_huggingface, their_config
from jepa.models.jepa_model import JepaModel
from jepa.models.pooler import AttentiveProbe
from jepa.models.predictor import MaskedLatentPredictor

NAMES = ["fall", "rise", "turn"]


@pytest.fixture
def make_classifier(make_encoder):
    def make(names=None, *, num_classes=3):
        probe = AttentiveProbe(
            dim=48,
            num_classes={"label": num_classes},
            num_heads=4,
            depth=1,
            norm_eps=1e-6,
            class_names=names and {"label": names},
        )
        return JepaModel(make_encoder(positions="rope_tiled"), probe=probe)

    return make


def read_config(folder):
    return json.loads((folder / "config.json").read_text())


def set_names(folder, id2label):
    config = read_config(folder) | {"id2label": id2label}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "sha256.json").unlink()  # as one does after a change by hand


def test_settings_come_back_from_a_config_of_transformers(make_classifier, tmp_path):
    model = make_classifier(NAMES)
    model.predictor = MaskedLatentPredictor(
        encoder_dim=48, dim=24, depth=2, num_heads=2, positions="rope_tiled", num_mask_tokens=4
    )
    architecture = "VJEPA2ForVideoClassification"
    config, _ = their_config(model, architecture)
    described = describe_huggingface(config, {}, architecture, tmp_path)
    for part in ("encoder", "predictor", "probe"):
        ours = getattr(model, part).config
        assert described[part] == {name: ours[name] for name in described[part]}


def test_a_config_of_ours_has_every_setting_with_a_default(make_classifier):
    config, _ = their_config(make_classifier(), "VJEPA2ForVideoClassification")
    assert config.keys() > DEFAULTS["vjepa2"].keys()


# Names of classes.


def test_names_of_classes_come_back_from_a_folder(make_classifier, tmp_path):
    report = write_huggingface(make_classifier(NAMES), tmp_path)
    assert not any("class names" in line for line in report)
    assert read_config(tmp_path)["id2label"] == {"0": "fall", "1": "rise", "2": "turn"}
    assert read_config(tmp_path)["label2id"] == {"fall": 0, "rise": 1, "turn": 2}
    back, report = convert_huggingface(tmp_path)
    assert back.probe.class_names == {"label": NAMES}
    assert "class names: 3, 0 is 'fall'" in report


def test_names_go_by_their_numbers_and_not_by_their_order_in_the_file(make_classifier, tmp_path):
    names = [f"class {index}" for index in range(12)]
    write_huggingface(make_classifier(num_classes=12), tmp_path)
    set_names(tmp_path, {number: names[int(number)] for number in sorted(map(str, range(12)))})
    assert list(read_config(tmp_path)["id2label"])[:3] == ["0", "1", "10"]
    assert read_huggingface(tmp_path).probe.class_names == {"label": names}


def test_names_that_transformers_makes_up_are_none(make_classifier, tmp_path):
    write_huggingface(make_classifier(), tmp_path)
    assert read_config(tmp_path)["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    model, report = convert_huggingface(tmp_path)
    assert model.probe.class_names is None
    assert "class_names" not in model.probe.config
    assert not any("class names" in line for line in report)


@pytest.mark.parametrize(
    "names", [["LABEL_0", "rise", "LABEL_2"], ["LABEL_1", "LABEL_0", "LABEL_2"]]
)
def test_names_that_only_look_made_up_are_kept(names, make_classifier, tmp_path):
    write_huggingface(make_classifier(names), tmp_path)
    assert read_huggingface(tmp_path).probe.class_names == {"label": names}


def test_of_classes_with_one_name_label2id_has_the_first_and_the_report_says_so(
    make_classifier, tmp_path
):
    names = ["fall", "rise", "fall", "fall"]
    report = write_huggingface(make_classifier(names, num_classes=4), tmp_path)
    line = "class names: 2 repeat an earlier one; label2id has the first of the name"
    assert line in report
    assert line in (tmp_path / "README.md").read_text()
    assert read_config(tmp_path)["label2id"] == {"fall": 0, "rise": 1}
    assert read_huggingface(tmp_path).probe.class_names == {"label": names}


@pytest.mark.parametrize(
    ("id2label", "words"),
    [
        ({"1": "a", "2": "b", "3": "c"}, """keys "0" to "2" for its 3 classes, it lacks ['0']"""),
        ({"0": "a", "1": "b", "3": "c"}, """keys "0" to "2" for its 3 classes, it lacks ['2']"""),
        ({"00": "a", "1": "b", "2": "c"}, "it lacks ['0']"),
        ({"a": 0, "b": 1, "c": 2}, "it lacks ['0', '1', '2']"),
        ({"0": "a", "1": 1, "2": "c"}, "id2label must hold names, got 1"),
        (["a", "b", "c"], "id2label must be an object, got a list"),
    ],
)
def test_names_of_classes_without_their_numbers_are_refused(
    id2label, words, make_classifier, tmp_path
):
    write_huggingface(make_classifier(), tmp_path)
    set_names(tmp_path, id2label)
    with pytest.raises(ValueError, match=r"config\.json: id2label must") as caught:
        read_huggingface(tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_a_model_without_a_probe_are_not_looked_at(make_encoder, tmp_path):
    write_huggingface(JepaModel(make_encoder(positions="rope_tiled")), tmp_path)
    set_names(tmp_path, {"5": "nonsense"})
    assert read_huggingface(tmp_path).probe is None
