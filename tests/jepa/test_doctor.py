import json

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
    monkeypatch.setattr(doctor, "examine", lambda *, full: [finding])
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
