"""`jepa export`: a model for programs that lack our code, every file checked against the model.

    jepa export runs/world_model exported --part dynamics --horizon 8

Three parts can be exported: the encoder (video to tokens), the predictor (context tokens to target
tokens) and the dynamics (tokens, state and action to what comes next). Formats: `onnx` for ONNX
Runtime and the like, `torch` for a PyTorch without our code (torch.export), `compile-check` writes
no model: it tells whether torch.compile takes the part as one graph. All of them are run on fresh
random inputs of two batch sizes, and must give what the model gives. OUT/export.json tells names,
shapes and units of what goes in and comes out, and how large the difference was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from jepa.checkpoints.folder_writing import made_folder
from jepa.command_line import OneLineParser
from jepa.exportable_parts import (
    Example,
    Size,
    TensorSpec,
    dynamics_part,
    encoder_part,
    made_for,
    predictor_part,
)
from jepa.models.encoder import VideoEncoder
from jepa.version import __version__

Format = Literal["onnx", "torch", "compile-check"]
PartName = Literal["encoder", "predictor", "dynamics"]

OPSET = 18  # what torch writes without converting afterwards; ONNX Runtime 1.14 and later read it
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
MAX_BYTES_INSIDE = 2_000_000_000  # of weights in the ONNX file itself: protobuf ends at 2 GiB
TOLERANCES: dict[Format, float] = {"onnx": 1e-4, "torch": 1e-5, "compile-check": 1e-4}
SUFFIXES: dict[Format, str | None] = {"onnx": ".onnx", "torch": ".pt2", "compile-check": None}
EXPORT_SIZES = {"batch": 2, "context": 5, "targets": 3}
CHECK_SIZES = ({"batch": 1, "context": 7, "targets": 4}, {"batch": 3, "context": 4, "targets": 6})
# torch.compile makes a graph of its own for a batch of 1; both of these must share one.
COMPILE_SIZES = (EXPORT_SIZES, CHECK_SIZES[1])


def export_torch(
    part: nn.Module, example: Example, path: Path, *, generator: torch.Generator | None = None
) -> float:
    """Writes a part with torch.export; loads it again and compares it with the part.

    Args:
        part: takes and returns tensors, on the CPU.
        example: what goes in and out.
        path: of the file, *.pt2.
        generator: of the random inputs; None: torch's own.

    Returns:
        The largest relative difference, see `relative_difference`.

    Raises:
        RuntimeError: if it is above the tolerance; then there is no file.
    """
    program = _program(part, example, generator)
    with _removed_on_failure(path), _without_chatter():
        torch.export.save(program, path)
        loaded = torch.export.load(path).module()
        return _compare(loaded, part, example, format="torch", generator=generator)


def export_onnx(
    part: nn.Module, example: Example, path: Path, *, generator: torch.Generator | None = None
) -> float:
    """Writes a part as ONNX; loads it with ONNX Runtime and compares it with the part.

    One file, and `path`.data beside it with the weights if they are 2 GB or more.

    Args:
        part: takes and returns tensors, on the CPU.
        example: what goes in and out.
        path: of the file, *.onnx.
        generator: of the random inputs; None: torch's own.

    Returns:
        The largest relative difference, see `relative_difference`.

    Raises:
        ImportError: if a package is missing.
        RuntimeError: if the difference is above the tolerance; then there is no file.
    """
    refuse_missing_packages()
    import onnxruntime

    external_data_path(path).unlink(missing_ok=True)  # of an earlier export
    program = _program(part, example, generator)
    num_bytes = sum(value.numel() * value.element_size() for value in part.state_dict().values())
    with _removed_on_failure(path), _without_chatter():
        graph = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in example.inputs],
            output_names=[spec.name for spec in example.outputs],
            dynamic_shapes=_dynamic_shapes(example),
            verbose=False,
        )
        assert graph is not None  # it is with dynamo
        for node in graph.model.graph.all_nodes():
            node.metadata_props.clear()  # tracebacks, with the paths of this machine
        graph.save(path, external_data=num_bytes >= MAX_BYTES_INSIDE)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            arrays = {
                spec.name: value.numpy() for spec, value in zip(example.inputs, inputs, strict=True)
            }
            return tuple(torch.from_numpy(output) for output in session.run(None, arrays))

        return _compare(run, part, example, format="onnx", generator=generator)


def check_compile(
    part: nn.Module,
    example: Example,
    *,
    backend: str = "inductor",
    generator: torch.Generator | None = None,
) -> float:
    """Compiles a part as one graph for any batch size, and compares it with the part.

    Args:
        part: takes and returns tensors, on the CPU.
        example: what goes in and out.
        backend: of torch.compile; "inductor" needs a C++ compiler.
        generator: of the random inputs; None: torch's own.

    Returns:
        The largest relative difference, see `relative_difference`.

    Raises:
        RuntimeError: if it is above the tolerance, the graph breaks, or it is for one batch size.
    """
    compiled = torch.compile(part, fullgraph=True, backend=backend)

    def run(*inputs: Tensor) -> Any:  # noqa: ANN401
        for spec, value in zip(example.inputs, inputs, strict=True):
            for index in _named_axes(spec):
                torch._dynamo.mark_dynamic(value, index)
        return compiled(*inputs)

    return _compare(
        run, part, example, format="compile-check", generator=generator, all_sizes=COMPILE_SIZES
    )


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Returns max |found - expected| / max |expected|; NaN if either has a NaN."""
    scale = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float((found - expected).abs().max() / scale)


