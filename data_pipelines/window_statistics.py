"""Statistics of windowed actions, computed once and kept beside the data.

`statistics-<hash>.json` in the folder of the (first) shards; the hash is of the data and of the
windows, so another windowing or another packing has another file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_pipelines.action_windows import ActionWindows, StatisticsOfWindows
from data_pipelines.samples import ACTIONS, STATES
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shard_writing import statistics_name, write_whole
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import ColumnStatistics

STATISTICS_FORMAT = "window-statistics"
STATISTICS_VERSION = 1

logger = logging.getLogger(__name__)


def statistics_of_windows(index: ShardIndex, windows: ActionWindows) -> ColumnStatistics:
    """Returns mean, spread and extremes of states and actions as a model sees them.

    Derived from the index where that is enough; else from the file beside the data; else in one
    pass over the states and actions (no video is decoded), which then writes that file. Where it
    cannot be written, a line of the log says so.

    Trajectories that cannot be read are left out and logged, as training skips them; such
    statistics are not kept.

    Raises:
        ShardError: if the index has no statistics, or no sample can be read.
        ValueError: if actions must be equal and are not.
    """
    if index.statistics is None:
        raise ShardError(f"{_folder(index)} holds no trajectories: no statistics")
    derived = windows.derived_statistics(index.statistics)
    if derived is not None:
        return derived
    about = _about(index, windows)
    path = statistics_path(index, windows)
    if path is None:
        logger.info("statistics of windows are not kept: shards are remote or lack checksums")
        return _computed(index, windows)[0]
    known = _read(path, about)
    if known is not None:
        return known
    statistics, num_left_out = _computed(index, windows)
    if not num_left_out:
        _write(path, about, statistics)
    return statistics


def statistics_path(index: ShardIndex, windows: ActionWindows) -> Path | None:
    """Returns where the statistics of these windows are kept.

    None if they are not kept: where nothing proves that the data are the same (an index that was
    built from headers has no checksums), or where there is no folder to write to (remote shards).
    """
    has_checksums = all(
        sample.members[name].crc32 is not None
        for sample in index.samples
        for name in (STATES, ACTIONS)
    )
    if not has_checksums or not _folder(index).is_dir():
        return None
    digest = hashlib.sha256(json.dumps(_about(index, windows), sort_keys=True).encode())
    return _folder(index) / statistics_name(digest.hexdigest()[:16])


def _folder(index: ShardIndex) -> Path:
    return Path(index.shards[0].path).parent


def _about(index: ShardIndex, windows: ActionWindows) -> dict[str, Any]:
    """Returns what the statistics depend on, as plain values."""
    digest = hashlib.sha256(index.fingerprint.encode())
    for sample in index.samples:
        digest.update(f"{[sample.members[name].crc32 for name in (STATES, ACTIONS)]}".encode())
    asked = {key: value for key, value in asdict(windows).items() if key != "recorded"}
    recorded = windows.recorded.to_json()
    return {"data": digest.hexdigest(), "windows": asked, "recorded": recorded}


def _computed(index: ShardIndex, windows: ActionWindows) -> tuple[ColumnStatistics, int]:
    """Returns the statistics, and how many trajectories could not be read and are left out."""
    statistics, left_out, reader = StatisticsOfWindows(windows), [], ShardReader()
    for sample in index.samples:
        try:
            states, actions = (reader.read_array(sample, name) for name in (STATES, ACTIONS))
        except ShardError as error:
            left_out.append(error)
            continue
        statistics.add(states, actions, key=sample.key)
    reader.close()
    if len(left_out) == index.num_samples:
        raise left_out[0]
    if left_out:
        counts = f"{len(left_out)} of {index.num_samples}"
        logger.warning("statistics leave out %s trajectories; the first: %s", counts, left_out[0])
    return statistics.result(), len(left_out)


def _read(path: Path, about: dict[str, Any]) -> ColumnStatistics | None:
    """Returns the statistics in a file; None if there is none, or if it is not to be trusted."""
    try:
        values = json.loads(path.read_bytes())
        head = {"format": STATISTICS_FORMAT, "version": STATISTICS_VERSION, **about}
        if {key: values[key] for key in head} != json.loads(json.dumps(head)):
            raise ValueError("it is of other data, other windows or another version")
        return ColumnStatistics.from_json(values["statistics"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s is computed again: %s: %s", path, type(error).__name__, error)
        return None


def _write(path: Path, about: dict[str, Any], statistics: ColumnStatistics) -> None:
    head = {"format": STATISTICS_FORMAT, "version": STATISTICS_VERSION, **about}
    data = json.dumps({**head, "statistics": statistics.to_json()}, indent=1).encode()
    # Several ranks, also of several machines, may write the same file at the same time.
    unfinished = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex}")
    try:
        write_whole(path, data, unfinished=unfinished)
    except OSError as error:
        logger.warning("statistics of windows are not kept for the next run: %s", error)
        unfinished.unlink(missing_ok=True)
