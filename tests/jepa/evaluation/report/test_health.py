from jepa.evaluation.report.health import shown_health


def summary(verdict, **curves):
    measure = {
        "name": "effective_rank", "family": "rank", "value": 1.02, "untrained": 20.0,
        "reference": ">= 2.88", "verdict": "collapsed", "source": "",
    }  # fmt: skip
    return {
        "verdict": verdict, "line": f"{verdict} (<because>)", "num_clips": 8,
        "measures": [measure], "curves": curves,
    }  # fmt: skip


def test_a_collapsed_checkpoint_is_called_so_in_the_summary():
    section = shown_health(summary("collapsed"))
    assert not section.findings[0].is_good
    assert "collapsed (&lt;because&gt;)" in section.html and "effective rank" in section.html
    assert "1.02" in section.html and "&gt;= 2.88" in section.html


def test_only_a_healthy_one_is_good():
    assert shown_health(summary("healthy")).findings[0].is_good
    for verdict in ("suspicious", "untrained", "collapsed"):
        assert not shown_health(summary(verdict)).findings[0].is_good


def test_curves_are_drawn_where_there_are_any():
    distance = {"radius": [1, 2], "correlation": [0.9, 0.5], "low": [0.8, 0.4], "high": [1, 0.6]}
    spectra = {"spectrum": [0.9, 0.1, 0.0], "spectrum_untrained": [0.5, 0.5]}
    section = shown_health(summary("healthy", state_distance=distance, **spectra))
    assert section.html.count("<picture>") == 2
    assert "<picture>" not in shown_health(summary("healthy")).html
