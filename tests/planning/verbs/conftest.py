"""The real command line, and pictures of goals."""

import numpy as np
import pytest
from PIL import Image

from jepa.__main__ import main
from planning.environments.two_rooms import TwoRooms


@pytest.fixture
def jepa_plan(checkpoint, tmp_path, capsys):
    """Runs a verb in real; returns the exit code, what was printed, and the error lines."""

    def run(verb, *options, world=checkpoint, goes=("--start", "12,50")):
        words = [
            verb,
            "--checkpoint",
            world,
            "--out",
            tmp_path / "out",
            "--threads",
            1,
            "--cells",
            3,
            *goes,
        ]
        code = main(["plan", *map(str, [*words, *options])])
        printed, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return code, printed, errors.splitlines()

    run.out = tmp_path / "out"
    return run


@pytest.fixture
def goal_png(tmp_path):
    def write(place=(52.0, 20.0), size=None, name="goal.png"):
        picture = Image.fromarray(TwoRooms().render(np.array(place)))
        (picture.resize(size) if size else picture).save(tmp_path / name)
        return tmp_path / name

    return write
