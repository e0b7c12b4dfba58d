"""Splitting a set of shards into parts that share no recording.

What must stay together is a unit: all samples of a group, and with `by` also all of a source folder
or a label. Units are put in an order that depends on the seed and their names alone, each goes to
the part that lacks most, and then single units move or change places while that helps.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from data_pipelines.sample_copying import (
    Layout,
    NewSet,
    OutgoingSample,
    SetInProgress,
    ShardSet,
    load_sets,
    make_copy_plan,
    places_of,
    refuse_out_in_inputs,
    refuse_repeated_keys,
    unchanged,
)
from data_pipelines.samples import Sample
from data_pipelines.shard_index import INDEX_NAME, Shards
from data_pipelines.tar_headers import ShardError

By = Literal["group", "source-folder", "label", "key"]
Of = Literal["samples", "seconds"]

FAR_OFF = 0.25  # a part this far from the share asked for, in parts of it, is remarked on
_MAX_EXCHANGES = 200


@dataclass(frozen=True)
class SplitSettings:
    """How samples are divided.

    Attributes:
        parts: name of a part -> its share, which add up to 1.
        seed: same seed, same parts, in whatever order the shards are named.
        by: what stays together. "group": the samples of a group; a sample without one is alone.
            "source-folder" and "label": these, and groups too. "key": nothing.
        of: what shares are measured in.
        stratify: let every label have the shares, as closely as whole units allow. A unit with
            several labels counts for its most frequent one.
    """

    parts: Mapping[str, float]
    seed: int = 0
    by: By = "group"
    of: Of = "samples"
    stratify: bool = False

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError(f"a split needs at least 2 parts, got {len(self.parts)}")
        for name, share in self.parts.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(f"a part's name has letters, digits, '_' and '-', got '{name}'")
            if not 0 < share < 1:
                raise ValueError(f"the share of '{name}' must be above 0 and below 1, got {share}")
        if abs(sum(self.parts.values()) - 1) > 1e-6:
            raise ValueError(f"the shares must add up to 1, got {sum(self.parts.values()):g}")
        if self.stratify and self.by == "label":
            raise ValueError("by label, a label is in one part only; it cannot be stratified too")


@dataclass(frozen=True)
class SplitPart:
    """One part that was written.

    Attributes:
        name: of the part and its folder.
        written: the set.
        num_groups: groups in it; a sample without a group is one.
        share: of the whole, by what the shares were measured in.
        asked: the share that was asked for.
    """

    name: str
    written: NewSet
    num_groups: int
    share: float
    asked: float


@dataclass(frozen=True)
class SplitResult:
    """All parts, and what a reader should know of them.

    Attributes:
        parts: in the order asked for.
        remarks: one line each.
    """

    parts: tuple[SplitPart, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """Samples that stay together."""

    name: str
    samples: tuple[Sample, ...]
    size: float


def split_shards(
    shards: Shards,
    out: str | Path,
    settings: SplitSettings,
    *,
    layout: Layout | None = None,
) -> SplitResult:
    """Writes every sample into exactly one of several sets, each in a folder of its own.

    Members are copied byte for byte; each part has its own index and, for trajectories, statistics
    of its own episodes only. No part is seen before all are written.

    Args:
        shards: as for `ShardIndex.load`.
        out: gets a folder for each part.
        settings: which parts, and what stays together.
        layout: how large shards are.

    Raises:
        FileNotFoundError: if a set is missing.
        ValueError: if there are fewer units than parts.
        ShardError: if a key comes twice, if `out` holds other shards or is in one of the sets, or
            if a set cannot be read.
    """
    layout = layout or Layout()
    sets = load_sets(shards)
    _refuse_places(Path(out), settings, sets)
    samples = sorted(
        (sample for one in sets for sample in one.index.samples), key=lambda sample: sample.key
    )
    outgoing = unchanged(samples)
    refuse_repeated_keys(outgoing, advice="merge the sets first, with --prefix-keys")
    part_of = assign_parts(samples, settings)
    chosen = {
        name: [one for one in outgoing if part_of[one.key] == name] for name in settings.parts
    }
    with ExitStack() as stack:
        new = _begin_parts(Path(out), chosen, settings, layout, sets)
        for one in new.values():
            stack.enter_context(one)
        for one in new.values():
            one.write()
        written = {name: one.finish(places_of(sets)) for name, one in new.items()}
    return _result(samples, part_of, settings, written)


def assign_parts(samples: Sequence[Sample], settings: SplitSettings) -> dict[str, str]:
    """Returns the part of every sample, key -> name; units are never divided.

    Raises:
        ValueError: if there are fewer units than parts, or if a sample lacks what the units or
            the shares are made of.
    """
    units = units_of(samples, settings)
    if len(units) < len(settings.parts):
        raise ValueError(
            f"{len(settings.parts)} parts cannot be made of {len(units)} unit(s) that stay "
            f"together (by {settings.by}): a part would be empty; if what is in one of them may "
            "be parted, split by sample (--by key)"
        )
    shares = np.array(list(settings.parts.values()))
    chosen: list[int] = []
    ordered: list[Unit] = []
    filled = np.zeros(len(shares))
    for stratum in _strata(units, settings):
        sizes = np.array([unit.size for unit in stratum])
        # What earlier strata left over or took too much is made good here: totals stay right.
        missing = shares * (filled.sum() + sizes.sum()) - filled
        parts = _improved(_first_choice(sizes, missing), sizes, missing)
        np.add.at(filled, parts, sizes)
        chosen.extend(parts.tolist())
        ordered.extend(stratum)
    _fill_empty_parts(chosen, ordered, len(shares))
    names = list(settings.parts)
    return {
        sample.key: names[part]
        for unit, part in zip(ordered, chosen, strict=True)
        for sample in unit.samples
    }


def units_of(samples: Sequence[Sample], settings: SplitSettings) -> list[Unit]:
    """Returns what stays together, in an order that depends on the seed and on names only."""
    leader: dict[str, str] = {}

    def find(token: str) -> str:
        while leader.setdefault(token, token) != token:
            leader[token] = token = leader[leader[token]]
        return token

    for sample in samples:
        first, *others = _tokens(sample, settings.by)
        for other in others:
            one, two = sorted((find(first), find(other)))
            leader[two] = one
        find(first)
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        members[find(_tokens(sample, settings.by)[0])].append(sample)
    units = [
        Unit(name, tuple(group), sum(_size(sample, settings.of) for sample in group))
        for name, group in members.items()
    ]
    return sorted(units, key=lambda unit: _rank(unit.name, settings.seed))


def group_name(sample: Sample) -> str:
    """Returns the group of a sample, or its key if it has none, told apart by a word."""
    return f"group '{sample.group}'" if sample.group else f"sample '{sample.key}'"


def _tokens(sample: Sample, by: By) -> list[str]:
    """Returns the names of what a sample belongs to; samples that share one stay together."""
    if by == "key":
        return [f"sample '{sample.key}'"]
    tokens = [group_name(sample)]
    if by == "label":
        if sample.label is None:
            raise ValueError(f"sample '{sample.key}' has no label; split by group")
        tokens.append(f"label '{sample.label}'")
    if by == "source-folder":
        if sample.source is None:
            raise ValueError(f"sample '{sample.key}' does not say its source; split by group")
        tokens.append(f"folder '{os.path.dirname(sample.source)}'")
    return tokens


def _size(sample: Sample, of: Of) -> float:
    if of == "samples":
        return 1.0
    if sample.metadata is None:
        raise ValueError(f"sample '{sample.key}' does not say how long it is; use --of samples")
    return sample.metadata.duration_seconds


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()


def _strata(units: Sequence[Unit], settings: SplitSettings) -> list[list[Unit]]:
    """Returns the units of each label in turn, or all of them together."""
    if not settings.stratify:
        return [list(units)]
    strata: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        labels = Counter(sample.label or "" for sample in unit.samples)
        strata[min(labels, key=lambda label: (-labels[label], label))].append(unit)
    return [strata[label] for label in sorted(strata)]


def _first_choice(sizes: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Gives each unit in turn to the part that lacks most: (units,), indices of parts."""
    missing = missing.copy()
    parts = np.zeros(len(sizes), dtype=np.int64)
    for number, size in enumerate(sizes):
        parts[number] = missing.argmax()
        missing[parts[number]] -= size
    return parts


