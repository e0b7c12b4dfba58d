import itertools
import shutil

import numpy as np
import pytest

from data_pipelines.frames import VideoMetadata
from data_pipelines.sample_copying import Layout, SetInProgress
from data_pipelines.samples import ACTIONS, STATES, Sample
from data_pipelines.shard_index import ShardIndex
from data_pipelines.shard_reader import ShardReader
from data_pipelines.shards import pack_trajectories
from data_pipelines.splitting import SplitSettings, assign_parts, split_shards
from data_pipelines.tar_headers import ShardError
from data_pipelines.trajectories import Episode

HALVES = {"a": 0.5, "b": 0.5}
MOSTLY = {"train": 0.75, "val": 0.25}


def files_of(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def contents(folder):
    """Every sample of a set: key -> its members' bytes."""
    reader = ShardReader()
    return {
        sample.key: {name: reader.read(sample, name) for name in sample.members}
        for sample in ShardIndex.load(folder).samples
    }


def sample(key, *, group="", label=None, source=None, seconds=1.0):
    metadata = VideoMetadata(10, 10 / seconds, seconds, 8, 8)
    return Sample(key, "x.tar", {}, metadata, label=label, source=source, group=group)


@pytest.fixture(scope="module")
def grouped(specification, index_frames, tmp_path_factory):
    """Twelve episodes in five groups of 4, 3, 2, 2 and 1, in shards of two."""
    out = tmp_path_factory.mktemp("grouped")

    def episodes():
        groups = ["v", "w", "x", "v", "y", "w", "v", "z", "x", "w", "y", "v"]
        for number, group in enumerate(groups):
            rng = np.random.default_rng(number)
            yield Episode(
                index_frames(4),
                rng.normal(number, 1, (4, 2)).astype(np.float32),
                rng.normal(number, 1, (3, 1)).astype(np.float32),
                f"episode{number:02d}",
                10.0,
                group=f"recording {group}",
            )

    pack_trajectories(episodes(), out, specification=specification, samples_per_shard=2)
    return out


@pytest.fixture
def parts(grouped, tmp_path):
    split_shards(grouped, tmp_path / "parts", SplitSettings(MOSTLY))
    return tmp_path / "parts"


def test_no_group_is_in_two_parts_and_every_sample_is_in_one(grouped, parts):
    train, val = (ShardIndex.load(parts / name) for name in MOSTLY)
    groups = [{sample.group for sample in index.samples} for index in (train, val)]
    assert groups[0].isdisjoint(groups[1]) and len(groups[0] | groups[1]) == 5
    keys = [sample.key for index in (train, val) for sample in index.samples]
    assert sorted(keys) == sorted(sample.key for sample in ShardIndex.load(grouped).samples)
    assert (train.num_samples, val.num_samples) == (9, 3)  # groups of 4, 3, 2, 2, 1 allow it


def test_members_are_copied_byte_for_byte_with_their_checksums(grouped, parts):
    together = contents(parts / "train") | contents(parts / "val")
    assert together == contents(grouped)
    before = {s.key: s for s in ShardIndex.load(grouped).samples}
    for name in MOSTLY:
        for after in ShardIndex.load(parts / name).samples:
            crc32s = {name: member.crc32 for name, member in after.members.items()}
            assert crc32s == {n: m.crc32 for n, m in before[after.key].members.items()}
            assert None not in crc32s.values()


def test_a_parts_statistics_are_those_of_its_own_episodes(grouped, parts):
    everything = ShardIndex.load(grouped).statistics
    for name in MOSTLY:
        index, reader = ShardIndex.load(parts / name), ShardReader()
        states = np.concatenate([reader.read_array(s, STATES) for s in index.samples])
        actions = np.concatenate([reader.read_array(s, ACTIONS) for s in index.samples])
        found = index.statistics
        np.testing.assert_allclose(found.state_mean, states.mean(0, dtype=np.float64))
        np.testing.assert_allclose(found.state_std, states.std(0, dtype=np.float64))
        np.testing.assert_allclose(found.action_mean, actions.mean(0, dtype=np.float64))
        np.testing.assert_allclose(found.action_std, actions.std(0, dtype=np.float64))
        assert abs(found.state_mean[0] - everything.state_mean[0]) > 0.01
        assert index.specification == ShardIndex.load(grouped).specification


def test_the_order_of_the_shards_does_not_matter(grouped, parts, tmp_path):
    tars = sorted(grouped.glob("*.tar"), reverse=True)
    split_shards(tars, tmp_path / "reversed", SplitSettings(MOSTLY))
    assert files_of(tmp_path / "reversed") == files_of(parts)


def test_the_seed_decides():
    samples = [sample(f"k{number}") for number in range(40)]
    first, again, other = (
        assign_parts(samples[::step], SplitSettings(HALVES, seed=seed))
        for seed, step in [(0, 1), (0, -1), (1, 1)]
    )
    assert first == again != other


@pytest.mark.parametrize("seed", range(30))
def test_shares_are_as_close_as_the_best_of_all_divisions_or_nearly(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, 9)
    samples = [
        sample(f"{g}-{n}", group=f"g{g}") for g, size in enumerate(sizes) for n in range(size)
    ]
    wanted = 0.7 * sizes.sum()
    best = min(
        abs(sum(chosen) - wanted)
        for count in range(1, 9)
        for chosen in itertools.combinations(sizes.tolist(), count)
    )
    parts = assign_parts(samples, SplitSettings({"train": 0.7, "val": 0.3}, seed=seed))
    found = abs(sum(part == "train" for part in parts.values()) - wanted)
    assert best <= found + 1e-9 and found <= best + 1


def test_three_parts_of_single_samples_have_their_shares_exactly():
    samples = [sample(f"k{number}") for number in range(100)]
    parts = assign_parts(samples, SplitSettings({"train": 0.8, "val": 0.15, "test": 0.05}))
    counts = [list(parts.values()).count(name) for name in ("train", "val", "test")]
    assert counts == [80, 15, 5]


def test_shares_may_be_of_seconds():
    samples = [sample("long", seconds=100.0), *(sample(f"k{n}") for n in range(100))]
    parts = assign_parts(samples, SplitSettings(HALVES, of="seconds"))
    of_long = [key for key, part in parts.items() if part == parts["long"]]
    assert of_long == ["long"]
    with pytest.raises(ValueError, match=r"'k' does not say how long it is; use --of samples"):
        assign_parts([Sample("k", "x.tar", {}), *samples], SplitSettings(HALVES, of="seconds"))


def test_a_part_is_not_made_of_the_shortest_groups_only():
    """Filling by size would give validation the smallest units; the order is random instead."""
    samples = [sample(f"k{n:03d}", seconds=1.0 + n / 100) for n in range(300)]
    parts = assign_parts(samples, SplitSettings({"train": 0.9, "val": 0.1}, of="seconds"))
    seconds = {s.key: s.metadata.duration_seconds for s in samples}
    val = [seconds[key] for key, part in parts.items() if part == "val"]
    assert abs(np.mean(val) - np.mean(list(seconds.values()))) < 0.5


@pytest.mark.parametrize("by", ["source-folder", "label"])
def test_folders_and_labels_stay_together_and_so_do_groups(by):
    samples = [
        sample(f"k{n}", label=f"l{n % 6}", source=f"l{n % 6}/k{n}.mp4", group="g" if n < 2 else "")
        for n in range(24)
    ]
    parts = assign_parts(samples, SplitSettings(HALVES, by=by))
    for label in range(6):
        assert len({parts[f"k{n}"] for n in range(label, 24, 6)}) == 1
    assert parts["k0"] == parts["k1"], "a group joins two labels"
    assert set(parts.values()) == {"a", "b"}


def test_by_key_divides_groups_and_says_so(grouped, tmp_path):
    result = split_shards(grouped, tmp_path, SplitSettings(HALVES, by="key"))
    assert [part.written.index.num_samples for part in result.parts] == [6, 6]
    assert any("have samples in several parts, as --by key asks" in r for r in result.remarks)


@pytest.mark.parametrize(("by", "lack"), [("label", "no label"), ("source-folder", "its source")])
def test_what_cannot_be_told_is_refused(by, lack):
    with pytest.raises(ValueError, match=f"sample 'k'.*{lack}; split by group"):
        assign_parts([sample("k"), sample("m")], SplitSettings(HALVES, by=by))


def test_stratified_parts_have_every_label_in_their_shares():
    samples = [sample(f"{label}{n}", label=label) for label in "abcdef" for n in range(10)]
    settings = SplitSettings({"train": 0.8, "val": 0.2}, stratify=True)
    parts = assign_parts(samples, settings)
    for label in "abcdef":
        assert sum(parts[f"{label}{n}"] == "val" for n in range(10)) == 2
    rare = [sample(f"{label}-{n}", label=str(label)) for label in range(40) for n in range(2)]
    parts = assign_parts(rare, settings)
    assert list(parts.values()).count("val") == 16, "rounding of rare labels must not add up"


def test_a_part_that_would_be_empty_gets_the_smallest_group_and_a_remark(grouped, tmp_path):
    result = split_shards(grouped, tmp_path, SplitSettings({"train": 0.98, "val": 0.02}))
    train, val = result.parts
    assert (val.written.index.num_samples, val.num_groups) == (1, 1)
    assert train.num_groups == 4
    assert result.remarks == (
        "val has 8.3%, not 2.0%: group 'recording v' alone has 33.3%, and what belongs together "
        "stays so",
    )


def test_fewer_groups_than_parts_are_refused():
    samples = [sample(f"k{n}", group="one") for n in range(5)]
    with pytest.raises(ValueError, match=r"2 parts cannot be made of 1 unit.*\(--by key\)"):
        assign_parts(samples, SplitSettings(HALVES))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"parts": {"a": 1.0}}, "at least 2 parts"),
        ({"parts": {"a": 0.5, "b": 0.6}}, "add up to 1, got 1.1"),
        ({"parts": {"a": 1.5, "b": -0.5}}, "share of 'a' must be above 0 and below 1, got 1.5"),
        ({"parts": {"a": 0.5, "../b": 0.5}}, "letters, digits, '_' and '-', got '../b'"),
        ({"parts": HALVES, "by": "label", "stratify": True}, "cannot be stratified too"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        SplitSettings(**settings)


def test_a_split_never_writes_into_its_source_or_beside_an_older_split(grouped, tmp_path):
    shutil.copytree(grouped, tmp_path / "train")
    with pytest.raises(ShardError, match=r"train is, or lies in, the set .*; write to another"):
        split_shards(tmp_path / "train", tmp_path, SplitSettings(MOSTLY))
    split_shards(tmp_path / "train", tmp_path, SplitSettings(HALVES))  # beside it is well
    with pytest.raises(ShardError, match=r"a holds a set that is no part of this split"):
        split_shards(grouped, tmp_path, SplitSettings({"c": 0.5, "d": 0.5}))


def test_another_split_is_replaced_on_demand_only(grouped, parts):
    with pytest.raises(ShardError, match=r"already holds shards: seed was 0 and is 1.*--overwrite"):
        split_shards(grouped, parts, SplitSettings(MOSTLY, seed=1))
    again = split_shards(grouped, parts, SplitSettings(MOSTLY))
    assert all(part.written.was_there for part in again.parts)
    layout = Layout(overwrite=True)
    other = split_shards(grouped, parts, SplitSettings(MOSTLY, seed=1), layout=layout)
    assert not any(part.written.was_there for part in other.parts)


@pytest.mark.parametrize("exists", [False, True])
def test_a_refused_part_leaves_nothing_in_the_parts_before_it(grouped, tmp_path, exists):
    shutil.copytree(grouped, tmp_path / "val")
    if exists:
        (tmp_path / "train").mkdir()
        (tmp_path / "train/mine.txt").write_text("mine")
    before = files_of(tmp_path)
    with pytest.raises(ShardError, match=r"val already holds shards: .*--overwrite"):
        split_shards(grouped, tmp_path, SplitSettings(MOSTLY))
    assert files_of(tmp_path) == before
    assert (tmp_path / "train").exists() == exists
    assert not list(tmp_path.glob("*/.packing"))


def test_what_an_earlier_split_had_begun_survives_a_refusal(grouped, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SetInProgress, "finish", stop)
        split_shards(grouped, tmp_path, SplitSettings(MOSTLY))
    begun = files_of(tmp_path / "train")
    assert "plan.json" in begun and ".packing/shard-000000.tar" in begun
    shutil.rmtree(tmp_path / "val")
    shutil.copytree(grouped, tmp_path / "val")
    with pytest.raises(ShardError, match="val already holds shards"):
        split_shards(grouped, tmp_path, SplitSettings(MOSTLY))
    assert files_of(tmp_path / "train") == begun


def test_a_split_stopped_between_its_parts_goes_on(grouped, parts, tmp_path, monkeypatch):
    out, finish, calls = tmp_path / "out", SetInProgress.finish, itertools.count()

    def finish_one(new, source):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return finish(new, source)

    monkeypatch.setattr(SetInProgress, "finish", finish_one)
    with pytest.raises(KeyboardInterrupt):
        split_shards(grouped, out, SplitSettings(MOSTLY))
    assert [path.name for path in out.glob("*/index.json")] == ["index.json"]
    split_shards(grouped, out, SplitSettings(MOSTLY))
    assert files_of(out) == files_of(parts)


def test_a_damaged_sample_is_left_out_and_named(grouped, tmp_path):
    shutil.copytree(grouped, tmp_path / "in")
    index = ShardIndex.load(tmp_path / "in")
    bad = index.samples[3]
    with open(bad.shard, "r+b") as file:
        file.seek(bad.members["mp4"].offset + 40)
        file.write(b"damage")
    result = split_shards(tmp_path / "in", tmp_path / "out", SplitSettings(MOSTLY))
    (skipped,) = [video for part in result.parts for video in part.written.skipped]
    assert skipped.path == bad.key
    assert skipped.reason.startswith("shard-000001.tar: 'episode03.mp4' is not what was packed")
    assert sum(part.written.index.num_samples for part in result.parts) == 11
