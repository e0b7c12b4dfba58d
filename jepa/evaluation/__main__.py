"""`jepa probe`: how much a frozen encoder knows, beside the same encoder untrained.

    jepa probe --encoder runs/demo/pretrain --shards shards --test-shards held_out

Trajectory shards are probed for the state (R2), video shards with labels for the label (top-1).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

DATAMODULES = "data_pipelines.datamodules"  # by name: `jepa` does not import the pipelines


def main(argv: list[str] | None = None) -> int:
    """Runs the probe; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="jepa probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", type=Path, required=True, help="a run or encoder folder")
    parser.add_argument("--shards", required=True, help="shards to fit the probe on")
    parser.add_argument("--test-shards", required=True, help="other shards to score it on")
    parser.add_argument("--rows", type=int, default=3000, help="frames or clips to fit on")
    parser.add_argument("--test-rows", type=int, default=1000, help="frames or clips to score on")
    parser.add_argument("--seed", type=int, default=0, help="of the untrained encoder's weights")
    parser.add_argument("--out", type=Path, help="write the scores to this JSON file")
    arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
    scores = probe_against_untrained(
        arguments.encoder,
        arguments.shards,
        arguments.test_shards,
        num_rows=arguments.rows,
        num_test_rows=arguments.test_rows,
        seed=arguments.seed,
    )
    print(score_table(scores))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(scores, indent=1))
    return 0


def probe_against_untrained(
    encoder: str | Path,
    shards: str,
    test_shards: str,
    *,
    num_rows: int = 3000,
    num_test_rows: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Probes an encoder and its untrained twin on the same rows.

    Args:
        encoder: folder of the trained encoder, or of the run that made it.
        shards: to fit the probes on.
        test_shards: to score them on.
        num_rows: frames or clips to fit on.
        num_test_rows: frames or clips to score on.
        seed: of the untrained weights.

    Returns:
        {"trained": {...}, "untrained": {...}} with the fields of `ProbeScore`.
    """
    from jepa.checkpoints.native import load_encoder, untrained_encoder
    from jepa.evaluation.probes import linear_probe

    models = {"trained": load_encoder(encoder), "untrained": untrained_encoder(encoder, seed=seed)}
    return {
        name: linear_probe(
            _features(model, shards, num_rows), _features(model, test_shards, num_test_rows)
        )._asdict()
        for name, model in models.items()
    }


def score_table(scores: dict[str, dict[str, Any]]) -> str:
    """Returns a table for the terminal."""
    metric, chance = scores["trained"]["metric"], scores["trained"]["chance"]
    lines = [f"{metric:<12}{'mean token':>12}{'all tokens':>12}"]
    for name, row in scores.items():
        lines.append(f"{name:<12}{row['pooled']:>12.3f}{row['all_tokens']:>12.3f}")
    lines.append(f"{'chance':<12}{chance:>12.3f}{chance:>12.3f}")
    return "\n".join(lines)


def _features(encoder: Any, shards: str, num_rows: int) -> Any:  # noqa: ANN401
    """Encodes rows of one set of shards, whatever these hold."""
    from jepa.evaluation.probes import clip_features, frame_features

    modules = importlib.import_module(DATAMODULES)
    image_size = encoder.grid[1] * encoder.tubelet[1]
    clip_length = encoder.grid[0] * encoder.tubelet[0]
    index = importlib.import_module("data_pipelines.shard_index").ShardIndex.load(shards)
    batch = min(16, index.num_samples)
    if index.specification is not None:
        data = modules.TrajectoryDataModule(
            shards, clip_length, image_size=image_size, batch_size=batch, steps_per_epoch=num_rows
        )
        return frame_features(encoder, iter(data.train_dataloader()), num_rows)
    labels = {sample.key: sample.label for sample in index.samples}
    if not all(labels.values()):
        raise ValueError(
            f"{shards} holds neither states nor labels; pack videos from one folder per class"
        )
    data = modules.ClipDataModule(
        shards,
        clip_length,
        image_size=image_size,
        batch_size=batch,
        crop_scale=(1.0, 1.0),
        crop_aspect_ratio=(1.0, 1.0),
        horizontal_flip=False,
        steps_per_epoch=num_rows,
    )
    return clip_features(encoder, iter(data.train_dataloader()), num_rows, labels=labels)


if __name__ == "__main__":
    sys.exit(main())
