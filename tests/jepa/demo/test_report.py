import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from jepa.demo import report
from planning.environments.two_rooms import TwoRooms

ROOM = TwoRooms()
VOID = {"meta", "img", "source", "br", "link", "input", "hr"}
MEASURED = {
    "success": {
        "planner": {
            "rate": 0.96875, "low": 0.893, "high": 0.991, "successes": 62, "episodes": 64,
            "same_room": {"rate": 1.0, "successes": 32, "episodes": 32}, "different_rooms": 0.9375,
        },
        "random": {"rate": 0.15625, "low": 0.087, "high": 0.264, "successes": 10, "episodes": 64},
        "oracle": {"rate": 1.0, "low": 0.943, "high": 1.0, "successes": 64, "episodes": 64},
    },
    "probe": {"trained": {"r2": 0.97131}, "untrained": {"r2": 0.4125}},
    "collapse": {"effective_rank": 31.42, "dim": 96},
    "seconds": {"record": 6.25, "world_model": 48.5, "total": 54.75},
    "thresholds": [
        {"name": "planner success", "value": 0.96875, "limit": 0.8, "passed": True},
        {"name": "model error", "value": 0.61, "limit": 0.6, "passed": False},
    ],
    "settings": {"seed": 0, "note": "a < b & c"},
    "machine": {"cores": 2, "gpu": None},
    "commands": ["jepa fit --config 'a.yaml' --data.urls <urls>"],
    "version": "0.1.0",
}  # fmt: skip


class Page(HTMLParser):
    """The tags, attributes, and the exact numbers of a page; complains of unbalanced tags."""

    def __init__(self, html):
        super().__init__()
        self.open, self.attributes, self.headings, self.ids = [], [], [], []
        self.rows, self.row, self.numbers, self.text = {}, None, [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in VOID:
            self.open.append(tag)
        if "data-key" in attributes:
            self.row = attributes["data-key"]
            self.rows[self.row] = ""
        if tag == "data":
            self.numbers.append(float(attributes["value"]))
            if self.row:
                self.rows[self.row] = self.numbers[-1]

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"
        if tag == "tr":
            self.row = None

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        in_cell = self.open and self.open[-1] == "td"
        if self.row and in_cell and isinstance(self.rows[self.row], str):
            self.rows[self.row] += data


def frames(num):
    return np.stack([ROOM.render(np.array([12.0 + 2 * i, 22.0])) for i in range(num)])


def metrics_file(path, columns):
    rows = ["epoch,step," + ",".join(columns)]
    for step in range(20):
        cells = ("" if step % 2 else f"{1 / (step + 1):.4f}" for _ in columns)
        rows.append(f"0,{step}," + ",".join(cells))
    path.write_text("\n".join(rows))
    return path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    generator = np.random.default_rng(0)
    features = generator.normal(size=(4, 8, 8, 12))
    length = generator.uniform(1, 90, 400)
    centers = np.arange(1.0, 64.0, 2.0)
    goal = np.array([52.0, 22.0])
    values = np.array(
        [[np.hypot(x - 52, y - 22) if ROOM.is_free((x, y)) else np.nan for x in centers]
         for y in centers]
    )  # fmt: skip
    axis = np.linspace(-5, 5, 9)
    costs = np.hypot(*np.meshgrid(axis - 2, axis))
    background = ROOM.render(np.array([-20.0, -20.0]))
    return report.ReportInputs(
        summary=MEASURED,
        pretraining_metrics=metrics_file(
            folder / "encoder.csv", ["loss/total", "loss/prediction", "collapse/effective_rank"]
        ),
        world_model_metrics=metrics_file(
            folder / "world.csv", ["loss/teacher_forcing", "baseline/copy"]
        ),
        feature_maps=report.FeatureMaps(frames(4), features, -features),
        geometry=report.DistanceGeometry(length, np.ones(400), length**2),
        landscape=report.EnergyLandscape(
            costs, axis, axis, np.array([2.0, 0.0]), np.array([0.0, 3.0]), *frames(2)
        ),
        imagined=report.ImaginedDistance([np.ones(3), np.ones(3)], np.linspace(1, 0, 6), [0, 2]),
        distance_map=report.DistanceMap(
            values, np.where(np.isfinite(values), 1.0, np.nan), (0, 64, 0, 64), goal, background
        ),
        episodes=[
            report.EpisodePicture(frames(5), frames(1)[0], True, "In <one> room.", "fastest"),
            report.EpisodePicture(frames(7), frames(1)[0], False, "Never.", "worst failure"),
        ],
        rollout_strip=report.Strip(frames(3), frames(3)),
    )


@pytest.fixture(scope="module")
def html(inputs):
    return report.report_html(inputs)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_section_is_there_and_its_tags_are_balanced(page):
    assert set(report.SECTIONS) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    links = {value for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert links == {f"#{name}" for name in report.SECTIONS}


def test_nothing_is_missing_when_all_is_given(html):
    assert "This run recorded no" not in html


def test_the_file_needs_nothing_but_itself(page, html):
    sources = [v for _, name, v in page.attributes if name in ("src", "srcset", "href", "action")]
    assert sources and all(value.startswith(("data:image/", "#")) for value in sources)
    assert not {tag for tag, _, _ in page.attributes} & {"script", "iframe", "object", "link"}
    assert "<script" not in html and "url(" not in html and "@import" not in html
    assert "http://" not in html and "https://" not in html


def test_every_picture_opens_and_says_what_it_is(page):
    images = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert len(images) == len(alts) > 15 and all(alts)
    for image in images:
        Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))).verify()


