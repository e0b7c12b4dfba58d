"""The contract of every mask sampler in the folder: a new file is tested from its first day."""

import importlib
import inspect
import pkgutil
import random
from itertools import product

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch.utils._python_dispatch import TorchDispatchMode

import jepa.masking
from jepa.masking import Mask, MaskSampler

WITHOUT_SAMPLERS = {"base", "growing_blocks"}
MODULES = [
    name
    for _, name, _ in pkgutil.iter_modules(jepa.masking.__path__)
    if name not in WITHOUT_SAMPLERS
]
GRIDS = [(4, 8, 8), (3, 7, 10), (8, 16, 16), (2, 12, 9)]
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]
# Whose sizes depend on what was drawn.
READS_FROM_DEVICE = {"ReferenceMultiBlock"}
# What waits for a device: reading a number, or finding out how many values are True.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")


def sampler_classes():
    for name in MODULES:
        module = importlib.import_module(f"jepa.masking.{name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, MaskSampler) and member.__module__ == module.__name__:
                yield member


@pytest.fixture(params=list(sampler_classes()), ids=lambda member: member.__name__)
def sampler_class(request):
    return request.param


@pytest.fixture
def sampler(sampler_class):
    return sampler_class()


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def draw(sampler, *, batch=5, grid=(4, 8, 8), seed=0, device="cpu"):
    return sampler.sample(batch, grid, generator=torch.Generator(device).manual_seed(seed))


def is_random(sampler):
    """True if the sampler draws anything."""
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    sampler.sample(2, (4, 8, 8), generator=generator)
    return not torch.equal(before, generator.get_state())


def equal(one, other):
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True))


# What a sampler is.


def test_every_file_holds_one_sampler_and_the_package_names_it():
    modules = [member.__module__.rpartition(".")[2] for member in sampler_classes()]
    assert sorted(modules) == sorted(MODULES)
    for member in sampler_classes():
        assert getattr(jepa.masking, member.__name__) is member
        assert member.__name__ in jepa.masking.__all__


def test_most_samplers_draw():
    assert {member.__name__ for member in sampler_classes() if not is_random(member())} == {
        "Future"
    }


# What a mask is.


@pytest.mark.parametrize("grid", GRIDS)
def test_ids_ascend_lie_in_the_grid_and_context_and_targets_share_none(sampler, grid, device):
    for seed, batch in product(range(4), (1, 5)):
        mask = draw(sampler, batch=batch, grid=grid, seed=seed, device=device)
        assert isinstance(mask, Mask)
        for ids in mask:
            assert ids.dtype == torch.int64
            assert ids.device.type == device
            assert ids.ndim == 2
            assert len(ids) == batch
            assert ids.shape[1] > 0
            assert (ids.diff(dim=1) > 0).all()  # ascending, and none twice
            assert ids.min() >= 0
            assert ids.max() < grid[0] * grid[1] * grid[2]
        for context, targets in zip(*mask, strict=True):
            assert not set(context.tolist()) & set(targets.tolist())


def test_an_image_is_a_clip_of_one_frame_or_refused_in_words(sampler):
    try:
        mask = draw(sampler, grid=(1, 14, 14))
    except ValueError as error:
        assert "got 1" in str(error)
    else:
        assert mask.target_ids.max() < 196


# Where chance comes from.


def test_the_same_seed_draws_the_same_mask(sampler, device):
    for seed in range(3):
        one, other = (draw(sampler, seed=seed, device=device) for _ in range(2))
        assert equal(one, other)


def test_other_seeds_draw_other_masks(sampler, device):
    masks = [draw(sampler, seed=seed, device=device) for seed in range(3)]
    expected = not is_random(sampler)
    assert equal(masks[0], masks[1]) == equal(masks[1], masks[2]) == expected


def test_a_generator_goes_on(sampler):
    generator = torch.Generator().manual_seed(0)
    one, other = (sampler.sample(4, (4, 8, 8), generator=generator) for _ in range(2))
    assert equal(one, other) == (not is_random(sampler))


def test_the_clips_of_a_batch_differ(sampler, device):
    clips = draw(sampler, batch=6, device=device).target_ids.unique(dim=0)
    assert len(clips) == (6 if is_random(sampler) else 1)


def test_the_global_generators_are_neither_asked_nor_moved(sampler):
    torch.manual_seed(1)
    one = draw(sampler)
    torch.manual_seed(2)
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())
    other = draw(sampler)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), repr(np.random.get_state())) == before[1:]
    assert equal(one, other)


# How fast it is.


class Waits(TorchDispatchMode):
    """Counts what would wait for an accelerator."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_bool = name == "index" and any(
            ids is not None and ids.dtype == torch.bool for ids in args[1]
        )
        self.count += by_bool or any(name.startswith(word) for word in WAITING)
        return func(*args, **(kwargs or {}))


def test_no_number_is_read_back_from_the_device(sampler):
    with Waits() as waits:
        draw(sampler)
    assert (waits.count > 0) == (type(sampler).__name__ in READS_FROM_DEVICE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_drawing_never_waits_for_the_gpu(sampler):
    if type(sampler).__name__ in READS_FROM_DEVICE:
        pytest.skip("its sizes depend on what was drawn")
    draw(sampler, device="cuda")  # the first call prepares kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        draw(sampler, device="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")


# How it is configured, and what is refused.


@pytest.mark.parametrize("with_all_options", [False, True])
def test_a_yaml_makes_it_by_its_class_path(sampler_class, with_all_options):
    options = inspect.signature(sampler_class).parameters if with_all_options else {}
    defaults = {name: option.default for name, option in options.items()}
    entry = {
        "class_path": f"jepa.masking.{sampler_class.__name__}",
        "init_args": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in defaults.items()
        },
    }
    parser = ArgumentParser()
    parser.add_argument("--masks", type=list[MaskSampler])
    config = parser.parse_string(yaml.safe_dump({"masks": [entry]}))
    (made,) = parser.instantiate_classes(config)["masks"]
    assert type(made) is sampler_class
    assert vars(made) == vars(sampler_class())


def test_a_misspelt_option_is_refused(sampler_class):
    with pytest.raises(TypeError, match="unexpected keyword argument 'fractoin'"):
        sampler_class(fractoin=0.5)


@pytest.mark.parametrize(
    ("batch", "grid", "words"),
    [
        (0, (4, 8, 8), "batch of at least 1 clip, got 0"),
        (2, (0, 8, 8), r"grid must be .* each at least 1, got \(0, 8, 8\)"),
        (2, (4, 8, -1), r"grid must be .* each at least 1, got \(4, 8, -1\)"),
        (2, (1, 1, 1), r"got 1|got grid \(1, 1, 1\)|in grid \(1, 1, 1\)"),
    ],
)
def test_a_grid_with_nothing_to_show_or_hide_is_refused(sampler, batch, grid, words):
    with pytest.raises(ValueError, match=words):
        draw(sampler, batch=batch, grid=grid)
