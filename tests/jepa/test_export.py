import json
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from jepa import command_line
from jepa import export as export_module
from jepa.checkpoints.huggingface import write_huggingface
from jepa.checkpoints.native import save_model
from jepa.export import (
    check_compile,
    export_onnx,
    export_torch,
    external_data_path,
    main,
    relative_difference,
)
from jepa.exportable_parts import (
    Example,
    TensorSpec,
    dynamics_part,
    encoder_part,
    predictor_part,
)
from jepa.models.dynamics import GRU, ActionConditionedPredictor, AdaLN
from jepa.models.encoder import VideoEncoder
from jepa.models.jepa_model import JepaModel
from jepa.models.latents import PatchTokens
from jepa.models.predictor import MaskedLatentPredictor
from jepa.models.world_model import ColumnScaling, LatentWorldModel

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

BATCHES = (1, 3, 5)
CONTROL_FLOW = {"If", "Loop", "Scan"}
COMPLEX = {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}


class Case(NamedTuple):
    part: nn.Module
    example: Example
    path: object
    difference: float


def shaken(model):
    """Weights large enough that everything matters, also what starts as zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def make_encoder(**options):
    settings = {"image_size": 32, "clip_length_frames": 4, "patch_size": 8}
    settings |= {"dim": 24, "depth": 1, "num_heads": 2, **options}
    return shaken(VideoEncoder(**settings))


def make_predictor(**options):
    settings = {"encoder_dim": 24, "dim": 24, "depth": 1, "num_heads": 2, **options}
    return shaken(MaskedLatentPredictor(**settings))


def make_dynamics(*, state_dim=4, action_dim=2, **options):
    settings = {"latent_dim": 10, "grid": (2, 3), "dim": 24, "depth": 1, "num_heads": 2, **options}
    return shaken(
        ActionConditionedPredictor(state_dim=state_dim, action_dim=action_dim, **settings)
    )


def make_other(dynamics):
    sizes = {"latent_dim": 10, "grid": (2, 3), "state_dim": 4, "action_dim": 2}
    dynamics.build(**sizes, output="residual")
    return shaken(dynamics)


ADALN = {"dim": 24, "depth": 1, "num_heads": 2, "head_dim": 12, "mlp_dim": 32, "context_frames": 2}
RELEASED_2_1 = {"depth": 2, "rope_grid": 16, "levels": [0, 1], "has_image_tokenizer": True}
RELEASED_2_AC = {
    "state_dim": 7,
    "action_dim": 7,
    "next_state": "end_effector_pose",
    "positions": "rope_tiled",
    "has_place_embedding": False,
}


def predictor_of(*, size=None, encoder=None, **options):
    encoder = encoder or make_encoder()
    return predictor_part(make_predictor(**options), encoder, size=size)


CASES = {
    "encoder, interleaved": lambda: encoder_part(make_encoder(), takes_pixels=True),
    "encoder, tiled": lambda: encoder_part(make_encoder(positions="rope_tiled")),
    "encoder, sincos_3d, other size": lambda: encoder_part(
        make_encoder(positions="sincos_3d"), size=(2, 48, 40)
    ),
    "encoder, sincos_2d, other size": lambda: encoder_part(
        make_encoder(positions="sincos_2d", clip_length_frames=1), size=(1, 40, 40)
    ),
    "encoder, 2.1, other size": lambda: encoder_part(
        make_encoder(**RELEASED_2_1), size=(4, 40, 48)
    ),
    "encoder, 2.1, image": lambda: encoder_part(make_encoder(**RELEASED_2_1), size=(1, 32, 32)),
    "predictor, sincos_3d": lambda: predictor_of(positions="sincos_3d", grid=(2, 4, 4)),
    "predictor, 2.1, image": lambda: predictor_of(
        size=(1, 40, 48),
        encoder=make_encoder(**RELEASED_2_1),
        rope_grid=16,
        num_levels=2,
        output_dim=24,
        num_mask_tokens=3,
        mask_token_index=1,
        has_modalities=True,
    ),
    "step, learned state": lambda: dynamics_part(make_dynamics()),
    "step, 2-AC": lambda: dynamics_part(make_dynamics(**RELEASED_2_AC)),
    "step, no state, residual": lambda: dynamics_part(
        make_dynamics(state_dim=0, output="residual")
    ),
    "rollout, learned state": lambda: dynamics_part(make_dynamics(), horizon=2),
    "rollout, AdaLN": lambda: dynamics_part(make_other(AdaLN(**ADALN)), horizon=3),
    "rollout, GRU": lambda: dynamics_part(make_other(GRU(dim=24)), horizon=2),
}
ONE_OF_EACH_KIND = [
    "encoder, interleaved",
    "predictor, 2.1, image",
    "step, 2-AC",
    "rollout, learned state",
]
QUICK = {*ONE_OF_EACH_KIND, "rollout, GRU"}
LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="LONG_TESTS=1 runs it")
ONNX_CASES = [name if name in QUICK else pytest.param(name, marks=LONG) for name in CASES]


@pytest.fixture(scope="module", params=ONNX_CASES)
def onnx_case(request, tmp_path_factory):
    part, example = CASES[request.param]()
    path = tmp_path_factory.mktemp("onnx") / "part.onnx"
    return Case(part, example, path, export_onnx(part, example, path))


@pytest.fixture
def fresh():
    """Fresh inputs for a batch size, from names to tensors; other lengths grow with the batch."""

    def draw(example, batch):
        sizes = {"batch": batch, "context": 2 + 3 * batch, "targets": 1 + 2 * batch}
        names = [spec.name for spec in example.inputs]
        return dict(zip(names, example.draw(sizes), strict=True))

    return draw


def outputs_of(part, inputs):
    with torch.no_grad():
        outputs = part(*inputs.values())
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_equal(found, expected):
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=1e-4, atol=1e-4)


class Doubled(nn.Module):
    """A part as small as can be."""

    example = Example(
        (TensorSpec("numbers", ("batch", 512), ""),), (TensorSpec("doubled", ("batch", 512), ""),)
    )

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.full((512,), 2.0))

    def forward(self, numbers):
        return self.factor * numbers


class OtherNumbersWhenExported(Doubled):
    def forward(self, numbers):
        return (2.01 if torch.compiler.is_compiling() else 2.0) * numbers


class OtherShapeWhenExported(Doubled):
    def forward(self, numbers):
        return 2 * (numbers[:1] if torch.compiler.is_compiling() else numbers)


class NotANumber(Doubled):
    def forward(self, numbers):
        return numbers * float("nan")


class OneBatchSize(Doubled):
    def forward(self, numbers):
        return 2 * numbers.reshape(2, 512)


class Talkative(Doubled):
    def forward(self, numbers):
        warnings.warn("a real problem", stacklevel=1)
        return self.factor * numbers


def test_an_onnx_file_gives_what_the_model_gives_for_any_batch(onnx_case, fresh):
    session = session_of(onnx_case.path)
    for batch in BATCHES:
        inputs = fresh(onnx_case.example, batch)
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        assert_equal(map(torch.from_numpy, found), outputs_of(onnx_case.part, inputs))
    assert 0 < onnx_case.difference < 1e-5


def test_an_onnx_file_has_the_names_and_shapes_that_are_told(onnx_case):
    session, example = session_of(onnx_case.path), onnx_case.example
    for found, told in (
        (session.get_inputs(), example.inputs),
        (session.get_outputs(), example.outputs),
    ):
        assert [(one.name, one.shape) for one in found] == [
            (spec.name, list(spec.shape)) for spec in told
        ]


def test_an_onnx_graph_has_no_control_flow_and_no_complex_numbers(onnx_case):
    model = onnx.load(onnx_case.path)
    assert control_flow(model) == set()
    assert not complex_values(model)
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [18]


def test_an_onnx_file_tells_nothing_of_the_machine_that_wrote_it(onnx_case):
    written = onnx_case.path.read_bytes()
    for folder in (Path(torch.__file__).parent, Path(export_module.__file__).parent):
        assert str(folder).encode() not in written


def test_control_flow_and_complex_numbers_would_be_found():
    make = onnx.helper
    value = make.make_tensor_value_info("x", onnx.TensorProto.COMPLEX64, [1])
    branch = make.make_graph([make.make_node("Loop", [], [])], "branch", [], [])
    node = make.make_node("If", ["c"], ["x"], then_branch=branch, else_branch=branch)
    model = make.make_model(make.make_graph([node], "graph", [], [value]))
    assert control_flow(model) == {"If", "Loop"}
    assert complex_values(model) == ["x"]


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_a_torch_export_gives_what_the_model_gives_for_any_batch(name, fresh, tmp_path):
    part, example = CASES[name]()
    assert export_torch(part, example, tmp_path / "part.pt2") < 1e-5
    loaded = torch.export.load(tmp_path / "part.pt2").module()
    for batch in BATCHES:
        inputs = fresh(example, batch)
        found = loaded(*inputs.values())
        found = (found,) if isinstance(found, torch.Tensor) else found
        assert_equal(found, outputs_of(part, inputs))


@pytest.mark.parametrize("name", CASES)
def test_every_part_is_one_graph_for_torch_compile(name):
    torch.compiler.reset()
    assert check_compile(*CASES[name](), backend="eager") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["encoder, interleaved", "step, 2-AC"])
def test_inductor_gives_what_the_model_gives(name):
    torch.compiler.reset()
    assert check_compile(*CASES[name]()) < 1e-5


def test_the_relative_difference_is_that_of_the_largest_value():
    assert relative_difference(torch.tensor([4.0, 1.5]), torch.tensor([4.0, 1.0])) == 0.125
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_difference(torch.tensor(1.0), torch.tensor(float("nan"))) != 0


@pytest.mark.parametrize("export", [export_onnx, export_torch])
@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (OtherNumbersWhenExported(), r"doubled exported as \w+ differs from the model by 5.0e-03"),
        (
            OtherShapeWhenExported(),
            r"doubled should be \(3, 512\); exported as \w+ it is \(1, 512\)",
        ),
        (NotANumber(), "differs from the model by nan"),
    ],
    ids=["numbers", "shape", "nan"],
)
def test_a_file_that_differs_from_the_model_is_removed(export, part, problem, tmp_path):
    with pytest.raises(RuntimeError, match=problem):
        export(part, Doubled.example, tmp_path / "part.file")
    assert list(tmp_path.iterdir()) == []


def test_the_record_forgets_a_file_that_a_later_export_removed(
    world_model_folder, tmp_path, monkeypatch, capsys
):
    command = [str(world_model_folder), str(tmp_path), "--format", "torch", "--part", "dynamics"]
    assert main(command) == 0
    assert list(record_of(tmp_path)) == ["dynamics/torch"]
    monkeypatch.setattr(
        export_module, "dynamics_part", lambda *_, **__: (NotANumber(), Doubled.example)
    )
    assert command_line.run(main, command) == 1
    assert "differs from the model by nan" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", [export_onnx, export_torch])
def test_a_part_for_one_batch_size_is_refused(export, tmp_path):
    with pytest.raises(torch._dynamo.exc.UserError, match="batch"):
        export(OneBatchSize(), Doubled.example, tmp_path / "part.file")


def test_a_compiled_part_for_one_batch_size_is_refused():
    with pytest.raises(RuntimeError, match="as dynamic but your code specialized it"):
        check_compile(OneBatchSize(), Doubled.example, backend="eager")


def test_a_graph_break_is_refused():
    class Breaks(Doubled):
        def forward(self, numbers):
            torch._dynamo.graph_break()
            return 2 * numbers

    with pytest.raises(RuntimeError, match="graph_break"):
        check_compile(Breaks(), Doubled.example, backend="eager")


def test_weights_that_are_too_large_lie_beside_the_file(tmp_path, monkeypatch):
    path = tmp_path / "part.onnx"
    monkeypatch.setattr(export_module, "MAX_BYTES_INSIDE", 2048)
    assert export_onnx(Doubled(), Doubled.example, path) < 1e-6
    assert external_data_path(path).stat().st_size >= 2048
    monkeypatch.undo()
    export_onnx(Doubled(), Doubled.example, path)
    assert list(tmp_path.iterdir()) == [path]


def test_exports_are_silent(tmp_path, capfd):
    part, example = CASES["predictor, sincos_3d"]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(part, example, tmp_path / "part.onnx")
        export_torch(part, example, tmp_path / "part.pt2")
    assert capfd.readouterr() == ("", "")


def test_a_real_warning_is_shown(tmp_path):
    with pytest.warns(UserWarning, match="a real problem"):
        export_torch(Talkative(), Doubled.example, tmp_path / "part.pt2")


# The command line.


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    encoder = make_encoder()
    predictor = make_predictor()
    return save_model(
        JepaModel(encoder, predictor=predictor), tmp_path_factory.mktemp("run") / "encoder"
    )


@pytest.fixture(scope="module")
def world_model_folder(tmp_path_factory):
    scaling = ColumnScaling([0.0] * 3, [1.0] * 3, [0.0] * 2, [2.0] * 2)
    model = LatentWorldModel(
        make_encoder(),
        PatchTokens(),
        scaling=scaling,
        uses_state=True,
        dim=24,
        depth=1,
        num_heads=2,
    )
    return save_model(model, tmp_path_factory.mktemp("run") / "world_model")


def record_of(folder):
    return json.loads((folder / "export.json").read_text())


def test_export_json_says_what_is_true(model_folder, tmp_path, capsys):
    options = ["--part", "encoder", "--pixels", "--frames", "2", "--size", "40", "32"]
    assert main([str(model_folder), str(tmp_path), *options]) == 0
    entry = record_of(tmp_path)["encoder/onnx"]
    session = session_of(tmp_path / entry["file"])
    (video,), (tokens,) = session.get_inputs(), session.get_outputs()
    assert video.shape == ["batch", 3, 2, 40, 32] and video.type == "tensor(uint8)"
    assert tokens.shape == ["batch", 20, 24] and tokens.type == "tensor(float)"
    for told, found, dtype in (
        (entry["inputs"], video, "uint8"),
        (entry["outputs"], tokens, "float32"),
    ):
        assert [(one["name"], one["shape"], one["dtype"]) for one in told] == [
            (found.name, found.shape, dtype)
        ]
    assert entry["dynamic_axes"] == ["batch"] and entry["opset"] == 18
    assert entry["external_data"] is None and entry["model"] == str(model_folder)
    assert entry["versions"]["torch"] == torch.__version__
    assert entry["versions"]["onnxruntime"] == onnxruntime.__version__
    assert 0 < entry["max_relative_difference"] < entry["tolerance"] == 1e-4
    assert (
        f"differs from the model by {entry['max_relative_difference']:.1e}"
        in capsys.readouterr().out
    )


def test_all_parts_that_a_model_has_are_exported_in_turn_into_one_record(
    model_folder, world_model_folder, tmp_path
):
    torch_format = [str(tmp_path), "--format", "torch"]
    assert main([str(model_folder), *torch_format]) == 0
    assert (
        main([str(world_model_folder), *torch_format, "--part", "dynamics", "--horizon", "2"]) == 0
    )
    record = record_of(tmp_path)
    assert list(record) == ["encoder/torch", "predictor/torch", "dynamics/torch"]
    shapes = {one["name"]: one["shape"] for one in record["dynamics/torch"]["inputs"]}
    assert shapes == {
        "tokens": ["batch", 16, 24],
        "state": ["batch", 3],
        "actions": ["batch", 2, 2],
    }
    assert record["predictor/torch"]["dynamic_axes"] == ["batch", "context", "targets"]
    for name, entry in record.items():
        part = name.partition("/")[0]
        assert entry["file"] == f"{part}.pt2" and entry["opset"] is None
        loaded = torch.export.load(tmp_path / entry["file"]).module()
        sizes = {"batch": 3, "context": 6, "targets": 2}
        inputs = [
            torch.zeros([sizes.get(n, n) for n in one["shape"]], dtype=getattr(torch, one["dtype"]))
            for one in entry["inputs"]
        ]
        outputs = loaded(*inputs)
        outputs = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
        assert [list(output.shape) for output in outputs] == [
            [sizes.get(n, n) for n in one["shape"]] for one in entry["outputs"]
        ]


def test_a_compile_check_writes_no_model(model_folder, tmp_path, monkeypatch, capsys):
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda part, *, backend, **rest: compiled(part, backend="eager", **rest)
    )
    options = ["--format", "compile-check", "--part", "encoder"]
    assert main([str(model_folder), str(tmp_path), *options]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]
    entry = record_of(tmp_path)["encoder/compile-check"]
    assert entry["file"] is None
    assert entry["max_relative_difference"] < entry["tolerance"]
    assert "encoder, compiled: differs from the model by" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--part", "dynamics"], "has no dynamics to export, only encoder, predictor"),
        (["--size", "33"], "height 33 is not a multiple of the tubelet's 8; use 32 or 40"),
        (["--frames", "3"], "time 3 is not a multiple of the tubelet's 2; use 2 or 4"),
        (["--size", "32", "32", "3"], "--size takes HEIGHT or HEIGHT WIDTH, got 3 numbers"),
        (["--horizon", "0"], "--horizon must be at least 1, got 0"),
        (["--horizon", "2"], "--horizon is for dynamics; of "),
        (["--format", "coreml"], "argument --format: invalid choice: 'coreml'"),
        (["--horizn", "2"], "unrecognized arguments: --horizn 2 (jepa export --help)"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(
    options, problem, model_folder, tmp_path, capsys
):
    assert command_line.run(main, [str(model_folder), str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_model_of_another_precision_is_refused_before_anything_is_written(
    dtype, tmp_path, capsys
):
    model = JepaModel(make_encoder(), predictor=make_predictor()).to(dtype)
    folder = save_model(model, tmp_path / "model")
    for part in ("encoder", "predictor", "all"):
        options = ["--part", part, "--format", "torch"]
        assert command_line.run(main, [str(folder), str(tmp_path / "out"), *options]) == 2
        error = capsys.readouterr().err
        assert f"{folder} is {str(dtype)[6:]}, only float32 is exported" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["out", "a/b"])
def test_an_export_that_fails_leaves_nothing(name, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        export_module, "encoder_part", lambda *_, **__: (NotANumber(), Doubled.example)
    )
    command = [str(model_folder), str(tmp_path / name), "--format", "torch", "--part", "encoder"]
    assert command_line.run(main, command) == 1
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir(exist_ok=True)  # a folder that was there stays
    assert command_line.run(main, [command[0], str(tmp_path / "out"), *command[2:]]) == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


def test_what_from_pretrained_takes_is_exported(tmp_path):
    model = JepaModel(make_encoder(positions="rope_tiled"))
    write_huggingface(model, tmp_path / "theirs")
    options = ["--format", "torch", "--part", "encoder"]
    assert main([str(tmp_path / "theirs"), str(tmp_path / "out"), *options]) == 0
    loaded = torch.export.load(tmp_path / "out" / "encoder.pt2").module()
    video = torch.randn(1, 3, *exported_size(model.encoder))
    torch.testing.assert_close(loaded(video), model.encoder(video), atol=1e-5, rtol=1e-4)


def exported_size(encoder):
    config = encoder.config
    return config["clip_length_frames"], config["image_size"], config["image_size"]


def test_a_folder_that_cannot_be_written_is_told_in_one_line(model_folder, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    assert command_line.run(main, [str(model_folder), str(file)]) == 2
    assert f"OUT must be a folder, {file} is a file" in capsys.readouterr().err
    assert command_line.run(main, [str(model_folder), str(file / "folder")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: False)
        assert command_line.run(main, [str(model_folder), str(tmp_path)]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "problem"), [("{", "is not JSON"), ("[]", "was not written by")])
def test_a_foreign_export_json_is_not_overwritten(text, problem, model_folder, tmp_path, capsys):
    (tmp_path / "export.json").write_text(text)
    assert command_line.run(main, [str(model_folder), str(tmp_path)]) == 2
    assert problem in capsys.readouterr().err
    assert (tmp_path / "export.json").read_text() == text


def test_a_folder_without_a_model_is_told_in_one_line(tmp_path, capsys):
    assert command_line.run(main, [str(tmp_path / "none"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "none") in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_named_with_what_brings_them(
    model_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnx" else name)
    assert command_line.run(main, [str(model_folder), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "needs onnx: pip install 'jepa-planning[export]'" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def control_flow(model):
    """Operators with graphs inside, wherever they are."""
    graphs, found = [model.graph, *model.functions], set()
    while graphs:
        for node in graphs.pop().node:
            found |= {node.op_type} & CONTROL_FLOW
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
            graphs += [graph for attribute in node.attribute for graph in attribute.graphs]
    return found


def complex_values(model):
    """Names of complex tensors, of those whose type the graph tells, and of casts to complex."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    names = [value.name for value in values if value.type.tensor_type.elem_type in COMPLEX]
    names += [tensor.name for tensor in graph.initializer if tensor.data_type in COMPLEX]
    return names
