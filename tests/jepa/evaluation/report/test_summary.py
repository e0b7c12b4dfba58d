from jepa.evaluation.report.section import Finding
from jepa.evaluation.report.summary import (
    facts,
    findings_html,
    size_line,
    summary_html,
    unmeasured_html,
    versions,
)


def test_verdicts_say_good_or_not_and_text_is_escaped():
    html = findings_html([Finding("a < b", True), Finding("c", False), Finding("d")])
    assert "a &lt; b" in html
    assert html.count(">good<") == 1 and html.count(">not good<") == 1
    assert "Nothing could be judged" in findings_html([])


def test_what_was_looked_at_is_told(world_subject, world_clips):
    told = facts(world_subject, world_clips)
    assert told["videos"] == 12 and told["videos_read"] >= 10
    assert told["weights_fingerprint"] == world_subject.fingerprint
    html = summary_html(world_subject, world_clips, [], command="jepa report 'a b' --data <x>")
    assert world_subject.fingerprint in html and world_clips.fingerprint in html
    assert "--data &lt;x&gt;" in html and versions()["torch"] in html


def test_reasons_are_listed_by_section():
    html = unmeasured_html({"One": "no <data>", "Two": "none"})
    assert html.count("<tr>") == 3 and "no &lt;data&gt;" in html
    assert "Everything" in unmeasured_html({})


def test_the_size_is_told_in_words():
    assert size_line(1_256_651, 12.4) == "1.26 MB, 12 s"
    assert size_line(2_000, 0.1) == "2 kB, 0 s"
