import re

from jepa.evaluation.report.page import Part, page_html


def small_page(**options):
    parts = [Part("one", "First", "<p>text</p>"), Part("two", "Second <b>", "")]
    fixed = {"title": "a < b", "eyebrow": "e & f", "heading": "h"}
    return page_html(parts, **{**fixed, **options})


def test_a_page_has_its_sections_their_links_and_balanced_tags(page_of):
    page = page_of(small_page(footer="the end"))
    assert [value for value in page.values("id") if value in ("one", "two")] == ["one", "two"]
    assert page.values("href") == ["#one", "#two"]
    assert "the end" in page.text and page.tags.count("h1") == 1 and page.tags.count("h2") == 2


def test_what_is_text_is_escaped():
    html = small_page(footer="<script>alert(1)</script>")
    assert "a &lt; b" in html and "e &amp; f" in html and "Second &lt;b&gt;" in html
    assert "alert(1)" in html and "<script>alert" not in html


def test_a_browser_may_fetch_nothing_and_run_only_the_script_of_the_page():
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', small_page())[1]
    assert "default-src 'none'" in policy and "script-src 'none'" in policy
    policy = re.search(r'Policy" content="([^"]*)"', small_page(has_script=True))[1]
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)


def test_numbers_are_part_of_the_page_and_cannot_end_their_script(numbers_in):
    told = {"label": "</script><script>alert(1)</script>", "value": 0.25, "and": "a & b"}
    html = small_page(numbers=told)
    assert numbers_in(html) == told
    assert "alert(1)</script>" not in html


def test_a_page_without_sliders_has_no_script():
    assert "<script" not in small_page()


def test_an_injected_script_does_not_run_and_ours_does(browser, tmp_path, root_data):
    hostile = "<script>document.documentElement.dataset.hacked = 1</script>"
    image = '<img src="https://example.org/x.png" alt="">'
    page = tmp_path / "page.html"
    parts = [Part("one", "First", hostile + image)]
    html = page_html(parts, title="t", eyebrow="e", heading="h", has_script=True)
    page.write_text(html)
    dom, console = browser.dom(page)
    told = root_data(dom)
    assert "hacked" not in told and told["pictures"] == "1" and told["broken"] == "1"
    assert any("Content Security Policy" in line for line in console)
