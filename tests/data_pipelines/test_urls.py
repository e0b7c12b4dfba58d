import pytest

from data_pipelines.urls import (
    expand_ranges,
    is_url,
    join_url,
    scheme_of,
    shown,
    split_url,
    without_secrets,
)


@pytest.mark.parametrize(
    ("folder", "name", "joined"),
    [
        ("http://host/set", "a.tar", "http://host/set/a.tar"),
        ("http://host/set/", "a.tar", "http://host/set/a.tar"),
        ("https://me:pw@host:8/set?sig=x&y=1", "a.tar", "https://me:pw@host:8/set/a.tar?sig=x&y=1"),
        ("s3://bucket/set", "a.tar", "s3://bucket/set/a.tar"),
        ("memory://set", "a.tar", "memory://set/a.tar"),
    ],
)
def test_splitting_undoes_joining(folder, name, joined):
    assert join_url(folder, name) == joined
    back, last = split_url(joined)
    assert last == name and join_url(back, last) == joined


def test_what_is_shown_has_no_password_and_no_query():
    assert shown("https://me:pass@word@host/a.tar?X-Amz-Signature=1f") == "https://host/a.tar"
    assert shown("C:/a?b@c") == "C:/a?b@c"
    text = "403, url='http://me:pw@host/a?sig=1' (see http://other/b?t=2)"
    assert without_secrets(text) == "403, url='http://host/a' (see http://other/b)"


def test_ranges_are_expanded_as_webdataset_users_write_them():
    assert expand_ranges("s-{008..011}.tar") == [f"s-{n}.tar" for n in ("008", "009", "010", "011")]
    assert expand_ranges("{0..1}/{1..2}") == ["0/1", "0/2", "1/1", "1/2"]
    assert expand_ranges("plain{a}.tar") == ["plain{a}.tar"]
    for wrong in ("{3..1}", "{0..999999999}", "{0..999}{0..999}"):
        with pytest.raises(ValueError, match="must run upwards"):
            expand_ranges(wrong)


@pytest.mark.parametrize(
    "url", ["pipe://cat x", "simplecache::http://h/x", "reference://x", "x://"]
)
def test_only_known_kinds_of_url_are_read(url):
    with pytest.raises(ValueError, match="is not read here; known are http, https, s3"):
        scheme_of(url)
    assert scheme_of("s3://bucket") == "s3" and is_url("s3://bucket") and not is_url("C:/x")
