import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.importers import base
from data_pipelines.importers.base import (
    SourceError,
    importer_module,
    joined_actions,
    resized,
    stride_of_rate,
    summaries,
)


def test_every_file_of_the_folder_but_the_contract_is_a_format_with_a_summary():
    found = summaries()
    assert "lerobot" in found and "base" not in found
    assert all(line and "\n" not in line for line in found.values())


@pytest.mark.parametrize("name", sorted(summaries()))
def test_an_importer_keeps_the_contract(name, tmp_path):
    module = importer_module(name)
    assert module.SUMMARY == summaries()[name]
    missing = tmp_path / "nothing_here"
    with pytest.raises((OSError, ValueError), match="nothing_here"):
        module.open_source(missing, camera=None, frames_per_second=None, image_size=None)


def test_summaries_are_read_without_importing_a_format_or_its_library():
    program = (
        "import sys; from data_pipelines.importers.base import summaries; summaries(); "
        "print([m for m in sys.modules if m.startswith('data_pipelines.importers.')"
        " or m in ('pyarrow', 'h5py', 'numpy', 'av', 'torch')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "['data_pipelines.importers.base']", run.stderr


def test_a_format_without_a_summary_is_named(tmp_path, monkeypatch):
    (tmp_path / "silent.py").write_text("SUMMARY = str(3)\n")
    monkeypatch.setattr(base, "__file__", str(tmp_path / "base.py"))
    with pytest.raises(ValueError, match=r"silent\.py assigns no plain string to SUMMARY"):
        summaries()


def test_an_unknown_format_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"no importer named 'excel'; choose one of .*lerobot"):
        importer_module("excel")


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20)])
def test_resizing_keeps_the_square_in_the_middle(height, width):
    frames = np.zeros((2, height, width, 3), dtype=np.uint8)
    if width > height:
        frames[1, :, 20:40] = 200
    else:
        frames[1, 20:40] = 200
    small = resized(frames, 10)
    assert small.shape == (2, 10, 10, 3) and small.dtype == np.uint8
    assert small[0].max() == 0  # each frame by itself
    assert (small[1, 1:-1, 1:-1] == 200).all()


def test_resizing_averages_the_pixels_that_become_one():
    board = np.indices((64, 64)).sum(0) % 2 * 255  # a chessboard of single pixels
    frames = np.repeat(board[None, ..., None], 3, axis=-1).astype(np.uint8)
    small = resized(frames, 8)
    assert abs(small.astype(int) - 127).max() < 12


def test_without_a_size_frames_stay_the_same_array():
    frames = np.zeros((1, 9, 7, 3), dtype=np.uint8)
    assert resized(frames, None) is frames


@pytest.mark.parametrize("size", [0, -2, 33])
def test_a_size_that_h264_cannot_have_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size must be even and at least 2, got {size}"):
        resized(np.zeros((1, 64, 64, 3), dtype=np.uint8), size)


@pytest.mark.parametrize(
    ("wanted", "stride"), [(None, 1), (30.0, 1), (15.0, 2), (10.0, 3), (7.5, 4), (29.97 / 3, 3)]
)
def test_a_rate_becomes_a_number_of_frames(wanted, stride):
    assert stride_of_rate(29.97 if wanted == 29.97 / 3 else 30.0, wanted) == stride


@pytest.mark.parametrize("wanted", [12.0, 60.0, 29.0, 0.0, -30.0])
def test_a_rate_that_no_whole_number_gives_is_refused_with_those_that_do(wanted):
    with pytest.raises(SourceError, match=r"30 divided by a whole number; choose one of 30, 15,"):
        stride_of_rate(30.0, wanted)


def test_joined_actions_leave_out_those_after_the_last_frame_that_stays():
    actions = np.arange(7.0)[:, None]
    assert joined_actions(actions, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert joined_actions(actions[:6], 3).tolist() == [[0, 1, 2]]
    assert joined_actions(actions, 1).tolist() == [[0], [1], [2], [3], [4], [5]]
    assert joined_actions(actions[:1], 3).shape == (0, 3)  # one frame leads nowhere
