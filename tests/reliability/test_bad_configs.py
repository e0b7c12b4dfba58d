"""Bad configs and options: rows 1 to 22 of the list of bad inputs."""

import pytest

from tests.reliability.bad_inputs import ROOT, Inputs, Row, check, fit, params

TINY = (ROOT / "configs/pretrain/tiny.yaml").read_text()


def with_config(text: str | bytes, *options: object):
    """A row's arguments: a training by a config of this text."""

    def arguments(inputs: Inputs) -> list:
        return fit("--data.shards", inputs.shards, *options, config=inputs.write("x.yaml", text))

    return arguments


def with_options(*options: object):
    return lambda inputs: fit("--data.shards", inputs.shards, *options)


def with_masks(settings: str):
    masks = f"[{{class_path: jepa.masking.MultiBlock, init_args: {{{settings}}}}}]"
    return with_options("--model.masks", masks)


def anchors(inputs: Inputs) -> list:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return fit("--data.shards", inputs.shards, config=inputs.write("x.yaml", "\n".join(lines)))


def unwritable(inputs: Inputs) -> list:
    inputs.write("file", "")
    return fit("--data.shards", inputs.shards, "--trainer.default_root_dir", inputs.here / "file")


def plan(*options: object):
    return lambda inputs: [
        "plan", "run", "--checkpoint", ROOT / "checkpoints/two_rooms", "--env", "two_rooms",
        "--start", "12,50", "--goal-state", "52,20", "--max-steps", 2, "--no-pictures",
        "--out", inputs.here / "out", *options,
    ]  # fmt: skip


ROWS = [
    Row(1, "a config that is not there", lambda i: fit(config="nowhere.yaml"), "nowhere.yaml"),
    Row(2, "an empty config", with_config(""), r"x\.yaml is empty"),
    Row(2, "a config of comments", with_config("# nothing\n"), r"x\.yaml is empty"),
    Row(
        3,
        "a config with a tab",
        with_config("model:\n\tclass_path: x\n"),
        r"x\.yaml is no YAML: line 2, column 1",
    ),
    Row(3, "a quote that is not closed", with_config("name: 'a\n"), r"x\.yaml is no YAML: line 2"),
    Row(3, "a config that is binary", with_config(bytes(range(256))), r"x\.yaml is no YAML"),
    Row(
        3,
        "a config that is a list",
        with_config("- a\n- b\n"),
        r"x\.yaml holds a sequence; a config is a mapping",
    ),
    Row(
        4,
        "a tag that runs code",
        with_config("model: !!python/object/apply:os.system ['touch ran']\n"),
        r"x\.yaml, line 1: the tag 'python/object/apply:os.system'; a config has no tags",
    ),
    Row(5, "a bomb of anchors", anchors, r"x\.yaml.*100,000 items"),
    Row(
        6,
        "an unknown key",
        with_options("--model.leraning_rate", 1),
        "did you mean 'learning_rate'",
    ),
    Row(6, "an unknown section", with_config(TINY + "\nmodle: {depth: 3}\n"), "modle"),
    Row(
        7,
        "a key that stands there twice",
        with_config(
            TINY.replace("    batch_size: 16\n", "    batch_size: 16\n    batch_size: 8\n")
        ),
        r"x\.yaml: 'batch_size' stands in lines 2\d and 2\d",
    ),
    Row(
        8, "a number that YAML takes for text", with_options("--model.learning_rate", "1e-3"), "", 0
    ),
    Row(8, "a word for a number", with_options("--model.learning_rate", "fast"), "learning_rate"),
    Row(
        9,
        "a learning rate of nan",
        with_options("--model.learning_rate", "nan"),
        "learning_rate: Expected float. Got value: nan",
    ),
    Row(
        9,
        "an infinite learning rate",
        with_options("--model.learning_rate", ".inf"),
        "learning_rate must be positive and finite",
    ),
    Row(
        9,
        "a negative learning rate",
        with_options("--model.learning_rate", "-1"),
        "learning_rate must be positive and finite",
    ),
    Row(10, "a batch of nothing", with_options("--data.batch_size", 0), "batch_size"),
    Row(10, "a batch of half a clip", with_options("--data.batch_size", 1.5), "batch_size"),
    Row(
        11,
        "masks that hide nothing",
        with_masks("target_fraction: 0"),
        r"target_fraction.*\(0, 1\)",
    ),
    Row(11, "masks that hide all", with_masks("target_fraction: 1"), r"target_fraction.*\(0, 1\)"),
    Row(
        11,
        "masks that hide more than all",
        with_masks("target_fraction: 1.2"),
        r"target_fraction.*\(0, 1\)",
    ),
    Row(
        12,
        "frames that the tubelet does not divide",
        with_options("--data.clip_length_frames", 7),
        "use 6 or 8",
    ),
    Row(
        13,
        "a size that patches do not divide",
        with_options("--data.image_size", 60),
        "use 48 or 64",
    ),
    Row(14, "a momentum above one", with_options("--model.ema_momentum", "[0.9, 1.1]"), "momentum"),
    Row(
        14, "a momentum that falls", with_options("--model.ema_momentum", "[0.99, 0.9]"), "momentum"
    ),
    Row(
        15,
        "a target to call",
        with_config("model:\n  _target_: os.system\n"),
        "_target_|class_path",
    ),
    Row(
        15, "a class that is a function", with_options("--model.encoder", "os.system"), "os.system"
    ),
    Row(
        16,
        "an encoder that is not known",
        with_options("--model.encoder", "VideoEncodr"),
        "did you mean 'VideoEncoder'",
    ),
    Row(
        16,
        "a frozen encoder that timm has not",
        with_options("--model.encoder", "timm:vit_xx"),
        "vit_xx",
    ),
    Row(17, "an output folder that is a file", unwritable, "cannot write in the run folder"),
    Row(18, "more elites than samples", plan("--samples", 32, "--elites", 64), "elites"),
    Row(18, "no elites", plan("--samples", 32, "--elites", 0), "elites"),
    Row(20, "an option of a number", with_options("--data.batch_size.x", 3), "batch_size"),
    Row(
        20,
        "an option without a value",
        lambda i: [*fit("--data.shards", i.shards), "--data.seed"],
        "expected one argument",
    ),
    Row(20, "an option of two lines", plan("--foo\nbar"), "unrecognized arguments: --foo bar"),
    Row(
        21,
        "a huge config",
        with_config("# " + "x" * 20_000_000 + "\n" + TINY),
        r"x\.yaml has 20,\d+,\d+ bytes, a config 1,048,576 at most",
    ),
]
QUICK = (1, 2, 3, 4, 5, 7, 21)


@pytest.mark.parametrize("row", params(ROWS, quick=QUICK))
def test_a_bad_config_is_one_clear_line(row, inputs, capfd):
    """Seen to fail without check_config_text: anchors took 256 s, keys twice were no error."""
    check(row, inputs, capfd)
    assert not (inputs.here / "ran").exists()