def refuse_missing_packages() -> None:
    """Raises ImportError if a package is missing that ONNX export needs."""
    if missing := [name for name in ONNX_PACKAGES if util.find_spec(name) is None]:
        raise ImportError(
            f"export to ONNX needs {', '.join(missing)}: pip install 'jepa-planning[export]'"
        )


def external_data_path(path: Path) -> Path:
    """Returns where the weights of an ONNX file are that are too large for it."""
    return path.with_name(f"{path.name}.data")


def main(argv: list[str] | None = None) -> int:
    """Exports; returns the exit code."""
    arguments = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    format, folder = cast(Format, arguments.format), cast(Path, arguments.out)
    if format == "onnx":
        refuse_missing_packages()
    entries = _earlier_entries(folder)
    parts = _asked_for(arguments)
    generator = torch.Generator().manual_seed(0)
    with made_folder(folder):
        for name, (part, example) in parts.items():
            key, suffix = f"{name}/{format}", SUFFIXES[format]
            if entries.pop(key, None):  # from now on the earlier file is no more
                _write_entries(entries, folder)
            path = None if suffix is None else folder / f"{name}{suffix}"
            difference = _export(part, example, path, format=format, generator=generator)
            entries[key] = {
                "model": arguments.model,
                **_description(example, path, format=format),
                "max_relative_difference": difference,
            }
            _write_entries(entries, folder)
            print(
                f"{f'{name}, compiled' if path is None else path}: differs from the model by "
                f"{difference:.1e} of the largest value (tolerance {TOLERANCES[format]:.0e})"
            )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="jepa export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model or run folder, an official .pt, a name on the Hugging Face hub",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the files")
    parser.add_argument("--format", choices=get_args(Format), default="onnx")
    parser.add_argument(
        "--part",
        choices=(*get_args(PartName), "all"),
        default="all",
        help="all: all that the model has",
    )
    parser.add_argument(
        "--frames", type=int, help="of the videos; default: what the encoder was made for"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        metavar=("HEIGHT", "WIDTH"),
        help="of the videos, in pixels; one number: square; default as for --frames",
    )
    parser.add_argument(
        "--pixels", action="store_true", help="the encoder takes uint8 and normalises it"
    )
    parser.add_argument(
        "--horizon", type=int, help="actions that the dynamics take at once; default: 1"
    )
    return parser


