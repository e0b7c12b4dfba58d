"""A run goes on from all of its state, from any checkpoint, in every recipe; or it does not go on.

What a process that was killed leaves is its last checkpoint: here each of them is gone on from.
"""

import copy
import logging
import multiprocessing
import os
import signal
import time

import lightning.pytorch as L
import pytest
import torch

from data_pipelines.datamodules import ClipDataModule
from data_pipelines.shards import pack_trajectories, pack_videos
from data_pipelines.synthetic import (
    MOVING_SHAPE_SPECIFICATION,
    moving_shape_episodes,
    write_moving_shapes,
)
from jepa.checkpoint_saving import AtomicCheckpointIO
from jepa.training.state_list import entries
from tests.reliability.resumed_fits import (
    ALL_RECIPES,
    NUM_STEPS,
    STEPS_PER_EPOCH,
    SavesAtStart,
    differing,
    fitted,
)

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
LAST = f"step={NUM_STEPS}.ckpt"
# Lightning takes for granted that a checkpoint is made in a step.
AXIS_OF_LOGGERS = "loops.fit_loop.epoch_loop.state_dict._batches_that_stepped"


@pytest.fixture(autouse=True)
def silent_and_on_one_thread(monkeypatch):
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Eight videos, and eight trajectories."""
    folder = tmp_path_factory.mktemp("resumed")
    write_moving_shapes(folder / "videos", num_videos=8, num_frames=12, size=32)
    pack_videos(folder / "videos", folder / "clips")
    episodes = moving_shape_episodes(num_episodes=8, num_frames=12, size=32)
    pack_trajectories(episodes, folder / "moves", specification=MOVING_SHAPE_SPECIFICATION)
    return str(folder / "clips"), str(folder / "moves")


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """Returns the folder and the steps of a recipe's uninterrupted run; each is run once."""
    found = {}

    def run(recipe):
        if recipe not in found:
            folder = tmp_path_factory.mktemp(f"whole-{recipe}")
            steps = fitted(recipe, shards, folder, SavesAtStart(folder / "step=0.ckpt"))
            found[recipe] = folder, steps
        return found[recipe]

    return run


@pytest.mark.parametrize(
    ("recipe", "step"),
    [
        ("latent_l1", 0),
        ("latent_l1", STEPS_PER_EPOCH),
        ("joint_with_dropout", 2),
        *(
            pytest.param(recipe, step, marks=LONG)
            for recipe in ALL_RECIPES
            for step in range(NUM_STEPS)
        ),
    ],
)
def test_a_run_resumed_at_any_step_is_the_one_that_was_not_interrupted(
    recipe, step, whole, shards, tmp_path
):
    """Losses, samples, weights, target, moments and counts, bit for bit.

    Seen to fail with dropout on torch's global generator: another loss in every step that followed;
    and with the target updated in on_train_batch_end, after the checkpoint: the same.
    """
    folder, expected = whole(recipe)
    torch.manual_seed(step)  # another process has drawn other numbers before
    found = fitted(recipe, shards, tmp_path, ckpt_path=folder / f"step={step}.ckpt")
    assert found == {k: v for k, v in expected.items() if k >= step}
    differs = differing(folder / LAST, tmp_path / LAST)
    assert [name for name in differs if step > 0 or name != AXIS_OF_LOGGERS] == []


def test_a_run_resumed_twice_without_a_step_between_is_the_same_too(whole, shards, tmp_path):
    folder, expected = whole("latent_l1")
    step = STEPS_PER_EPOCH + 1
    first = folder / f"step={step}.ckpt"
    again = tmp_path / "again.ckpt"
    fitted("latent_l1", shards, tmp_path / "1", SavesAtStart(again), ckpt_path=first)
    found = fitted("latent_l1", shards, tmp_path / "2", ckpt_path=again)
    assert found == {k: v for k, v in expected.items() if k >= step}
    assert differing(folder / LAST, tmp_path / "2" / LAST) == []


@pytest.mark.parametrize("second", [STEPS_PER_EPOCH + 1, 2 * STEPS_PER_EPOCH])
def test_a_run_of_so_many_epochs_resumed_at_the_end_of_one_and_in_the_next_has_no_more(
    second, shards, tmp_path
):
    """Seen to fail without count_this_epoch: after its 9 steps it took one or three more."""
    folders = [tmp_path / name for name in ("whole", "first", "second")]
    options, checkpoint = {"max_epochs": 3}, None
    runs = []
    for folder, step in zip(folders, (STEPS_PER_EPOCH, second, None), strict=True):
        runs.append(fitted("latent_l1", shards, folder, ckpt_path=checkpoint, **options))
        checkpoint = folder / f"step={step}.ckpt"
    whole, first, again = runs
    assert len(whole) == 3 * STEPS_PER_EPOCH
    assert {**whole, **first} == whole and {**whole, **again} == whole
    last = f"step={len(whole)}.ckpt"
    assert [differing(folders[0] / last, folder / last) for folder in folders[1:]] == [[], []]


