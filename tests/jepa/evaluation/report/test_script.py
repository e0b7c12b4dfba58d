from jepa.evaluation.report.script import SCRIPT


def test_the_script_fetches_nothing_and_cannot_end_its_tag():
    for word in ("fetch(", "XMLHttpRequest", "import(", "http", "eval(", "innerHTML", "</"):
        assert word not in SCRIPT
    assert SCRIPT.count("{") == SCRIPT.count("}") and SCRIPT.count("(") == SCRIPT.count(")")
