"""The rules of the house: who imports whom, who chooses a device, where a test lives.

Each rule is a function from a file to complaints, and is shown a bad file first: a rule that
cannot fail is none.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data_pipelines", "jepa", "planning")

# What a file may import of the other two packages. A folder ends with a slash.
DOORS = {
    "jepa/__main__.py": PACKAGES,  # composition roots
    "jepa/demo/": PACKAGES,
    "jepa/feature_extraction.py": (  # files of one's own: decoded here, not by a data module
        "data_pipelines.decoders",
        "data_pipelines.frames",
        "data_pipelines.images",
        "data_pipelines.transforms",
    ),
    "jepa/feature_plan.py": (
        "data_pipelines.clip_sampling",
        "data_pipelines.decoders",
        "data_pipelines.transforms",
    ),
    "planning/benchmarking/behaviour_cloning.py": ("data_pipelines.datamodules",),
    "planning/latent_world.py": ("jepa",),
    "planning/collection.py": (  # simulated episodes, packed as those of an import are
        "data_pipelines.episode_packing",
        "data_pipelines.importers.base",
        "data_pipelines.shard_writing",
        "data_pipelines.shards",
        "data_pipelines.trajectories",
    ),
    "planning/costs/recorded_latents.py": ("data_pipelines.datamodules",),
    "planning/dense_recording.py": ("data_pipelines.dense_labels",),
    "planning/goal_images.py": ("data_pipelines.images",),  # files of strangers
    "planning/recording.py": (
        "data_pipelines.shards",
        "data_pipelines.trajectories",
        "data_pipelines.video_writing",
    ),
    "jepa/": ("data_pipelines.batch",),
}
HOOK = ("jepa/__init__.py", "data_pipelines")  # lets torchvision live with a CPU-only torch

# A library that is wrapped, and how many files may name it.
WRAPPED = {
    "av": 2,  # the decoder, and the writing of videos
    "cma": 1,
    "decord": 1,
    "fsspec": 1,
    "gym_pusht": 1,
    "gymnasium": 2,  # the recording of its episodes, and planning in them
    "h5py": 1,
    "metaworld": 1,
    "mujoco": 1,
    "ogbench": 1,
    "pyarrow": 1,
    "pymunk": 1,
    "ray": 1,
    "robosuite": 1,
    "torchcodec": 1,
    "wandb": 1,
}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "core", "helpers", "helper", "misc"}
# Written in two parts, so that this file does not complain of itself.
DEVELOPER_PATHS = ("/" + "work/", "/" + "root/", "/tmp/" + "venv")
TESTS_OF_THE_WHOLE = {
    "data_pipelines/test_damage.py",
    "test_bad_input.py",
    "test_docs.py",
    "test_house.py",
    "test_packaging.py",
}
FAULTS_ACROSS_MODULES = "reliability"  # the folder of tests that break one part and watch another
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".csv", ".html", ""}


def source_files():
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def text_files():
    folders = [ROOT / name for name in (*PACKAGES, "tests", "configs", "docs", "benchmarks", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return [
        path for path in files if path.suffix in TEXT_SUFFIXES and "__pycache__" not in str(path)
    ]


def named(path):
    return path.relative_to(ROOT).as_posix()


def imports(source):
    """Every imported name, dotted, also inside functions; relative ones begin with a dot."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def wrong_directions(file, source):
    """Imports of ours that the plan of the house does not allow."""
    home = file.partition("/")[0]
    doors = next((names for place, names in DOORS.items() if _is_in(file, place)), ())
    allowed = (home, *doors)
    return [
        f"{file} imports {name}"
        for name in sorted(imports(source))
        if name.partition(".")[0] in PACKAGES
        and (file, name) != HOOK
        and not any(name == door or name.startswith(f"{door}.") for door in allowed)
    ]


def _is_in(file, place):
    return file.startswith(place) if place.endswith("/") else file == place


def wrapped_libraries(source):
    return {name.partition(".")[0] for name in imports(source)} & WRAPPED.keys()


def empty_names(file):
    parts = Path(file).with_suffix("").parts
    return [f"{file}: {part!r} says nothing" for part in parts if part in NAMES_THAT_SAY_NOTHING]


def devices_by_hand(file, source):
    """Lines that choose a device, which is Lightning's affair."""
    return [
        f"{file}:{node.lineno} chooses a device by hand"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "torch.device"
        and node.args
        and "'cuda" in ast.unparse(node.args[0])
    ]