class _Exchange(NamedTuple):
    """A unit goes from a part to another, and perhaps one comes back.

    Attributes:
        gain: by how much the squared distance to the shares falls.
        given: index of the unit that goes.
        taken: index of the unit that comes back, -1 for none.
        giver: part that gives.
        taker: part that takes.
    """

    gain: float
    given: int
    taken: int
    giver: int
    taker: int


def _improved(parts: np.ndarray, sizes: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Moves and exchanges units while the squared distance to the shares falls."""
    parts = parts.copy()
    everywhere = range(len(missing))
    for _ in range(_MAX_EXCHANGES):
        lacking = missing - np.bincount(parts, weights=sizes, minlength=len(missing))
        exchanges = [
            _best_exchange(parts, sizes, lacking, giver, taker)
            for giver in everywhere
            for taker in everywhere
            if lacking[giver] < lacking[taker] and (parts == giver).any()
        ]
        best = max(exchanges, key=lambda exchange: exchange.gain, default=None)
        if best is None or best.gain <= 1e-9 * sizes.sum():
            break
        parts[best.given] = best.taker
        if best.taken >= 0:
            parts[best.taken] = best.giver
    return parts


def _best_exchange(
    parts: np.ndarray, sizes: np.ndarray, lacking: np.ndarray, giver: int, taker: int
) -> _Exchange:
    """Returns the exchange between two parts that gains most."""
    given = np.flatnonzero(parts == giver)
    taken = np.append(np.flatnonzero(parts == taker), -1)
    taken_sizes = np.append(sizes[taken[:-1]], 0.0)
    order = np.argsort(taken_sizes, kind="stable")
    gap = lacking[taker] - lacking[giver]  # a net gift of half of it would be best
    place = np.searchsorted(taken_sizes[order], sizes[given] - gap / 2)
    best = _Exchange(-np.inf, 0, 0, giver, taker)
    for neighbour in (place - 1, place):  # the nearest size below and above
        chosen = order[neighbour.clip(0, len(order) - 1)]
        net = sizes[given] - taken_sizes[chosen]
        gain = 2 * net * (gap - net)
        top = int(gain.argmax())
        if gain[top] > best.gain:
            best = _Exchange(
                float(gain[top]), int(given[top]), int(taken[chosen[top]]), giver, taker
            )
    return best


def _fill_empty_parts(chosen: list[int], units: Sequence[Unit], num_parts: int) -> None:
    """Gives a part without a unit the smallest one of the part that has most."""
    for part in range(num_parts):
        if part not in chosen:
            richest = Counter(chosen).most_common(1)[0][0]
            theirs = [number for number, one in enumerate(chosen) if one == richest]
            chosen[min(theirs, key=lambda number: units[number].size)] = part


def _refuse_places(out: Path, settings: SplitSettings, sets: Sequence[ShardSet]) -> None:
    """Raises if a part would lie in one of the sets, or beside a part of another split."""
    for name in settings.parts:
        refuse_out_in_inputs(out / name, sets)
    if not out.is_dir():
        return
    inputs = {os.path.realpath(one.folder) for one in sets}
    for folder in sorted(out.iterdir()):
        is_other_set = (folder / INDEX_NAME).is_file() and folder.name not in settings.parts
        if is_other_set and os.path.realpath(folder) not in inputs:
            raise ShardError(
                f"{folder} holds a set that is no part of this split, so samples could be in "
                "both; remove it or choose another folder"
            )


def _begin_parts(
    out: Path,
    chosen: Mapping[str, Sequence[OutgoingSample]],
    settings: SplitSettings,
    layout: Layout,
    sets: Sequence[ShardSet],
) -> dict[str, SetInProgress]:
    """Takes the folder of every part, or of none if one is refused."""
    new: dict[str, SetInProgress] = {}
    try:
        for name, outgoing in chosen.items():
            new[name] = _begin_part(out / name, outgoing, settings, layout, sets)
    except BaseException:  # also Ctrl-C; it is raised again
        for one in new.values():
            one.abandon()
        raise
    return new


def _begin_part(
    folder: Path,
    chosen: Sequence[OutgoingSample],
    settings: SplitSettings,
    layout: Layout,
    sets: Sequence[ShardSet],
) -> SetInProgress:
    """Plans one part and takes its folder."""
    specification = sets[0].index.specification
    about = {"verb": "split", "part": folder.name, **asdict(settings)}
    plan = make_copy_plan(chosen, about, layout, specification=specification)
    return SetInProgress(
        folder, chosen, plan, specification=specification, overwrite=layout.overwrite
    )


def _result(
    samples: Sequence[Sample],
    part_of: Mapping[str, str],
    settings: SplitSettings,
    written: Mapping[str, NewSet],
) -> SplitResult:
    total = sum(_size(sample, settings.of) for sample in samples)
    parts, remarks = [], []
    for name, asked in settings.parts.items():
        chosen = [sample for sample in samples if part_of[sample.key] == name]
        share = sum(_size(sample, settings.of) for sample in chosen) / total
        num_groups = len({group_name(sample) for sample in chosen})
        parts.append(SplitPart(name, written[name], num_groups, share, asked))
        if abs(share - asked) > FAR_OFF * asked:
            remarks.append(
                f"{name} has {share:.1%}, not {asked:.1%}: {_largest(samples, settings)}"
            )
    if num_torn := _num_torn_groups(samples, part_of):
        remarks.append(f"{num_torn} group(s) have samples in several parts, as --by key asks")
    return SplitResult(tuple(parts), tuple(remarks))


def _largest(samples: Sequence[Sample], settings: SplitSettings) -> str:
    """Says why shares can be far off."""
    units = units_of(samples, settings)
    largest = max(units, key=lambda unit: (unit.size, unit.name))
    whole = sum(unit.size for unit in units)
    return (
        f"{largest.name} alone has {largest.size / whole:.1%}, and what belongs together stays so"
    )


def _num_torn_groups(samples: Sequence[Sample], part_of: Mapping[str, str]) -> int:
    parts_of_group: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        parts_of_group[group_name(sample)].add(part_of[sample.key])
    return sum(len(parts) > 1 for parts in parts_of_group.values())
