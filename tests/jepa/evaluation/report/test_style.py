from jepa.evaluation.report.charts import DARK, LIGHT
from jepa.evaluation.report.style import STYLE


def test_the_style_knows_light_dark_phone_and_paper_and_fetches_nothing():
    assert LIGHT.paper in STYLE and DARK.paper in STYLE
    for medium in ("prefers-color-scheme: dark", "max-width:640px", "@media print"):
        assert medium in STYLE
    assert STYLE.count("{") == STYLE.count("}")
    assert "url(" not in STYLE and "@import" not in STYLE