def developer_paths(file, text):
    return [
        f"{file}:{number} names {path}"
        for number, line in enumerate(text.splitlines(), start=1)
        for path in DEVELOPER_PATHS
        if re.search(rf"(?<![\w.-]){re.escape(path)}", line)
    ]


def has_a_source(test_file):
    """True if tests/a/b/test_x.py has a source: a/b/x.py, a/b/__x__.py or the folder a/b/x."""
    path = Path(test_file).relative_to("tests")
    name = path.stem.removeprefix("test_").removeprefix(f"{path.parent.name}_")
    place = ROOT / path.parent
    return (
        path.as_posix() in TESTS_OF_THE_WHOLE
        or path.parent.as_posix() == FAULTS_ACROSS_MODULES
        or any((place / f"{stem}.py").is_file() for stem in (name, f"__{name}__"))
        or (place / name).is_dir()
        or (place.name == name and place.is_dir())
    )


# The rules are kept.


@pytest.mark.parametrize("path", source_files(), ids=named)
def test_imports_go_in_the_directions_of_the_plan(path):
    assert wrong_directions(named(path), path.read_text()) == []


@pytest.mark.parametrize("library", WRAPPED)
def test_a_wrapped_library_is_named_in_its_wrapper_only(library):
    files = [
        named(path) for path in source_files() if library in wrapped_libraries(path.read_text())
    ]
    assert len(files) <= WRAPPED[library], f"{library} is imported in {files}"


def test_no_module_has_an_empty_name():
    assert [complaint for path in source_files() for complaint in empty_names(named(path))] == []


def test_no_device_is_chosen_by_hand():
    assert [
        line for path in source_files() for line in devices_by_hand(named(path), path.read_text())
    ] == []


def test_no_file_names_a_folder_of_a_developer():
    found = [
        line for path in text_files() for line in developer_paths(named(path), path.read_text())
    ]
    assert found == []


def test_every_test_file_mirrors_a_source():
    files = [named(path) for path in (ROOT / "tests").rglob("test_*.py")]
    assert [file for file in files if not has_a_source(file)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_no_torch(package):
    program = (
        f"import sys, {package}; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


# The rules can fail.


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("data_pipelines/streams.py", "import jepa"),
        ("data_pipelines/streams.py", "def f():\n    from planning import mpc"),
        ("jepa/models/encoder.py", "from data_pipelines.streams import Stream"),
        ("jepa/models/encoder.py", "import data_pipelines"),
        ("jepa/models/encoder.py", "from planning.types import Plan"),
        ("planning/control/mpc.py", "from jepa.models import encoder"),
        ("planning/recording.py", "from data_pipelines.manifest import scan"),
        ("planning/recording.py", "import jepa"),
    ],
)
def test_the_rule_of_directions_finds_a_wrong_import(file, source):
    assert wrong_directions(file, source) != []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("jepa/__init__.py", "import data_pipelines"),
        ("jepa/demo/stages.py", "from planning.control.mpc import run"),
        ("jepa/training/pretraining.py", "from data_pipelines.batch import ClipBatch"),
        ("planning/latent_world.py", "from jepa.models import encoder"),
        ("planning/recording.py", "from data_pipelines.shards import write"),
        ("planning/control/mpc.py", "import torch\nfrom planning.types import Plan"),
    ],
)
def test_the_rule_of_directions_lets_a_right_import_pass(file, source):
    assert wrong_directions(file, source) == []


def test_the_rule_of_devices_finds_one():
    assert len(devices_by_hand("x.py", 'torch.device("cuda:0")')) == 1
    assert devices_by_hand("x.py", "torch.device(video.device)") == []


def test_the_rule_of_wrapped_libraries_sees_an_import_in_a_function():
    assert wrapped_libraries("def f():\n    import decord.bridge") == {"decord"}
    assert wrapped_libraries("from av.video import VideoFrame") == {"av"}
    assert wrapped_libraries("import avocado") == set()


def test_the_rule_of_names_finds_an_empty_one():
    assert empty_names("jepa/utils.py") != []
    assert empty_names("planning/common/costs.py") != []
    assert empty_names("jepa/masking/base.py") == []


def test_the_rule_of_paths_finds_a_developers_folder():
    assert developer_paths("x.py", f"DATA = '{DEVELOPER_PATHS[0]}videos'") != []
    assert developer_paths("x.md", f"see runs{DEVELOPER_PATHS[0]}x") == []


def test_the_rule_of_mirrors_finds_a_test_without_a_source():
    assert not has_a_source("tests/jepa/test_nothing_of_this_name.py")
    assert has_a_source("tests/jepa/test_main.py")
    assert has_a_source("tests/jepa/test_version.py")
