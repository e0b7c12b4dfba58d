"""How far our outputs are from those of the official models, and from those of transformers.

    python benchmarks/official_parity.py

The figure is the largest absolute difference over the largest absolute value, in float32. For the
official models on the inputs and outputs in tests/golden, which the official code wrote; beside it
stands the same figure with one switch set wrong on purpose, so that one can see what a misread
config would do. For transformers on a random model of two layers whose weights are all random;
beside it what is known to differ there.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from torch import Tensor

from jepa.checkpoints.huggingface import read_huggingface
from jepa.checkpoints.native import build_model, describe, load_weights
from jepa.checkpoints.official import read_official
from jepa.checkpoints.official_config import OfficialConfig
from jepa.models import AttentiveProbe, take_tokens
from jepa.objectives import LatentL1, RolloutL1

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
GRID = (2, 3, 3)
# A plausible mistake of each family: key of the config, and the wrong value.
MISTAKES: dict[str, tuple[str, Any]] = {
    "vjepa1": ("positions", "rope_interleaved"),
    "vjepa2": ("positions", "rope_interleaved"),
    "vjepa2_1": ("rope_grid", None),
    "vjepa2_ac": ("positions", "rope_interleaved"),
    "ijepa": ("positions", "rope_interleaved"),
}
Pair = tuple[str, Tensor, Tensor]


def main() -> None:
    about = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=about).parse_args()
    print(f"{'family':<12}{'output':<33}{'difference':>11}{'mistaken':>10}  the mistake")
    for family, (key, wrong) in MISTAKES.items():
        folder = GOLDEN / family
        config = OfficialConfig.read(folder / "config.json")
        model = read_official(folder / "checkpoint.pt", config=config).model
        golden = load_file(folder / "golden.safetensors")
        mistaken = with_mistake(model, key, wrong)
        outputs = zip(
            OUTPUTS[family](model, golden), OUTPUTS[family](mistaken, golden), strict=True
        )
        for (name, found, expected), (_, off, _) in outputs:
            print_row(family, name, (found, expected), (off, expected), f"{key}={wrong}")
    for row in transformers_rows():
        print_row("vjepa2 (hf)", *row)


def print_row(
    family: str, name: str, right: tuple[Tensor, Tensor], wrong: tuple[Tensor, Tensor], what: str
) -> None:
    print(f"{family:<12}{name:<33}{relative(*right):>11.1e}{relative(*wrong):>10.1e}  {what}")


Row = tuple[str, tuple[Tensor, Tensor], tuple[Tensor, Tensor], str]


def transformers_rows() -> Iterator[Row]:
    """A random classifier of transformers, saved by it and read by us."""
    torch.manual_seed(0)
    config = transformers.VJEPA2Config(
        crop_size=64, frames_per_clip=8, hidden_size=96, num_attention_heads=4,
        num_hidden_layers=2, pred_hidden_size=48, pred_num_attention_heads=4,
        pred_num_hidden_layers=2, pred_num_mask_tokens=2, num_labels=7,
    )  # fmt: skip
    theirs = transformers.VJEPA2ForVideoClassification(config).eval()
    for parameter in theirs.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = read_huggingface(folder)
    assert ours.probe is not None and ours.predictor is not None
    video, other = torch.randn(2, 3, 8, 64, 64), torch.randn(2, 3, 8, 96, 96)

    def their_tokens(clip: Tensor) -> Tensor:
        return theirs.vjepa2(clip.transpose(1, 2), skip_predictor=True).last_hidden_state

    tokens, expected = ours.encoder(video), their_tokens(video)
    resized = (ours.encoder(other), their_tokens(other))
    yield "tokens", (tokens, expected), resized, "another resolution: its grid is fixed"
    ids = torch.stack([torch.randperm(64) for _ in range(2)])
    context, targets = ids[:, :40].sort(1).values, ids[:, 40:].sort(1).values
    answer = theirs.vjepa2(video.transpose(1, 2), context_mask=[context], target_mask=[targets])
    asked = {"context_ids": context, "target_ids": targets, "grid": (4, 4, 4)}
    seen = take_tokens(tokens, context)
    predicted = [ours.predictor(seen, **asked, mask_token_index=index) for index in (1, 0)]
    found = answer.predictor_output.last_hidden_state
    yield "predictor", (predicted[0], found), (predicted[1], found), "mask token 0: it asks with 1"
    logits = theirs(video.transpose(1, 2)).logits
    official = AttentiveProbe(**{**ours.probe.config, "norm_eps": 1e-5}).eval()
    official.load_state_dict(ours.probe.state_dict())
    right, wrong = (probe(tokens)["label"] for probe in (ours.probe, official))
    yield "logits", (right, logits), (wrong, logits), "probe with the official epsilon, 1e-5"
    fewer = AttentiveProbe(**{**ours.probe.config, "num_heads": 2}).eval()
    fewer.load_state_dict(ours.probe.state_dict())
    wrong = fewer(tokens)["label"]
    yield (
        "logits",
        (right, logits),
        (wrong, logits),
        "probe with 2 heads for 4, as ViT-g has 16 for 22",
    )


def with_mistake(model: Any, key: str, wrong: Any) -> Any:
    """The same weights under another config."""
    config = describe(model)
    parts = [part for part in ("encoder", "predictor", "world_model") if part in config]
    for part in (config[name] for name in parts):
        if key in part:
            part[key] = wrong
    other = build_model(config)
    state = {name: value for name, value in model.state_dict().items() if "table" not in name}
    load_weights(other, state, source="the same weights")
    return other.eval()


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def encoder_outputs(model: Any, golden: dict[str, Tensor]) -> Iterator[Pair]:
    encoder, video = model.encoder, golden["video"]
    yield "tokens", encoder(video), golden["encoder_full"]
    if "encoder_masked" in golden:
        masked = encoder(video, token_ids=golden["context_ids"])
        yield "tokens of a masked video", masked, golden["encoder_masked"]
    if "video_other_resolution" in golden:
        tokens = encoder(golden["video_other_resolution"])
        yield "tokens, not square", tokens, golden["encoder_other_resolution"]


def masked_outputs(model: Any, golden: dict[str, Tensor]) -> Iterator[Pair]:
    yield from encoder_outputs(model, golden)
    if "encoder_layer_0" in golden:
        for index, layer in enumerate(model.encoder.layers(golden["video"], [0, 1])):
            yield f"layer {index}", layer, golden[f"encoder_layer_{index}"]
    ids = {"context_ids": golden["context_ids"], "target_ids": golden["target_ids"]}
    predictions = [
        model.predictor(golden["encoder_masked"], **ids, grid=GRID, mask_token_index=index)
        for index in (0, 1)
    ]
    for index, predicted in enumerate(predictions):
        yield f"predictor, mask token {index}", predicted, golden[f"predictor_mask_index_{index}"]
    target = take_tokens(model.encoder(golden["video"]), golden["target_ids"])
    context = model.encoder(golden["video"], token_ids=golden["context_ids"])
    loss = LatentL1()(model.predictor(context, **ids, grid=GRID, mask_token_index=0), target).total
    yield "pretraining loss", loss[None], golden["pretrain_loss_mask_index_0"]


def level_outputs(model: Any, golden: dict[str, Tensor]) -> Iterator[Pair]:
    yield from encoder_outputs(model, golden)
    yield "tokens of an image", model.encoder(golden["image"]), golden["encoder_image"]
    yield "levels", model.encoder.levels(golden["video"]), golden["encoder_levels"]
    ids = {"context_ids": golden["context_ids"], "target_ids": golden["target_ids"]}
    levels = model.encoder.levels(golden["video"], token_ids=golden["context_ids"])
    yield "levels of a masked video", levels, golden["encoder_masked_levels"]
    both = model.predictor.predict_all(golden["encoder_masked_levels"], **ids, grid=GRID)
    for name, found in zip(("targets", "context"), both, strict=True):
        yield f"predictor, {name}", found, golden[f"predictor_{name}"]


def image_outputs(model: Any, golden: dict[str, Tensor]) -> Iterator[Pair]:
    image = golden["image"].unsqueeze(2)
    yield "tokens", model.encoder(image), golden["encoder_full"]
    masked = model.encoder(image, token_ids=golden["context_ids"])
    yield "tokens of a masked image", masked, golden["encoder_masked"]
    ids = {"context_ids": golden["context_ids"], "target_ids": golden["target_ids"]}
    predicted = model.predictor(golden["encoder_masked"], **ids, grid=(1, 3, 3))
    yield "predictor", predicted, golden["predictor"]


def arm_outputs(model: Any, golden: dict[str, Tensor]) -> Iterator[Pair]:
    latents = model.latents(model.encoder.encode_frames(golden["frames"].transpose(1, 2)))
    yield "features of frames", latents.flatten(1, 2), golden["features"]
    windows = [golden["features"].unflatten(1, (4, 9)), golden["states"], golden["actions"]]
    for count in (1, 2, 4):
        predicted = model(*(part[:, :count] for part in windows)).tokens.flatten(1, 2)
        expected = normed(golden[f"predictor_{count}_frames"])
        yield f"predictor, {count} frames, normed", predicted, expected
    camera = golden["extrinsics"][:, :2]
    predicted = model.dynamics(*(part[:, :2] for part in windows), extrinsics=camera).tokens
    expected = normed(golden["predictor_extrinsics_2_frames"])
    yield "predictor, extrinsics, normed", predicted.flatten(1, 2), expected
    features, states, actions = windows
    forced = model(features[:, :-1], states[:, :-1], actions[:, :-1]).tokens
    loss = RolloutL1()(forced, features[:, 1:]).total
    yield "teacher-forcing loss", loss[None], golden["teacher_forcing_loss"]
    fed_back = torch.stack((features[:, 0], forced[:, 0]), dim=1)
    second = model(fed_back, states[:, :2], actions[:, :2]).tokens[:, 1]
    loss = RolloutL1()(torch.stack((forced[:, 0], second), dim=1), features[:, 1:3]).total
    yield "rollout loss", loss[None], golden["rollout_loss_2_steps"]
    count = len(golden["candidates"])
    start, pose = features[:1, 0].expand(count, -1, -1), golden["pose"].expand(count, -1)
    imagined = model.rollout(start, pose, golden["candidates"])
    yield "rollout", imagined.tokens[:, -1], golden["rollout_final"]
    poses = torch.cat((pose[:, None], imagined.state), dim=1)
    yield "rollout, poses", poses, golden["rollout_poses"]
    energies = model.latents.distance(imagined.tokens[:, -1], features[0, 3])
    yield "energies of candidates", energies, golden["energies"]


def normed(tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:])


OUTPUTS = {
    "vjepa1": masked_outputs,
    "vjepa2": masked_outputs,
    "vjepa2_1": level_outputs,
    "vjepa2_ac": arm_outputs,
    "ijepa": image_outputs,
}


if __name__ == "__main__":
    with torch.inference_mode():
        main()
