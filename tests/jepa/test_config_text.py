"""What a config may be as text; the lines that users see are in tests/reliability."""

import pytest

from jepa.config_text import check_config_text
from jepa.configs_folder import configs_folder


@pytest.mark.parametrize("path", sorted(configs_folder().rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_of_ours_may_be_read(path):
    check_config_text(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("- a", "holds a sequence"),
        ("word", "holds a scalar"),
        ("a: 1\nb: 2\na: 3\n", "'a' stands in lines 1 and 3"),
        ("x: {a: 1,\n  a: 2}\n", "'a' stands in lines 1 and 2"),
        ("a: !!python/name:os.system ''\n", "line 1: the tag 'python/name:os.system'"),
        ("a: !mine 1\n", "line 1: the tag '!mine'"),
        ("a: !!binary aGk=\n", "the tag 'binary'"),
        ("a: &a [*a]\n", "more than 100,000 items"),
        ("a: 'b\n", "no YAML: line 2, column 1: found unexpected end of stream"),
        ("a: \x00\n", "no YAML: "),
    ],
)
def test_what_is_no_config_is_refused_with_its_file_and_line(text, message, tmp_path):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"x\.yaml.*{message}"):
        check_config_text(tmp_path / "x.yaml")


def test_anchors_and_merged_keys_may_be_used(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a {b: 1}\nc: {<<: *a, d: 2025-01-01}\ne: *a\n")
    check_config_text(tmp_path / "x.yaml")


def test_two_keys_of_one_line_are_two_keys(tmp_path):
    (tmp_path / "x.yaml").write_text("x: {a: 1, a: 2}\n")
    with pytest.raises(ValueError, match="'a' stands in line"):
        check_config_text(tmp_path / "x.yaml")
