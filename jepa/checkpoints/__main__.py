"""`jepa convert`: official checkpoints, Hugging Face folders and timm weights, in and out.

    jepa convert vitl.pt vitl                        # official -> ours, family and sizes found out
    jepa convert vitl vitl_hf --to huggingface       # a folder that transformers loads
    jepa convert facebook/vjepa2-vitl-fpc64-256 vitl # from the hub, or from a folder of it
    jepa convert timm:vit_huge_patch14_gap_224.in1k_ijepa ijepa
    jepa convert vitl back.pt --to official

What cannot be read off a file (the number of heads of a size that was never released) comes from
--config config.json: num_heads, predictor_num_heads, img_size, num_frames, levels, mask_index.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jepa.command_line import OneLineParser

if TYPE_CHECKING:
    from jepa.checkpoints.native import AnyModel

SOURCES = ("official", "huggingface", "timm", "jepa")
TARGETS = ("jepa", "huggingface", "official")
TIMM = "timm:"


def main(argv: list[str] | None = None) -> int:
    """Converts; returns the exit code."""
    arguments = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    _refuse_full_output(arguments.out, overwrite=arguments.overwrite, target=arguments.to)
    source = arguments.source_kind or _kind_of(arguments.source)
    _refuse_options_without_use(arguments, source)
    model, report = _read(source, arguments)
    if arguments.probe is not None:
        report += _add_probe(model, arguments)
    if arguments.mask_token is not None:
        report += _choose_mask_token(model, arguments.mask_token)
    report += _write(model, arguments.out, arguments.to)
    for line in report:
        print(line)
    print(f"wrote: {arguments.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    from jepa.checkpoints.official import Family

    parser = OneLineParser(
        prog="jepa convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="a .pt file, a folder, a name on the hub, or timm:NAME")
    parser.add_argument("out", type=Path, help="the folder to write; a file with --to official")
    parser.add_argument(
        "--from",
        dest="source_kind",
        choices=SOURCES,
        help="what SOURCE is; default: found out from what is there",
    )
    parser.add_argument("--to", choices=TARGETS, default="jepa", help="default: %(default)s")
    parser.add_argument(
        "--family", choices=get_args(Family), help="of an official file; default: found out"
    )
    parser.add_argument(
        "--config", type=Path, help="config.json with what an official file does not say"
    )
    parser.add_argument(
        "--encoder-key",
        help="which copy of the encoder; default: ema_encoder, target_encoder or encoder, the "
        "first that is there",
    )
    parser.add_argument("--mask-token", type=int, help="the one to use, instead of the chosen one")
    parser.add_argument("--probe", type=Path, help="official attentive probe to put on the encoder")
    parser.add_argument(
        "--probe-index", type=int, help="which of the probe file's classifiers, from 0"
    )
    parser.add_argument(
        "--probe-num-heads",
        type=int,
        help="attention heads of the probe; default: 16, as in all released ones of V-JEPA 2",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the files of a model in OUT"
    )
    return parser


def _kind_of(source: str) -> str:
    if source.startswith(TIMM):
        return "timm"
    from jepa.checkpoints.pretrained import checkpoint_file, folder_of, is_huggingface

    path = Path(source)
    if path.is_file() and checkpoint_file(path).is_file():
        return "official"
    folder = path.parent if path.is_file() else folder_of(source)
    return "huggingface" if is_huggingface(folder) else "jepa"


def _refuse_options_without_use(arguments: argparse.Namespace, source: str) -> None:
    """An option that would do nothing is a misunderstanding."""
    for name in ("probe_index", "probe_num_heads"):
        if getattr(arguments, name) is not None and arguments.probe is None:
            raise ValueError(f"--{name.replace('_', '-')} needs --probe")
    if source == "official":
        return
    for name in ("family", "config", "encoder_key"):
        if getattr(arguments, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is for official files; {arguments.source} is taken "
                f"for {source} (--from says otherwise)"
            )


def _refuse_full_output(out: Path, *, overwrite: bool, target: str) -> None:
    if target == "official" and out.is_dir():
        raise ValueError(f"{out} is a folder; an official checkpoint is one file")
    if target != "official" and out.is_file():
        raise ValueError(f"{out} is a file; OUT is the folder to write")
    is_full = any(out.iterdir()) if out.is_dir() else out.exists()
    if is_full and not overwrite:
        raise ValueError(f"{out} is there already; choose another name, or give --overwrite")


def _read(source: str, arguments: argparse.Namespace) -> tuple[AnyModel, list[str]]:
    name = arguments.source
    if source == "official":
        from jepa.checkpoints.official import read_official
        from jepa.checkpoints.official_config import OfficialConfig

        config = OfficialConfig.read(arguments.config) if arguments.config else OfficialConfig()
        converted = read_official(
            name, family=arguments.family, config=config, encoder_key=arguments.encoder_key
        )
        return converted.model, converted.report + [f"warning: {w}" for w in converted.warnings]
    if source == "timm":
        from jepa.checkpoints.timm_weights import read_timm_ijepa

        return read_timm_ijepa(name.removeprefix(TIMM)), [f"family: I-JEPA, from {name}"]
    if source == "huggingface":
        from jepa.checkpoints.huggingface import convert_huggingface
        from jepa.checkpoints.pretrained import folder_of

        path = Path(name)
        return convert_huggingface(path.parent if path.is_file() else folder_of(name))
    from jepa.checkpoints.native import load_model

    path = Path(name)
    return load_model(path.parent if path.is_file() else path), [f"source: {name}"]


def _add_probe(model: Any, arguments: argparse.Namespace) -> list[str]:  # noqa: ANN401
    from jepa.checkpoints.official_probe import probe_from_official, read_official_probes
    from jepa.models.jepa_model import JepaModel
    from jepa.models.pooler import AttentiveProbe

    if not isinstance(model, JepaModel):
        raise ValueError("a world model has no place for a probe; give an encoder's checkpoint")
    heads, index = read_official_probes(arguments.probe), arguments.probe_index
    if index is None and len(heads) > 1:
        raise ValueError(
            f"{arguments.probe} holds {len(heads)} classifiers, one for each setting that was "
            "tried, and does not say which is best; choose one with --probe-index"
        )
    if not 0 <= (index or 0) < len(heads):
        raise ValueError(f"--probe-index must be 0 to {len(heads) - 1}, got {index}")
    num_heads = 16 if arguments.probe_num_heads is None else arguments.probe_num_heads
    config, state = probe_from_official(heads[index or 0], num_heads=num_heads)
    if config["dim"] != model.encoder.dim:
        raise ValueError(
            f"{arguments.probe} reads tokens of width {config['dim']}, the encoder's have "
            f"{model.encoder.dim}"
        )
    model.probe = AttentiveProbe(**config).eval()
    model.probe.load_state_dict(state)
    return [f"probe: classes {config['num_classes']}, from {arguments.probe}"]


def _choose_mask_token(model: AnyModel, index: int) -> list[str]:
    if model.predictor is None:
        raise ValueError("--mask-token has no use: the checkpoint holds no masked predictor")
    model.predictor.use_mask_token(index)
    return [f"mask token {index} as you say"]


def _write(model: Any, out: Path, target: str) -> list[str]:  # noqa: ANN401
    if target == "official":
        from jepa.checkpoints.official import write_official

        out.parent.mkdir(parents=True, exist_ok=True)
        return write_official(model, out)
    if target == "huggingface":
        from jepa.checkpoints.huggingface import write_huggingface

        lines = write_huggingface(model, out)
    else:
        model.save_pretrained(out)
        lines = []
    size = sum(path.stat().st_size for path in out.iterdir()) / 2**20
    free = shutil.disk_usage(out).free / 2**30
    return [*lines, f"size: {size:.1f} MiB ({free:.0f} GiB left on the disk)"]


if __name__ == "__main__":
    sys.exit(main())