def test_every_chart_has_a_dark_version(page):
    dark = [value for tag, name, value in page.attributes if (tag, name) == ("source", "srcset")]
    charts = [tag for tag, _, _ in page.attributes if tag == "source"]
    assert len(dark) >= 9 and len(charts) == 2 * len(dark)  # media and srcset


def test_each_episode_is_a_gif_with_all_its_frames(page, inputs):
    gifs = [v for t, n, v in page.attributes if (t, n) == ("img", "src") and "image/gif" in v]
    opened = [Image.open(io.BytesIO(base64.b64decode(gif.partition(",")[2]))) for gif in gifs]
    assert [getattr(gif, "n_frames", 1) for gif in opened] == [5, 7]
    assert "success, 4 steps" in page.text and "failure, 6 steps" in page.text


def test_every_number_of_the_summary_is_in_the_page_exactly(page):
    expected = dict(report.flatten(MEASURED))
    assert page.rows.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, bool | str) or value is None:
            assert page.rows[key] == ("none" if value is None else str(value))
        else:
            assert page.rows[key] == value


def test_the_bars_are_as_long_as_the_rates(html):
    for name, entry in MEASURED["success"].items():
        bar = re.search(rf'data-policy="{name}">.*?</div>', html)
        assert bar is not None
        assert f"width:{100 * entry['rate']:.2f}%" in bar[0]
        assert f"left:{100 * entry['low']:.2f}%" in bar[0]
        assert f'<data value="{entry["rate"]}">' in bar[0]


def test_no_number_is_not_a_number(page, html):
    without_images = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"\b(nan|inf|none%)\b", without_images, re.IGNORECASE)
    assert all(math.isfinite(number) for number in page.numbers)


def test_text_from_outside_is_escaped(html):
    assert "In &lt;one&gt; room." in html and "--data.urls &lt;urls&gt;" in html
    assert "a &lt; b &amp; c" in html


def test_failed_checks_come_before_the_verdict(html, page):
    assert html.index('class="failed"') < html.index('id="verdict"')
    assert "1 of 2 checks failed." in page.text
    assert "model error is 0.61, at most 0.6" in page.text
    assert "at least 0.8" in page.text


def test_without_failed_checks_there_is_no_alarm():
    passed = {**MEASURED, "thresholds": MEASURED["thresholds"][:1]}
    assert 'role="alert"' not in report.report_html(report.ReportInputs(summary=passed))


