"""The attentive probe of V-JEPA 2 (arXiv:2506.09985, Sec. 5): what do all tokens know together?

Twenty heads are trained at once on frozen features. The released code reports the best of them on
the data that chose it; here a validation split chooses and a test split is reported. The other
number is `ProbeResult.validation_score` when the released code's validation set is the validation
split, and is named so wherever it is shown.

The tokens of all clips and layers of a sample are attended jointly; probabilities are averaged over
spatial views. Deviations from the released code: heads start from the same weights, so that only
learning rate and weight decay tell them apart; float32 instead of float16.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from jepa.checkpoints.folder_writing import CONFIG, WEIGHTS, finish_writing, write_folder
from jepa.checkpoints.manifest import refuse_damage
from jepa.checkpoints.native import read_config
from jepa.evaluation.feature_store import FeatureSet
from jepa.evaluation.head_training import Sweep, swept_probe
from jepa.evaluation.probe_result import ProbeResult, Splits
from jepa.models.pooler import AttentiveProbe

HEADS = 16  # of every released probe
LEAST_HEAD_DIM = 16  # narrower heads attend to next to nothing; a small encoder gets fewer
LABEL = "label"


class Classifier(nn.Module):
    """An `AttentiveProbe` with one head, whose logits it returns.

    Args:
        dim: width of the tokens.
        num_outputs: classes, or numbers.
        depth: see `AttentiveProbe`, as the rest.
        num_heads: see `AttentiveProbe`; None: `default_heads`.
        mlp_ratio: see `AttentiveProbe`.
    """

    def __init__(
        self,
        dim: int,
        num_outputs: int,
        *,
        depth: int = 4,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        num_heads = default_heads(dim) if num_heads is None else num_heads
        self.probe = AttentiveProbe(
            dim=dim,
            num_classes={LABEL: num_outputs},
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (batch, outputs) of tokens (batch, tokens, dim)."""
        return self.probe(tokens)[LABEL]


def default_heads(dim: int) -> int:
    """Returns the most heads, up to 16, that divide dim into 16 or more each; at least 1."""
    return next(
        (
            count
            for count in range(HEADS, 1, -1)
            if not dim % count and dim // count >= LEAST_HEAD_DIM
        ),
        1,
    )


def attentive_probe(
    splits: Splits,
    *,
    sweep: Sweep | None = None,
    depth: int = 4,
    num_heads: int | None = None,
    mlp_ratio: float = 4.0,
) -> ProbeResult:
    """Trains attentive probes, chooses one on validation, and lets it answer for the test split.

    Args:
        splits: features of all tokens.
        sweep: which heads and how long; None: the 20 of V-JEPA 2 for 20 epochs.
        depth: blocks, the cross-attention included.
        num_heads: attention heads; None: `default_heads`.
        mlp_ratio: hidden width of the MLPs over dim.

    Returns:
        The result; its `probe` is the chosen `Classifier`.

    Raises:
        ValueError: if splits or settings do not fit one another.
    """
    train = splits.train
    num_outputs = train.labels.shape[1] if train.classes is None else len(train.classes)

    def make() -> Classifier:
        return Classifier(
            train.features.shape[-1],
            num_outputs,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
        )

    return swept_probe(make, splits, sweep or Sweep())


def save_probe(probe: Classifier, folder: str | Path, *, train: FeatureSet, encoder: str) -> Path:
    """Writes a chosen probe: config.json and model.safetensors; returns the folder.

    Args:
        probe: to write.
        folder: made if need be.
        train: what it was trained on: classes, or the mean and spread of the numbers, are written.
        encoder: what made the features, said by its name or fingerprint.
    """
    config: dict[str, Any] = {"probe": probe.probe.config, "encoder": encoder}
    if train.classes is not None:
        config["classes"] = list(train.classes)
    else:
        config["targets"] = list(train.targets)
        config["mean"], config["std"] = train.labels.mean(0).tolist(), train.labels.std(0).tolist()
    texts = {CONFIG: json.dumps(config, indent=1) + "\n"}
    write_folder(Path(folder), probe.probe.state_dict(), texts)
    return Path(folder)


def load_probe(folder: str | Path) -> tuple[Classifier, dict[str, Any]]:
    """Reads a probe and its config; runs nothing in it.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the files do not fit together.
    """
    folder = Path(folder)
    finish_writing(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"no probe at {folder}: it has no {CONFIG}")
    try:
        config = read_config(folder)
        refuse_damage(folder / WEIGHTS)
        settings = dict(config["probe"])
        num_classes = settings.pop("num_classes")[LABEL]
        settings.pop("norm_eps", None)
        probe = Classifier(settings.pop("dim"), num_classes, **settings)
        probe.probe.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no probe of this version: {error}") from error
    return probe.eval(), config
