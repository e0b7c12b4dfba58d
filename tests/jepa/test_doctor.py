import json
import re

import pytest

from jepa import doctor
from jepa.four_grey_frames import GREY_OF_FRAME, video_bytes


def test_the_carried_video_is_a_small_mp4():
    assert video_bytes()[4:8] == b"ftyp"
    assert len(video_bytes()) == 1000


def test_the_report_for_programs_holds_every_finding(capsys):
    code = doctor.main(["--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    names = {finding["name"] for finding in report["findings"]}
    assert {"python", "packages", "torch build", "machine", "gpu", "pyav", "configs"} <= names


def test_the_decoders_here_decode_the_right_frames():
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["pyav"].status == "ok"


def test_a_wrong_frame_is_found():
    assert doctor.wrong_greys(list(GREY_OF_FRAME)) is None
    assert "decodes wrongly" in (doctor.wrong_greys([190, 140, 90, 40]) or "")
    assert "decodes wrongly" in (doctor.wrong_greys([40]) or "")


def test_a_decoder_that_fails_is_a_note_while_another_works():
    findings = list(doctor.decoders({"decord": "no module named decord", "pyav": None}))
    assert [(finding.name, finding.status) for finding in findings] == [
        ("decord", "note"),
        ("pyav", "ok"),
    ]


def test_no_working_decoder_at_all_is_broken():
    findings = list(doctor.decoders({"decord": "absent", "pyav": "absent"}))
    assert findings[0].status == "broken"


def test_a_missing_package_is_broken_and_named(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "timm" else "1")
    finding = next(doctor.packages())
    assert (finding.status, finding.detail) == ("broken", "missing: timm")


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_the_malicious_lightning_is_broken_under_both_names(monkeypatch, version):
    monkeypatch.setattr(doctor, "installed_version", lambda name: version)
    findings = list(doctor.packages())
    assert [finding.name for finding in findings if finding.status == "broken"] == [
        "lightning",
        "pytorch-lightning",
    ]


def test_something_broken_makes_the_exit_code_1(monkeypatch, capsys):
    finding = doctor.Finding("decoders", "broken", "none decodes", "no video", "pip install av")
    monkeypatch.setattr(doctor, "examine", lambda **options: [finding])
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "cost: no video" in text
    assert "fix: pip install av" in text
    assert text.endswith("not ready: decoders\n")


def test_every_note_says_what_it_costs_and_what_mends_it():
    notes = [finding for finding in doctor.examine() if finding.status == "note"]
    assert all(finding.cost and finding.fix for finding in notes)


def test_memory_and_cores_are_counted():
    assert doctor.num_cores() >= 1
    assert (doctor.available_memory_bytes() or doctor.GIBIBYTE) > 1024**2


# Environments.


def test_the_needs_of_an_environment_are_read_from_its_imports_and_those_of_its_own_files():
    needs = doctor.environment_needs()
    assert needs["two_rooms"] == needs["point_mass"] == needs["wall"] == []
    assert needs["pusht"] == ["gym_pusht"]
    assert needs["point_maze"] == ["gymnasium_robotics", "mujoco"]  # mujoco by another file
    assert needs["reacher"] == ["dm_control", "mujoco"]
    assert not any(name.startswith("_") for name in needs)


def test_two_files_that_import_each_other_are_read_once(tmp_path):
    folder = tmp_path / "planning"
    folder.mkdir()
    (folder / "one.py").write_text("import json\nfrom planning.two import x\n")
    (folder / "two.py").write_text("def f():\n    import simulator.core\nfrom planning import one")
    assert doctor.packages_of(folder / "one.py", tmp_path, {}) == {"simulator"}


def test_what_is_missing_is_told_by_extra_with_what_cannot_be_simulated(monkeypatch):
    needs = {"rooms": [], "maze": ["mujoco", "maze_maker"], "arm": ["mujoco", "robosuite"]}
    monkeypatch.setattr(doctor, "environment_needs", lambda: needs)
    monkeypatch.setattr(doctor, "_is_there", lambda module: module == "mujoco")
    works, sim, robot = doctor.environments()
    assert (works.status, works.detail) == ("ok", "rooms")
    assert (sim.detail, sim.cost) == ("maze_maker not installed", "no maze")
    assert sim.fix == "pip install -e '.[sim]'"
    assert (robot.detail, robot.cost) == ("robosuite not installed", "no arm")
    assert robot.fix == "pip install -e '.[sim-robot]'"


@pytest.mark.parametrize(
    ("backend", "library", "fix"),
    [
        ("egl", "libEGL.so.1", "apt-get install libegl1 .*or apt-get install libosmesa6"),
        ("osmesa", "libOSMesa.so.8", "apt-get install libosmesa6$"),
    ],
)
def test_a_missing_library_of_the_system_is_told_with_its_package(
    monkeypatch, backend, library, fix
):
    monkeypatch.setenv("MUJOCO_GL", backend)
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    monkeypatch.setattr(doctor, "_loads", lambda name: False)
    (finding,) = doctor.drawing_libraries(["maze"], {"maze": ["mujoco"], "pusht": ["gym_pusht"]})
    assert (finding.name, finding.cost) == (library, "no pictures of maze")
    assert re.search(fix, finding.fix)
    monkeypatch.setattr(doctor, "_loads", lambda name: True)
    assert not list(doctor.drawing_libraries(["maze"], {"maze": ["mujoco"]}))


def test_a_library_that_is_not_there_does_not_load():
    assert not doctor._loads("libNothingOfThisName.so.1")


def test_an_environment_that_works_acts_and_draws():
    finding = doctor.acts("two_rooms")
    assert finding.status == "ok"
    assert re.match(r"draws: a reset and \d+ steps of 64 x 64 pixels", finding.detail)


def test_an_environment_that_fails_is_a_note_with_its_own_line():
    finding = doctor.acts("two_room")
    assert finding.status == "note"
    assert "did you mean 'two_rooms'?" in finding.detail
    assert finding.cost
    assert finding.fix


def test_each_environment_is_made_when_that_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "environment_needs", lambda: {"two_rooms": [], "wall": []})
    monkeypatch.setattr(doctor, "acts", lambda name: doctor.Finding(name, "ok", "made"))
    doctor.main(["--environments"])
    lines = capsys.readouterr().out
    assert re.search(r"two_rooms +made", lines)
    assert re.search(r"wall +made", lines)
