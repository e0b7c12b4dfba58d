from jepa import command_line
from jepa.evaluation.report.section import NotMeasured, Section


def test_a_reason_is_something_that_the_user_can_mend():
    assert command_line.is_expected(NotMeasured("no actions"))


def test_a_section_needs_no_numbers_or_findings():
    assert Section("<p></p>").numbers == {} and Section("").findings == ()
