import subprocess
import sys

import pytest

from data_pipelines.__main__ import main
from data_pipelines.importers.base import summaries
from data_pipelines.shards import ShardIndex
from data_pipelines.synthetic import MOVING_SHAPE_SPECIFICATION

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    assert main(["synthesize", str(out), "--trajectories", "3", "--frames", "7"]) == 0
    return out


@pytest.fixture(scope="module")
def exported(shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "set"
    assert main(["export", "lerobot", str(shards), str(out), "--task", "move"]) == 0
    return out


def test_shards_go_out_and_come_back(exported, tmp_path, capsys):
    back = tmp_path / "back"
    assert main(["import", "lerobot", str(exported), str(back)]) == 0
    assert capsys.readouterr().out.startswith("imported 3 episodes (0.00 hours) into ")
    index = ShardIndex.load(back)
    assert index.num_samples == 3 and index.specification == MOVING_SHAPE_SPECIFICATION
    assert main(["check", str(back), "--full"]) == 0


def test_export_tells_how_much_it_wrote(shards, tmp_path, capsys):
    assert main(["export", "lerobot", str(shards), str(tmp_path / "set")]) == 0
    assert "exported 3 episodes (21 frames) to " in capsys.readouterr().out


def test_options_reach_the_importer(exported, tmp_path):
    options = ["--fps", "5", "--image-size", "32", "--camera", "camera"]
    assert main(["import", "lerobot", str(exported), str(tmp_path), *options]) == 0
    index = ShardIndex.load(tmp_path)
    assert index.specification is not None and index.specification.frames_per_second == 5.0
    sizes = {(s.metadata.num_frames, s.metadata.height, s.metadata.width) for s in index.samples}
    assert sizes == {(4, 32, 32)}


def test_shards_are_replaced_only_if_that_is_asked_for(exported, tmp_path, capsys):
    words = ["import", "lerobot", str(exported), str(tmp_path)]
    assert main(words) == 0
    assert main(words) == 0
    assert "already imported" in capsys.readouterr().out
    assert main([*words, "--fps", "5"]) == 2
    assert "already holds shards: frames_per_second was None and is 5.0" in capsys.readouterr().err
    assert main([*words, "--fps", "5", "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "lerobot", "{}/none", "{}/out"], "error: no folder"),
        (["import", "lerobot", "{}", "{}/out"], "is no LeRobot data set: it has no meta/info.json"),
        (["export", "lerobot", "{}/none", "{}/out"], "error: no shard folder or .tar at"),
    ],
)
def test_an_error_is_one_line(words, message, tmp_path, capsys):
    assert main([word.format(tmp_path) for word in words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_help_lists_every_format_and_imports_none_of_their_libraries():
    program = (
        "import sys; from data_pipelines.__main__ import main\n"
        "try: main(['import', '--help'])\n"
        "except SystemExit: print([m for m in ('pyarrow', 'h5py', 'av', 'PIL', 'torch')"
        " if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]", run.stderr
    for name, line in summaries().items():
        assert name in run.stdout and line in run.stdout


def test_an_unknown_format_is_refused_with_those_that_exist(capsys):
    with pytest.raises(SystemExit):
        main(["import", "excel", "in", "out"])
    assert "lerobot" in capsys.readouterr().err
