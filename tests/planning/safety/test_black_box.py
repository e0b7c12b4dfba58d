"""What a killed run leaves behind."""

import signal
import subprocess
import sys

import pytest

from planning.safety.black_box import RECORD_BYTES, BlackBox, read_black_box

NOTES_FOR_EVER = """
import sys
from planning.safety.black_box import BlackBox
box, number = BlackBox(sys.argv[1], num_records=50), 0
while True:
    box.note(number_noted=number, action=[0.5, -0.5])
    number += 1
    if number == 200:
        print("ready", flush=True)
"""


def test_the_file_keeps_its_size_and_the_last_records(tmp_path):
    with BlackBox(tmp_path / "box", num_records=5) as box:
        for step in range(12):
            box.note(step=step)
        assert [record["step"] for record in read_black_box(box.path)] == [7, 8, 9, 10, 11]
    assert box.path.stat().st_size == 6 * RECORD_BYTES


def test_a_killed_process_leaves_its_last_records(tmp_path):
    """Seen to fail with a buffer in place of the mapped file: no record is left."""
    path = tmp_path / "box"
    child = subprocess.Popen([sys.executable, "-c", NOTES_FOR_EVER, str(path)],
                             stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    records = read_black_box(path)
    assert len(records) in (49, 50)  # one may have been half written
    numbers = [record["number_noted"] for record in records]
    assert numbers[-1] >= 198 and numbers[-1] - numbers[0] in (48, 49)


def test_a_record_that_is_too_long_or_spoilt_harms_no_other(tmp_path):
    with BlackBox(tmp_path / "box") as box:
        for text in ("short", "x" * 5000, '"' * 5000, "last"):
            box.note(text=text)
    content = bytearray(box.path.read_bytes())
    first, second, third, last = read_black_box(box.path)
    assert (first["text"], last["text"]) == ("short", "last") and "cut" in second and "cut" in third
    content[RECORD_BYTES * 2 + 40] ^= 1
    box.path.write_bytes(content)
    assert [record["number"] for record in read_black_box(box.path)] == [1, 3, 4]


def test_another_file_is_no_black_box(tmp_path):
    (tmp_path / "other").write_bytes(b"{}")
    with pytest.raises(ValueError, match="no black box"):
        read_black_box(tmp_path / "other")
    with pytest.raises(ValueError, match="num_records must be at least 1"):
        BlackBox(tmp_path / "box", num_records=0)
