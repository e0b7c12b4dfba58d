"""The settings in a checkpoint hold no secrets of URLs; nothing else is changed."""

from jepa.checkpoint_secrets import without_secrets


def test_of_a_url_user_password_and_query_are_left_out():
    settings = {
        "shards": ["https://user:pass@host:8/a?token=x#y", "s3://bucket/a", "runs/a?b"],
        "parts": ({"path": "http://pass@host/"}, 3),
    }
    checkpoint = {"datamodule_hyper_parameters": settings, "state": "a://b?c"}
    assert without_secrets(checkpoint) == {
        "datamodule_hyper_parameters": {
            "shards": ["https://host:8/a", "s3://bucket/a", "runs/a?b"],
            "parts": ({"path": "http://host/"}, 3),
        },
        "state": "a://b?c",
    }
    assert settings["shards"][0].startswith("https://user:pass@")
