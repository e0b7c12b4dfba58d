import json
from dataclasses import replace

import pytest

from jepa.evaluation.report.section import Finding, NotMeasured, Section
from jepa.evaluation.report.writing import SECTIONS, Inputs, make_report, write_report

HOSTILE = "<script>document.documentElement.dataset.hacked = 1</script>"
QUICK = ("feature-maps", "predicted-neighbours", "energy", "pixels")


def only(*names):
    return {name: SECTIONS[name] for name in names}


@pytest.fixture(scope="module")
def report(world_subject, world_clips):
    subject = replace(world_subject, name=HOSTILE, config={"label": HOSTILE})
    batch = world_clips.batches[0]
    keys = (HOSTILE, *batch.keys[1:])
    clips = replace(
        world_clips, shards=HOSTILE, batches=[batch._replace(keys=keys), *world_clips.batches[1:]]
    )
    inputs = Inputs(subject, clips, decoder_steps=2, command=f"jepa report {HOSTILE}")
    return make_report(inputs, sections=only(*QUICK))


@pytest.fixture(scope="module")
def page_file(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    write_report(report, path, numbers=path.with_suffix(".json"))
    return path


def test_every_section_is_there_once_with_its_link(report, page_of):
    page = page_of(report.html)
    ids = [name for name in page.values("id") if name != "numbers"]
    assert ids == ["summary", *QUICK, "unmeasured"]
    assert page.values("href") == [f"#{name}" for name in ids]
    assert report.unmeasured == {}


def test_the_page_needs_nothing_but_itself(report, page_of):
    page = page_of(report.html)
    sources = [*page.values("src"), *page.values("srcset")]
    assert len(sources) > 40 and all(source.startswith("data:image/") for source in sources)
    assert "http://" not in report.html and "https://" not in report.html
    assert "url(" not in report.html and "@import" not in report.html


def test_every_picture_has_words_for_those_who_do_not_see_it(report, page_of):
    page = page_of(report.html)
    images = [name for tag, name, value in page.attributes if tag == "img" and name == "src"]
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert len(alts) == len(images) and all(alts)


def test_labels_names_and_settings_from_outside_are_text_and_nothing_else(report, page_of):
    page = page_of(report.html)
    assert page.text.count(HOSTILE) >= 4  # title, heading, data, command, key of a video
    assert page.tags.count("script") == 2  # the numbers, and the script of the page
    assert "<script>document" not in report.html


def test_the_page_is_small(report):
    assert len(report.html.encode()) < 2_000_000


def test_the_numbers_on_the_disk_are_those_in_the_page(page_file, numbers_in, report):
    told = json.loads(page_file.with_suffix(".json").read_text())
    assert told == numbers_in(page_file.read_text()) == report.numbers
    assert told["facts"]["weights_fingerprint"] and told["versions"]["torch"]
    assert set(told["sections"]) == set(QUICK)


def test_what_cannot_be_made_is_said_in_its_place_and_at_the_end(world_subject, world_clips):
    def refuse(inputs):
        raise NotMeasured("there is <no> light")

    def fine(inputs):
        return Section("<p>fine</p>", {"x": float("nan")}, (Finding("It is fine", True),))

    made = make_report(
        Inputs(world_subject, world_clips),
        sections={"dark": ("The dark", refuse), "fine": ("Fine", fine)},
    )
    assert made.unmeasured == {"The dark": "there is <no> light"}
    assert made.html.count("there is &lt;no&gt; light") == 2
    assert made.lines == ("It is fine",) and "It is fine" in made.html
    assert made.numbers["sections"]["fine"] == {"x": None}  # JSON knows no NaN


@pytest.mark.parametrize("error", [ValueError("a\nb"), OSError("a b"), FloatingPointError("a b")])
def test_what_data_or_weights_are_to_blame_for_costs_one_section(world_subject, world_clips, error):
    def fail(inputs):
        raise error

    made = make_report(Inputs(world_subject, world_clips), sections={"x": ("X", fail)})
    assert made.unmeasured == {"X": "a b"}


def test_a_fault_of_ours_is_not_hidden(world_subject, world_clips):
    def fail(inputs):
        raise TypeError("ours")

    with pytest.raises(TypeError, match="ours"):
        make_report(Inputs(world_subject, world_clips), sections={"x": ("X", fail)})


def test_an_encoder_gets_its_own_sections_and_reasons(predictor_subject, clip_shards):
    from jepa.evaluation.report.clips import held_out_clips

    clips = held_out_clips(predictor_subject, clip_shards, num_clips=8)
    made = make_report(
        Inputs(predictor_subject, clips, decoder_steps=1),
        sections=only("feature-maps", "predicted-neighbours", "energy", "surprise", "world-model"),
    )
    assert set(made.unmeasured) == {
        "Energy over an action",
        "Is the impossible surprising?",
        "Report card of the world model",
    }
    assert "imagines no actions" in made.unmeasured["Energy over an action"]
    assert "--physics FOLDER" in made.unmeasured["Is the impossible surprising?"]


# In a real browser.


def test_a_browser_finds_every_picture_and_nothing_to_complain_of(browser, page_file, root_data):
    dom, console = browser.dom(page_file)
    told = root_data(dom)
    assert console == []
    assert told["broken"] == "0" and int(told["pictures"]) > 40
    assert told["overflow"] == "0" and "hacked" not in told


def test_the_slider_shows_one_step_at_a_time_and_moves(browser, page_file, tmp_path):
    """The page in a frame, so that a script outside of it can move its slider."""
    page = tmp_path / "frame.html"
    page.write_text(in_frame(page_file.read_text(), width=1000, script=MOVE_SLIDER))
    dom, _ = browser.dom(page)
    assert 'data-first="0,1" data-second="3,1,frame 4 of' in dom


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_shows_it_without_scrolling_sideways(browser, page_file, tmp_path, width):
    page = tmp_path / "phone.html"
    page.write_text(in_frame(page_file.read_text(), width=width, script=MEASURE))
    dom, _ = browser.dom(page)
    assert f'data-width="{width}" data-overflow="0"' in dom


def test_dark_mode_has_a_dark_paper_and_its_own_charts(browser, page_file, tmp_path):
    from PIL import Image

    shots = {}
    for name, options in {"light": [], "dark": ["--force-dark-mode"]}.items():
        shots[name] = tmp_path / f"{name}.png"
        browser.run(page_file, f"--screenshot={shots[name]}", *options)
    light, dark = (Image.open(shots[name]).convert("L").getpixel((3, 3)) for name in shots)
    assert light > 240 and dark < 40


def test_it_is_printed_with_all_steps(browser, page_file, tmp_path):
    paper = tmp_path / "paper.pdf"
    browser.run(page_file, f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF") and paper.stat().st_size > 20_000


MOVE_SLIDER = """
const player = page.querySelector(".player");
const shown = () => [player.dataset.shown, [...player.querySelectorAll(".step")]
  .filter((step) => step.offsetHeight > 0).length];
told.first = shown();
const slider = player.querySelector("input");
slider.value = 3;
slider.dispatchEvent(new Event("input"));
told.second = [...shown(), player.querySelector("output").textContent];
"""
MEASURE = """
const root = page.documentElement;
told.width = root.clientWidth;
told.overflow = root.scrollWidth - root.clientWidth;
"""


def in_frame(html, *, width, script):
    from html import escape

    return (
        f'<!DOCTYPE html><html><body><iframe style="border:0;width:{width}px;height:900px" '
        f'srcdoc="{escape(html)}"></iframe><script>addEventListener("load", () => {{'
        f"const page = frames[0].document; const told = document.documentElement.dataset;{script}"
        "});</script></body></html>"
    )
