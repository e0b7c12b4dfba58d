from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from planning.benchmarking.strict_reading import read_as, read_yaml


@dataclass(frozen=True)
class Wheel:
    diameter: float
    kind: Literal["front", "rear"] = "front"


@dataclass(frozen=True)
class Bicycle:
    name: str
    wheels: tuple[Wheel, ...]
    gears: int | None = None
    is_sold: bool = False
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not self.wheels:
            raise ValueError("a bicycle needs a wheel")


def test_plain_values_become_the_dataclass_with_its_parts():
    values = {"name": "red", "wheels": [{"diameter": 28}, {"diameter": 26.5, "kind": "rear"}]}
    assert read_as(Bicycle, values, where="b.yaml") == Bicycle(
        "red", (Wheel(28.0), Wheel(26.5, "rear"))
    )
    whole = read_as(Bicycle, {**values, "gears": 3, "extras": {"bell": [1, 2]}}, where="b.yaml")
    assert (whole.gears, whole.extras) == (3, {"bell": [1, 2]})
    assert read_as(Bicycle, {**values, "gears": None}, where="b.yaml").gears is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"nmae": "x"}, r"b.yaml: unknown key 'nmae'; did you mean 'name'\? known are"),
        ({"name": 3}, "b.yaml: name must be text, got 3"),
        ({"gears": True}, "b.yaml: gears must be a whole number, got True"),
        ({"gears": 2.5}, "b.yaml: gears must be a whole number, got 2.5"),
        ({"is_sold": 1}, "b.yaml: is_sold must be true or false, got 1"),
        ({"wheels": 28}, "b.yaml: wheels must be a list, got 28"),
        ({"wheels": [28]}, r"b.yaml: wheels\[0\] must be a mapping of keys, got 28"),
        ({"wheels": [{}]}, r"b.yaml: wheels\[0\]: diameter missing"),
        ({"wheels": [{"diameter": True}]}, r"wheels\[0\]: diameter must be a number, got True"),
        ({"wheels": [{"diameter": 1, "kind": "x"}]}, "kind must be 'front' or 'rear', got 'x'"),
        ({"wheels": []}, "b.yaml: a bicycle needs a wheel"),
        ({"extras": {"bell": {"a": 1}}}, "b.yaml: extras must hold names and plain values"),
        ({"extras": {1: 2}}, "b.yaml: extras must hold names and plain values"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line_that_names_its_place(changes, expected):
    values = {"name": "red", "wheels": [{"diameter": 28}], **changes}
    with pytest.raises(ValueError, match=expected) as error:
        read_as(Bicycle, values, where="b.yaml")
    assert "\n" not in str(error.value)


def test_what_is_no_mapping_is_refused():
    with pytest.raises(ValueError, match=r"b.yaml must be a mapping of keys, got \[1\]"):
        read_as(Bicycle, [1], where="b.yaml")


def test_yaml_becomes_plain_values():
    text = "a: 1\nb: {c: [2, x], d: null}\n1: one\n"
    assert read_yaml(text, where="card.yaml") == {"a": 1, "b": {"c": [2, "x"], "d": None}, 1: "one"}
    assert read_yaml("- {a: 1}\n- {a: 2}\n", where="x") == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    "text", ["a: 1\nb: 2\na: 3\n", "b:\n  - {a: 1, a: 1}\n", "x: {a: 1, 'a': 2}"]
)
def test_a_key_that_is_there_twice_is_refused_however_deep_it_is(text):
    with pytest.raises(
        ValueError, match=r"card.yaml is no YAML: the key 'a' is there twice"
    ) as error:
        read_yaml(text, where="card.yaml")
    assert "\n" not in str(error.value)


def test_yaml_makes_no_objects():
    with pytest.raises(ValueError, match="could not determine a constructor"):
        read_yaml("a: !!python/object/apply:os.getcwd []", where="card.yaml")