def test_a_value_that_is_not_a_number_is_said_in_words():
    broken = {"name": "rank", "value": math.nan, "limit": 8, "passed": False}
    html = report.report_html(report.ReportInputs(summary={"thresholds": [broken]}))
    assert "<b>rank</b> is not a number" in html
    assert not re.search(r"\bnan\b", html, re.IGNORECASE)


def test_the_page_is_small(html):
    assert len(html.encode()) < 5_000_000


# The verdict says what the intervals allow.


def verdict(planner, baseline):
    names = ("rate", "low", "high")
    success = {
        "planner": dict(zip(names, planner, strict=True)),
        "random": dict(zip(names, baseline, strict=True)),
        "oracle": dict(zip(names, (1.0, 0.9, 1.0), strict=True)),
    }
    return re.sub(r"<[^>]+>", "", report.verdict({"success": success}))


def test_the_verdict_of_a_clear_success():
    assert "random actions, reached" in verdict((0.9, 0.8, 0.95), (0.2, 0.1, 0.3))
    assert "do not overlap" in verdict((0.9, 0.8, 0.95), (0.2, 0.1, 0.3))


def test_the_verdict_of_overlapping_intervals():
    assert "so the intervals overlap" in verdict((0.5, 0.3, 0.7), (0.4, 0.2, 0.6))


def test_the_verdict_of_a_planner_that_is_not_better():
    assert "no better than the best baseline" in verdict((0.3, 0.2, 0.4), (0.4, 0.3, 0.5))


def test_the_verdict_names_the_counts():
    text = re.sub(r"<[^>]+>", "", report.verdict(MEASURED)).replace("&nbsp;", " ")
    assert "reached 62 of 64 goals (97 %, 95 % interval 89 % to 99 %)" in text
    assert "random actions, reached 10 of 64 goals (16 %" in text
    assert text.count(". ") == 0  # one sentence


def test_the_verdict_compares_with_the_strongest_baseline_that_is_not_the_oracle():
    entries = {"straight_line": 0.5, "random": 0.1, "do_nothing": 0.0, "oracle": 1.0}
    success = {name: {"rate": r, "low": r, "high": r} for name, r in entries.items()}
    success["planner"] = {"rate": 0.9, "low": 0.8, "high": 0.95}
    assert "walking straight to the goal, reached" in report.verdict({"success": success})


# What is missing does not break the page.

OPTIONAL = [
    "pretraining_metrics",
    "world_model_metrics",
    "feature_maps",
    "geometry",
    "landscape",
    "imagined",
    "distance_map",
    "rollout_strip",
]


def test_a_report_of_nothing_has_every_section(tmp_path):
    path = tmp_path / "new" / "report.html"
    report.write_report(path, report.ReportInputs(summary={}))
    page = Page(path.read_text(encoding="utf-8"))
    assert set(report.SECTIONS) <= set(page.ids)
    assert page.text.count("This run recorded no") == 14


@pytest.mark.parametrize("name", OPTIONAL)
def test_each_optional_input_can_stand_alone(inputs, name):
    alone = replace(report.ReportInputs(summary={}), **{name: getattr(inputs, name)})
    page = Page(report.report_html(alone))
    assert set(report.SECTIONS) <= set(page.ids)
    # The world model's curves and the pairs of distances also give rows of results.
    gives_results = name in ("world_model_metrics", "geometry")
    assert page.text.count("This run recorded no") == (12 if gives_results else 13)


# Reading metrics.


def test_metrics_leave_out_blanks_and_what_is_no_number(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(
        "epoch,step,loss/total,collapse/effective_rank,empty,note\n"
        "0,0,0.5,,,a\n0,1,nan,3.0,,b\n1,2,0.25,,,c\n1,,0.1,,,d\n"
    )
    curves = report.read_metrics(path)
    assert sorted(curves) == ["collapse/effective_rank", "loss/total"]
    steps, values = curves["loss/total"]
    assert steps.tolist() == [0, 2] and values.tolist() == [0.5, 0.25]


def test_metrics_that_are_not_there_are_empty(tmp_path):
    assert report.read_metrics(tmp_path / "metrics.csv") == {}
    assert report.read_metrics(None) == {}
