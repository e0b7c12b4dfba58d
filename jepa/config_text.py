"""What the text of a config may be, before any of it is given a meaning.

The parser behind the command line lets the last of two equal keys win, spells out anchors that
expand to millions of items, and names no file in its complaints.
"""

from __future__ import annotations

from pathlib import Path

import yaml

MAX_BYTES = 1 << 20
MAX_NODES = 100_000  # with anchors spelt out
_PLAIN = "tag:yaml.org,2002:"
_PLAIN_TAGS = {
    _PLAIN + kind
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
}


def check_config_text(path: str | Path) -> None:
    """Looks at a config as text.

    Raises:
        ValueError: if it is larger than `MAX_BYTES`, no YAML, no mapping, has a tag, a key twice or
            anchors that expand past `MAX_NODES`; one line with the file and, where there is one,
            the line.
    """
    size = Path(path).stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, a config {MAX_BYTES:,} at most")
    try:
        root = yaml.compose(Path(path).read_bytes(), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {_told(error)}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be read") from error
    if not isinstance(root, yaml.MappingNode):
        came = "is empty" if root is None else f"holds a {type(root).__name__[:-4].lower()}"
        raise ValueError(f"{path} {came}; a config is a mapping such as `data: {{seed: 1}}`")
    _count_nodes(root, {}, path)


def _told(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + " ".join(str(problem).split())


def _count_nodes(node: yaml.Node, known: dict[int, int], path: str | Path) -> int:
    """Returns how many nodes there are below one, its own included; each is looked at once."""
    if id(node) in known:
        return known[id(node)]
    line = node.start_mark.line + 1
    if node.tag not in _PLAIN_TAGS:
        tag = node.tag.removeprefix(_PLAIN)
        raise ValueError(f"{path}, line {line}: the tag {tag!r}; a config has no tags")
    known[id(node)] = MAX_NODES  # an anchor that holds itself never ends
    total = 1 + sum(_count_nodes(child, known, path) for child in _children(node, path))
    if total > MAX_NODES:
        raise ValueError(
            f"{path}, line {line}: with its anchors spelt out it has more than {MAX_NODES:,} items"
        )
    known[id(node)] = total
    return total


def _children(node: yaml.Node, path: str | Path) -> list[yaml.Node]:
    """The nodes right below one.

    Raises:
        ValueError: if a key is there twice.
    """
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in lines:
                raise ValueError(
                    f"{path}: {name!r} stands in lines {lines[name]} and {line}; the first of them "
                    "would not count: leave one out"
                )
            lines[name] = line
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
