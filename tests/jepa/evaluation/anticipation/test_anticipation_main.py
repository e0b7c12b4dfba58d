import json

import pytest
import torch

from jepa import command_line
from jepa.checkpoints.native import save_model
from jepa.evaluation.anticipation.__main__ import main
from jepa.models import JepaModel, MaskedLatentPredictor, VideoEncoder

FAST = ["--epochs", "2", "--learning-rates", "1e-2", "1e-3", "--weight-decays", "1e-4",
        "--depth", "1", "--draws", "1", "--resamples", "20"]  # fmt: skip


def save_tiny(folder, *, positions="rope_interleaved", has_predictor=True):
    torch.manual_seed(0)
    encoder = VideoEncoder(
        image_size=16, clip_length_frames=32, patch_size=8, tubelet_size=4, dim=24, depth=1,
        num_heads=2,
    )  # fmt: skip
    predictor = None
    if has_predictor:
        predictor = MaskedLatentPredictor(
            encoder_dim=24, dim=24, depth=1, num_heads=2, positions=positions, grid=encoder.grid
        )
    save_model(JepaModel(encoder, predictor=predictor), folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anticipate")
    sizes = ["--train-videos", "5", "--validation-videos", "2", "--test-videos", "3"]
    assert main(["make", str(folder / "gates"), "--size", "32", *sizes]) == 0
    save_tiny(folder / "run")
    return folder


def words(place, *more, encoder="run", held_out=False):
    gates = place / "gates"
    given = ["--encoder", str(place / encoder), "--videos", str(gates / "videos")]
    given += ["--annotations", str(gates / "train.csv")]
    if not held_out:
        given += ["--validation-annotations", str(gates / "validation.csv")]
        given += ["--test-annotations", str(gates / "test.csv")]
    return [*given, *FAST, *more]


def test_a_set_is_made_and_anticipated_from_end_to_end(place, capsys):
    out = place / "scores.json"
    assert main(words(place, "--official-maximum", "--out", str(out))) == 0
    shown = capsys.readouterr().out
    names = ["trained, both", "trained, encoder", "trained, predictor", "last frame only, both",
             "untrained, both", "chance: the most frequent", "oracle: true positions"]  # fmt: skip
    assert all(name in shown for name in names)
    assert "official reporting" in shown and "test: 15 actions, 0 left out" in shown
    report = json.loads(out.read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == names and report["frames"] == 16
    recalls = {name: row["scores"]["action"]["recall"]["value"] for name, row in rows.items()}
    assert recalls["oracle: true positions"] == 1.0
    assert 0 <= recalls["trained, both"] <= 1 and recalls["chance: the most frequent"] < 0.5
    details = rows["trained, both"]["details"]
    assert details["learning_rate"] in (1e-2, 1e-3)
    assert len(details["validation_recall_of_actions"]) == 2


def test_the_same_seed_gives_the_same_numbers(place, capsys):
    tables = []
    for _ in range(2):
        main(words(place, "--modes", "both", "--baselines"))
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    main(words(place, "--modes", "both", "--baselines", "--seed", "3"))
    assert capsys.readouterr().out != tables[0]


def test_an_encoder_alone_is_probed_alone_and_on_videos_held_out(place, capsys):
    save_tiny(place / "alone", has_predictor=False)
    assert main(words(place, "--baselines", encoder="alone", held_out=True)) == 0
    shown = capsys.readouterr().out
    assert "trained, encoder" in shown and "both" not in shown
    assert "validation: 5 actions" in shown and "test: 5 actions" in shown
    with pytest.raises(ValueError, match="without a predictor: only --modes encoder"):
        main(words(place, "--modes", "both", encoder="alone"))


def test_features_kept_on_the_disk_give_a_table_too(place, capsys):
    cache = place / "cache"
    assert main(words(place, "--modes", "predictor", "--baselines", "--cache", str(cache),
                      "--step-tubelets", "1")) == 0  # fmt: skip
    assert "trained, predictor" in capsys.readouterr().out
    assert (cache / "trained/test/predicted.npy").is_file()


def test_a_time_that_the_predictor_was_never_asked_for_is_said(place, capsys):
    main(words(place, "--modes", "encoder", "--baselines", "--frames", "32", "--fps", "16",
               "--train-anticipation", "0.5", "1"))  # fmt: skip
    assert "less than 0 s ahead in training, here for up to 1 s" in capsys.readouterr().err


def test_a_time_without_positions_is_refused_before_anything_is_read(place):
    save_tiny(place / "short", positions="sincos_3d")
    with pytest.raises(ValueError, match=r"less than 1 s can be anticipated, 1\.75 s was asked"):
        main(words(place, "--frames", "24", "--videos", "nowhere", encoder="short"))


def test_faults_of_the_user_are_one_line(place, capsys):
    code = command_line.run(main, words(place, "--annotations", str(place / "none.csv")))
    assert code == 2 and "no table of annotations at" in capsys.readouterr().err
    code = command_line.run(main, words(place, encoder="nothing"))
    assert code == 2 and "error: " in capsys.readouterr().err
    code = command_line.run(main, words(place, "--fps", "0"))
    assert code == 2 and "must be above 0" in capsys.readouterr().err
