"""The files that say what is installed: ranges, exact versions, no hosts, nothing malicious."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINT = re.compile(r'^[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version >= "3\.\d+")?$')
MALICIOUS = ("2.6.2", "2.6.3")  # GHSA-w37p-236h-pfx3, under both names
HOST = re.compile(r"https?://|index-url|find-links|file:")


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def requirements():
    text = (ROOT / "pyproject.toml").read_text()
    return re.findall(r'"((?!setuptools)[a-z][a-z0-9-]*(?:\[[a-z]+\])?[<>=!][^"]*)"', text)


def allows_malicious_lightning(lines):
    """Lines on lightning that would let one of the two uploads in."""
    ours = [line for line in lines if re.match(r"(pytorch-)?lightning[<>=!]", line)]
    return [
        line
        for line in ours
        for version in MALICIOUS
        if f"=={version}" in line or ("==" not in line and f"!={version}" not in line)
    ]


def test_every_constraint_is_an_exact_version():
    assert [line for line in constraints() if not CONSTRAINT.match(line)] == []


def test_the_constraints_pin_what_we_require_by_name():
    pinned = {line.partition("==")[0] for line in constraints()}
    required = {re.match(r"[a-z0-9-]+", line).group() for line in requirements()}
    assert {"torch", "lightning", "av", "decord", "wandb"} <= required & pinned
    assert required - pinned <= {"decord2"}  # for the platforms where decord has no wheel


def test_the_malicious_lightning_is_excluded_under_both_names():
    names = [re.match(r"[a-z-]+", line).group() for line in requirements()]
    assert {"lightning", "pytorch-lightning"} <= set(names)
    assert allows_malicious_lightning(requirements()) == []
    assert allows_malicious_lightning(constraints()) == []


@pytest.mark.parametrize("line", ["lightning==2.6.3", "pytorch-lightning>=2.5,!=2.6.2"])
def test_the_check_for_malicious_lightning_can_fail(line):
    assert allows_malicious_lightning([line]) != []


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run"])
def test_no_package_index_is_named(name):
    assert HOST.findall((ROOT / name).read_text()) == []