def _earlier_entries(folder: Path) -> dict[str, Any]:
    """Returns what earlier exports have written into export.json; makes nothing.

    Raises:
        OSError: if the folder, or the one that it is to be made in, cannot be written.
        ValueError: if its export.json is not one of ours.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"OUT must be a folder, {existing} is a file")
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"OUT={folder} cannot be written")
    record = folder / "export.json"
    if not record.exists():
        return {}
    try:
        entries = json.loads(record.read_text())
    except ValueError as error:
        raise ValueError(
            f"{record} is not JSON ({error}); remove it, or choose another OUT"
        ) from error
    if not isinstance(entries, dict):
        raise ValueError(f"{record} was not written by `jepa export`; choose another OUT")
    return entries


def _write_entries(entries: dict[str, Any], folder: Path) -> None:
    """Writes export.json, or removes it if there is nothing left to tell."""
    if entries:
        (folder / "export.json").write_text(json.dumps(entries, indent=2) + "\n")
    else:
        (folder / "export.json").unlink(missing_ok=True)


def _asked_for(arguments: argparse.Namespace) -> dict[str, tuple[nn.Module, Example]]:
    """Loads the model and returns the parts that the command line asks for.

    Raises:
        FileNotFoundError: if there is no model.
        ValueError: if the model lacks the part, is not float32, or the size does not fit.
    """
    from jepa.checkpoints.pretrained import from_pretrained

    if arguments.horizon is not None and arguments.horizon < 1:
        raise ValueError(f"--horizon must be at least 1, got {arguments.horizon}")
    model: Any = from_pretrained(arguments.model)
    has = [name for name in get_args(PartName) if getattr(model, name) is not None]
    if not isinstance(model.encoder, VideoEncoder):  # one of timm, which knows its own exports
        has.remove("encoder")
    if arguments.part != "all" and arguments.part not in has:
        raise ValueError(
            f"{arguments.model} has no {arguments.part} to export, only {', '.join(has)}"
        )
    asked_for = [name for name in has if arguments.part in (name, "all")]
    if arguments.horizon is not None and "dynamics" not in asked_for:
        raise ValueError(
            f"--horizon is for dynamics; of {arguments.model} {', '.join(asked_for)} would be "
            "exported"
        )
    _refuse_other_precisions(model, asked_for, arguments.model)
    size = None
    if arguments.frames is not None or arguments.size is not None:
        size = _size(model.encoder, arguments.frames, arguments.size)
    makers: dict[str, Callable[[], tuple[nn.Module, Example]]] = {
        "encoder": lambda: encoder_part(model.encoder, size=size, takes_pixels=arguments.pixels),
        "predictor": lambda: predictor_part(model.predictor, model.encoder, size=size),
        "dynamics": lambda: dynamics_part(model.dynamics, horizon=arguments.horizon or 1),
    }
    return {name: makers[name]() for name in asked_for}


def _refuse_other_precisions(model: nn.Module, parts: Sequence[str], name: str) -> None:
    dtypes = {
        value.dtype
        for part in parts
        for value in model.get_submodule(part).state_dict().values()
        if value.is_floating_point()
    }
    for dtype in dtypes - {torch.float32}:
        raise ValueError(
            f"{name} is {str(dtype).removeprefix('torch.')}, only float32 is exported: load it, "
            "call model.float() and save it elsewhere"
        )


def _export(
    part: nn.Module,
    example: Example,
    path: Path | None,
    *,
    format: Format,
    generator: torch.Generator,
) -> float:
    """Exports in the format; returns the difference from the model."""
    if path is None:
        return check_compile(part, example, generator=generator)
    write = export_onnx if format == "onnx" else export_torch
    return write(part, example, path, generator=generator)


def _size(encoder: VideoEncoder, frames: int | None, size: Sequence[int] | None) -> Size:
    """Returns frames, height and width: those given, else what the encoder was made for."""
    if size is not None and len(size) > 2:
        raise ValueError(f"--size takes HEIGHT or HEIGHT WIDTH, got {len(size)} numbers")
    default_frames, *default_size = made_for(encoder)
    size = default_size if size is None else size
    return default_frames if frames is None else frames, size[0], size[-1]


def _description(example: Example, path: Path | None, *, format: Format) -> dict[str, Any]:
    """Returns what export.json tells of a part, whatever the weights."""

    def told(spec: TensorSpec) -> dict[str, Any]:
        return {
            "name": spec.name,
            "shape": list(spec.shape),
            "dtype": str(spec.dtype).removeprefix("torch."),
            "meaning": spec.meaning,
        }

    packages = ("torch", *(ONNX_PACKAGES if format == "onnx" else ()))
    data = None if path is None else external_data_path(path)
    return {
        "file": None if path is None else path.name,
        "external_data": data.name if data is not None and data.exists() else None,
        "inputs": [told(spec) for spec in example.inputs],
        "outputs": [told(spec) for spec in example.outputs],
        "dynamic_axes": sorted(_axis_names(example)),
        "opset": OPSET if format == "onnx" else None,
        "versions": {"jepa": __version__, **{name: metadata.version(name) for name in packages}},
        "tolerance": TOLERANCES[format],
    }


def _axis_names(example: Example) -> set[str]:
    return {axis for spec in example.inputs for axis in spec.shape if isinstance(axis, str)}


def _named_axes(spec: TensorSpec) -> dict[int, str]:
    return {index: axis for index, axis in enumerate(spec.shape) if isinstance(axis, str)}


def _dynamic_shapes(example: Example) -> tuple[dict[int, Any], ...]:
    """Returns for each input its axes of any length, as torch.export wants it said."""
    axes = {name: torch.export.Dim(name, min=1) for name in sorted(_axis_names(example))}
    return tuple(
        {index: axes[name] for index, name in _named_axes(spec).items()} for spec in example.inputs
    )


def _program(
    part: nn.Module, example: Example, generator: torch.Generator | None
) -> torch.export.ExportedProgram:
    """Traces a part. Fails if an axis that has a name would get a fixed length."""
    with torch.no_grad(), _without_chatter():
        return torch.export.export(
            part.eval(),
            example.draw(EXPORT_SIZES, generator),
            dynamic_shapes=_dynamic_shapes(example),
        )


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hides two warnings of torch about itself; whatever else it has to say is shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
        yield


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    """Removes a file that was not written in full, or does not do what the model does."""
    try:
        yield
    except BaseException:  # also Ctrl-C: no half a file is left; it is raised again
        path.unlink(missing_ok=True)
        external_data_path(path).unlink(missing_ok=True)
        raise


@torch.no_grad()
def _compare(
    exported: Callable[..., Any],
    part: nn.Module,
    example: Example,
    *,
    format: Format,
    generator: torch.Generator | None,
    all_sizes: Sequence[Mapping[str, int]] = CHECK_SIZES,
) -> float:
    """Returns the largest relative difference over fresh inputs of several sizes.

    Raises:
        RuntimeError: if shapes differ, or numbers by more than the tolerance of the format.
    """
    largest = 0.0
    for sizes in all_sizes:
        inputs = example.draw(sizes, generator)
        found, expected = _as_tuple(exported(*inputs)), _as_tuple(part(*inputs))
        for spec, one, other in zip(example.outputs, found, expected, strict=True):
            shapes = {tuple(one.shape), tuple(other.shape), spec.sized(sizes)}
            if len(shapes) > 1:
                raise RuntimeError(
                    f"{spec.name} should be {spec.sized(sizes)}; exported as {format} it is "
                    f"{tuple(one.shape)}, in the model {tuple(other.shape)}"
                )
            difference = relative_difference(one, other)
            if not difference <= TOLERANCES[format]:  # NaN is not
                raise RuntimeError(
                    f"{spec.name} exported as {format} differs from the model by {difference:.1e} "
                    f"of its largest value, more than {TOLERANCES[format]:.0e}, with {dict(sizes)}"
                )
            largest = max(largest, difference)
    return largest


def _as_tuple(outputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


if __name__ == "__main__":
    sys.exit(main())
