"""Merging: several sets of shards become one."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_pipelines.pack_plan import PackPlan
from data_pipelines.sample_copying import (
    Layout,
    NewSet,
    OutgoingSample,
    SetInProgress,
    ShardSet,
    explain_bad_key,
    load_sets,
    make_copy_plan,
    places_of,
    refuse_out_in_inputs,
    refuse_repeated_keys,
    unchanged,
)
from data_pipelines.samples import shard_to_json
from data_pipelines.shard_index import Shards
from data_pipelines.shard_writing import key_of_path, replace_durably, write_whole
from data_pipelines.tar_headers import ShardError
from data_pipelines.urls import is_url, shown


def merge_shards(
    shards: Shards,
    out: str | Path,
    *,
    prefix_keys: bool = False,
    copy_shards: bool = False,
    layout: Layout | None = None,
) -> NewSet:
    """Writes the samples of several sets, in their order, as one set of even shards.

    Members are copied byte for byte; only with `prefix_keys` is the group in a sample's JSON
    another. Statistics of trajectories are computed anew, lists of skipped videos are joined.

    Args:
        shards: as for `ShardIndex.load`.
        out: where the shards and `index.json` go.
        prefix_keys: put the name of a set's folder before its keys and groups, so that neither
            meet those of another set.
        copy_shards: take whole tars under new names, linked where the disk allows it. This is
            quick, for nothing is read or checked; shards stay as large as they are.
        layout: how large shards are.

    Raises:
        FileNotFoundError: if a set is missing.
        ShardError: if a key comes twice, if trajectories do not mean the same, if `out` holds
            other shards or is one of the sets, or if a set cannot be read.
    """
    layout = layout or Layout()
    sets = load_sets(shards)
    refuse_out_in_inputs(out, sets)
    samples = [sample for one in sets for sample in one.index.samples]
    outgoing = _prefixed(sets) if prefix_keys else unchanged(samples)
    refuse_repeated_keys(outgoing, advice="--prefix-keys puts the sets' names before their keys")
    plan = make_copy_plan(
        outgoing,
        {"verb": "merge", "prefix_keys": prefix_keys},
        layout,
        specification=sets[0].index.specification,
    )
    if copy_shards:
        plan = _plan_of_whole_shards(plan, sets, outgoing, prefix_keys=prefix_keys)
    with SetInProgress.of_sets(sets, out, outgoing, plan, overwrite=layout.overwrite) as new:
        if copy_shards:
            _take_whole_shards(new, sets)
        else:
            new.write()
        return new.finish(places_of(sets))


def _plan_of_whole_shards(
    plan: PackPlan,
    sets: Sequence[ShardSet],
    outgoing: Sequence[OutgoingSample],
    *,
    prefix_keys: bool,
) -> PackPlan:
    """Returns the plan with the old division into shards.

    Raises:
        ShardError: if keys are to change, if a key is bad, or if shards are not on this machine.
    """
    if prefix_keys:
        raise ShardError("--prefix-keys changes the shards; leave out --copy-shards")
    for one in outgoing:
        if is_url(one.sample.shard):
            raise ShardError(
                f"{shown(one.sample.shard)} is not on a disk here; leave out --copy-shards"
            )
        if reason := explain_bad_key(one.key, tuple(one.sample.members)):
            raise ShardError(f"'{one.key}': {reason}; leave out --copy-shards to skip it")
    for damaged in (video for one in sets for video in one.index.damaged):
        raise ShardError(f"'{damaged.path}': {damaged.reason}; leave out --copy-shards to skip it")
    video_of = {video.key: video for video in plan.videos}
    shards = tuple(
        tuple(video_of[sample.key] for sample in shard.samples)
        for one in sets
        for shard in one.index.shards
    )
    layout = {"samples_per_shard": None, "max_shard_bytes": None, "copy_shards": True}
    return PackPlan({**plan.settings, **layout}, shards)


def _take_whole_shards(new: SetInProgress, sets: Sequence[ShardSet]) -> None:
    """Puts the old tars where new ones would wait, with their records."""
    shards = [shard for one in sets for shard in one.index.shards]
    for job in new.missing_jobs():
        shard = shards[job.number]
        unfinished = job.shard.with_suffix(".tmp")
        try:
            os.link(os.path.realpath(shard.path), unfinished)
        except OSError:  # another disk, or one without links
            shutil.copyfile(shard.path, unfinished)
        replace_durably(unfinished, job.shard)
        record = {"shard": shard_to_json(replace(shard, path=str(job.shard))), "skipped": []}
        write_whole(
            job.record,
            json.dumps(record).encode(),
            unfinished=job.record.with_suffix(".tmp-json"),
        )


def _prefixed(sets: Sequence[ShardSet]) -> list[OutgoingSample]:
    """Puts the names of the sets before keys and groups.

    Raises:
        ShardError: if two sets have the same name.
    """
    name, times = Counter(one.name for one in sets).most_common(1)[0]
    if times > 1:
        raise ShardError(
            f"{times} sets are named '{name}', so the name cannot tell them apart; rename a folder"
        )
    outgoing: list[OutgoingSample] = []
    taken: set[str] = set()
    for one in sets:
        for sample in one.index.samples:
            key = key_of_path(f"{one.name}/{sample.key}.mp4", taken=taken)
            taken.add(key)
            group = f"{one.name}/{sample.group}" if sample.group else ""
            outgoing.append(OutgoingSample(sample, key, group))
    return outgoing