def shortened(checkpoint, way):
    """Returns a checkpoint without the entry at a way through its dictionaries and lists."""
    cut = holder = copy.deepcopy(checkpoint)
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = max((k for k in keys if f"{way}.".startswith(f"{k}.")), key=lambda k: len(str(k)))
        if way == str(key):
            del holder[key]
            return cut
        if isinstance(holder[key], tuple):
            holder[key] = list(holder[key])
        holder, way = holder[key], way.removeprefix(f"{key}.")


@pytest.mark.parametrize("is_all", [False, pytest.param(True, marks=LONG)])
def test_a_checkpoint_that_lacks_an_entry_is_refused_by_its_name(is_all, whole):
    """Of the model's own parts, moments, loops, counts: each in turn; the short form a few.

    Seen to fail without the list: of 60 entries drawn from 442, 14 could be missing (counts of the
    loops, settings of the optimizer) and the run went on, without a word.
    """
    folder, _ = whole("latent_l1")
    checkpoint = torch.load(folder / LAST, weights_only=True)
    ways = sorted(entries(checkpoint))
    assert len(ways) > 200
    model = ALL_RECIPES["latent_l1"]()
    model.refuse_to_resume(checkpoint)
    for way in ways if is_all else ways[:: len(ways) // 10]:
        # What describes the model is compared with the config first.
        with pytest.raises(ValueError, match=r"the checkpoint (lacks|has) ") as refusal:
            model.refuse_to_resume(shortened(checkpoint, way))
        assert way.removeprefix("architecture.").rpartition(".")[0] in str(refusal.value)


@pytest.mark.parametrize("part", ["optimizer_states", "loss_watch", "target_encoder", "new"])
def test_a_checkpoint_with_a_part_of_its_state_does_not_train(part, whole, shards, tmp_path):
    """Seen to fail without the list: tracebacks of Lightning; with a part too many it trained."""
    folder, _ = whole("latent_l1")
    checkpoint = torch.load(folder / LAST, weights_only=True)
    if part == "new":
        checkpoint["optimizer_states"][0]["state"][999] = {"step": torch.zeros(())}
    elif part == "target_encoder":
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in weights.items() if not k.startswith(part)}
    else:
        del checkpoint[part]
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "cut.ckpt")
    verb = "has, and should not have, " if part == "new" else "lacks "
    with pytest.raises(ValueError, match=rf"the checkpoint {verb}[\w.]*{part}|\.999\."):
        fitted("latent_l1", shards, tmp_path, ckpt_path=tmp_path / "cut.ckpt")


def test_a_checkpoint_that_does_not_say_what_it_holds_is_not_resumed(whole):
    folder, _ = whole("latent_l1")
    checkpoint = torch.load(folder / LAST, weights_only=True)
    del checkpoint["state_list"]
    with pytest.raises(ValueError, match="has no state_list, so it is of an older version"):
        ALL_RECIPES["latent_l1"]().refuse_to_resume(checkpoint)


def test_a_sigterm_to_those_that_read_too_costs_no_batch(shards):
    """Schedulers send it to all processes of a job, and the run needs a batch more to save.

    Seen to fail with readers that end: DataLoader worker exited unexpectedly, exit code 1.
    """
    data = ClipDataModule(shards[0], 4, image_size=32, batch_size=4, num_workers=1)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    next(batches)
    for reader in multiprocessing.active_children():
        os.kill(reader.pid, signal.SIGTERM)
    assert len(list(batches)) == 1


class ClockJumps(L.Callback):
    """The clock of the wall goes a day ahead, and two days back."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.real = monkeypatch, time.time

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        days = (1, -1)[batch_idx % 2]
        self.monkeypatch.setattr(time, "time", lambda: self.real() + days * 86400)


def test_the_clock_of_the_wall_decides_nothing(whole, shards, tmp_path, monkeypatch):
    folder, expected = whole("latent_l1")
    found = fitted("latent_l1", shards, tmp_path, ClockJumps(monkeypatch))
    assert found == expected
    assert differing(folder / LAST, tmp_path / LAST) == []
    assert {path.name for path in tmp_path.glob("*.ckpt")} == {
        f"step={step}.ckpt" for step in range(1, NUM_STEPS + 1)
    }
