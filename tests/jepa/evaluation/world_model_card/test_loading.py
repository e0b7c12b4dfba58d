import pytest

from jepa.checkpoints.native import save_encoder
from jepa.evaluation.world_model_card.loading import load_model


def test_a_shipped_world_model_is_found_by_name():
    model = load_model("two_rooms")
    assert model.actions.names == ("dx", "dy")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_folder_of_ones_own_is_read(toys, tmp_path):
    load_model("two_rooms").save_pretrained(tmp_path / "world_model")
    assert load_model(tmp_path).actions == load_model("two_rooms").actions


def test_an_encoder_is_no_world_model(make_encoder, tmp_path):
    save_encoder(make_encoder(), tmp_path / "encoder")
    with pytest.raises(ValueError, match="is an encoder, no world model"):
        load_model(tmp_path / "encoder")


def test_what_is_not_there_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "nothing")


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="--device 'nowhere' cannot be used here"):
        load_model("two_rooms", device="nowhere")
