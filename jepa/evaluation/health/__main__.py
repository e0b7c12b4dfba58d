"""`jepa health`: is a representation collapsed? Measured beside the same model untrained.

    jepa health runs/demo/pretrain --data runs/demo/held_out --out health.json

Any checkpoint that `jepa.from_pretrained` reads, or the name of a shipped one. World models want
shards of trajectories; encoders take those, or shards of videos. The exit code is 0 whatever is
found, unless --fail-on-collapse is given: then 1 for a collapsed model.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepa.command_line import OneLineParser

DATAMODULES = "data_pipelines.datamodules"  # by name: `jepa` does not import the pipelines
SHARD_INDEX = "data_pipelines.shard_index"
BATCH = 16
LEAST_WINDOW = 8  # frames of a window of trajectories


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and judges; returns the exit code."""
    parser = OneLineParser(prog="jepa health", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("checkpoint", help="folder, file, hub name, or name of a shipped one")
    parser.add_argument("--data", required=True, help="shards of videos or trajectories")
    parser.add_argument("--clips", type=int, default=64, help="clips or windows to measure on")
    parser.add_argument("--online", help="checkpoint of the online encoder that this one followed")
    parser.add_argument("--seed", type=int, default=0, help="of the twin, masks and views")
    parser.add_argument("--device", default="cpu", help="where to run, such as cuda")
    parser.add_argument("--out", type=Path, help="write everything to this JSON file")
    parser.add_argument(
        "--fail-on-collapse", action="store_true", help="exit with 1 if the model has collapsed"
    )
    arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
    summary = health_of(
        arguments.checkpoint,
        arguments.data,
        num_clips=arguments.clips,
        online=arguments.online,
        seed=arguments.seed,
        device=arguments.device,
    )
    from jepa.evaluation.health.summary import health_table

    print(health_table(summary))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return int(arguments.fail_on_collapse and summary["verdict"] == "collapsed")


def health_of(
    checkpoint: str,
    data: str,
    *,
    num_clips: int = 64,
    online: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Reads a checkpoint and its data, and returns `health_summary`.

    Args:
        checkpoint: anything that `jepa.checkpoints.pretrained.from_pretrained` reads, or the name
            of a shipped checkpoint.
        data: shards.
        num_clips: clips or windows to measure on, at least 2.
        online: checkpoint of the online encoder, of the same architecture.
        seed: of everything that is drawn.
        device: where to run.

    Raises:
        FileNotFoundError: if there is no such checkpoint or data.
        ValueError: if they do not fit one another.
    """
    from jepa.checkpoints.pretrained import from_pretrained
    from jepa.checkpoints.shipped import resolve_checkpoint
    from jepa.evaluation.health.summary import health_summary

    if num_clips < 2:
        raise ValueError(f"health is measured over at least 2 clips, got --clips {num_clips}")
    model = from_pretrained(resolve_checkpoint(checkpoint)).to(device)
    follows = None if online is None else from_pretrained(resolve_checkpoint(online)).encoder
    if follows is not None and follows.config != model.encoder.config:
        raise ValueError(
            f"--online {online} has another architecture than {checkpoint}: a lag is between two "
            "encoders of one"
        )
    batches = read_batches(model, data, num_clips=num_clips, seed=seed)
    online_encoder: Any = follows
    follows = None if follows is None else online_encoder.to(device)
    return health_summary(model, batches, online=follows, seed=seed)


def read_batches(model: Any, data: str, *, num_clips: int, seed: int = 0) -> Sequence[Any]:  # noqa: ANN401
    """Returns batches of clips or of windows, whatever the shards hold, that fit a model.

    Args:
        model: as `jepa.from_pretrained` returns it.
        data: shards; whole frames are taken, without augmentation.
        num_clips: how many at least; in whole batches.
        seed: of the moments.
    """
    modules = importlib.import_module(DATAMODULES)
    index = importlib.import_module(SHARD_INDEX).ShardIndex.load(data)
    grid, tubelet = model.encoder.grid, model.encoder.tubelet
    batch = min(BATCH, index.num_samples, num_clips)
    steps = -(-num_clips // batch)
    options = {"image_size": grid[1] * tubelet[1], "batch_size": batch, "steps_per_epoch": steps}
    if index.specification is not None:
        from jepa.evaluation.health.planning_signal import HORIZON

        length = grid[0] * tubelet[0]
        if model.dynamics is not None:
            length = max(LEAST_WINDOW, model.context_frames + HORIZON)
        loader = modules.TrajectoryDataModule(data, length, seed=seed, **options)
    else:
        loader = modules.ClipDataModule(
            data,
            grid[0] * tubelet[0],
            crop_scale=(1.0, 1.0),
            crop_aspect_ratio=(1.0, 1.0),
            horizontal_flip=False,
            seed=seed,
            **options,
        )
    return list(itertools.islice(loader.train_dataloader(), steps))


if __name__ == "__main__":
    sys.exit(main())
