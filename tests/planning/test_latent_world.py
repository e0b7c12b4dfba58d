"""A tiny world model behind the planner's interface: units, shapes, faults, and what is counted."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from jepa.__main__ import main as jepa_main
from jepa.checkpoints.native import save_world_model
from jepa.models.world_model import ActionColumns
from planning.actions.space import ActionSpec, ActionSteps
from planning.costs import GoalDistance
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM
from planning.types import Latent

STATE = np.array([10.0, 20.0])
ACTIONS = torch.tensor([[[1.0, 0.5], [-2.0, 2.5], [0.0, 0.0]], [[2.5, 2.5]] * 3, [[0.0, -1.0]] * 3])


@pytest.fixture
def frame(rooms):
    return rooms().render(np.array([10.0, 20.0]))


@pytest.fixture(params=["slow", "patches"])
def world(request, make_model):
    return LatentWorld(make_model(latents=request.param))


def assert_same_latents(one, two, **tolerance):
    for field in ("tokens", "state"):
        np.testing.assert_allclose(getattr(one, field), getattr(two, field), **tolerance)


# What its actions are.


@pytest.mark.parametrize(
    ("mode", "reduction", "num_steps", "expected", "seconds"),
    [
        ("recorded", "equal", 1, ActionSteps(), None),
        ("concatenate", "equal", 3, ActionSteps(3, "one_after_the_other"), None),
        ("repeat", "equal", 3, ActionSteps(3, "repeated"), None),
        ("repeat", "mean", 3, ActionSteps(3, "repeated"), None),
        ("repeat", "sum", 3, ActionSteps(3, "in_equal_parts"), None),
        ("pose_difference", "equal", 1, ActionSteps(), 0.25),
    ],
)
def test_the_model_says_how_its_actions_become_steps(
    make_model, mode, reduction, num_steps, expected, seconds
):
    model = make_model(latents="patches")
    model.actions = ActionColumns(
        ("dx", "dy"), ("1", "1"), (-1.0, -1.0), (1.0, 1.0), 4.0, mode, reduction, num_steps
    )
    world = LatentWorld(model)
    assert (world.action_steps, world.seconds_per_step) == (expected, seconds)


def test_a_model_that_says_nothing_acts_step_by_step(make_model):
    world = LatentWorld(make_model(latents="patches"))
    assert (world.action_steps, world.seconds_per_step) == (ActionSteps(), None)


# Encoding.


def test_a_frame_becomes_the_latent_that_the_model_gives_it(world, frame):
    latent = world.encode(frame, STATE)
    video = torch.from_numpy(frame).permute(2, 0, 1)[None, :, None]
    assert torch.equal(latent.tokens, world.model.encode(video)[0, 0])
    expected = (1, 4) if world.model.latents.output == "residual" else (16, 48)
    assert latent.tokens.shape == expected


def test_the_state_is_normalised_by_hand(world, frame):
    """(10 - 16) / 8 and (20 - 15) / 7."""
    assert world.encode(frame, STATE).state.tolist() == pytest.approx([-0.75, 5 / 7])


def test_a_goal_needs_no_state(world, frame):
    assert world.encode(frame).state is None


def test_a_frame_is_at_no_distance_from_itself_and_at_some_from_others(world, rooms):
    near, far = (rooms().render(np.array(place)) for place in ([8.0, 8.0], [25.0, 26.0]))
    goal = world.encode(near)
    assert world.distance(world.encode(near).tokens, goal.tokens) == 0
    assert world.distance(world.encode(far).tokens, goal.tokens) > 0


def test_each_encoded_frame_is_one_call_of_the_encoder_and_counted(world, frame):
    calls = []
    world.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    for number in range(1, 4):
        world.encode(frame, STATE)
        assert len(calls) == world.num_encoded_frames == number


def test_neither_rollouts_nor_a_whole_plan_encode_anything(world, frame):
    start, goal = world.encode(frame, STATE), world.encode(frame)
    calls = []
    world.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    CEM(horizon=2, num_samples=8, num_elites=2).plan(
        world,
        start,
        cost=GoalDistance(goal, world.distance),
        action_spec=ActionSpec(("dx", "dy"), ("pixel/step",) * 2, (-2.5, -2.5), (2.5, 2.5)),
        generator=torch.Generator().manual_seed(0),
    )
    assert calls == []
    assert world.num_encoded_frames == 2


def test_a_frame_is_not_changed_and_may_be_read_only_or_a_view(world, frame):
    before = frame.copy()
    expected = world.encode(frame).tokens
    frame.flags.writeable = False
    mirrored = np.ascontiguousarray(frame[:, ::-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(world.encode(frame).tokens, expected)
        assert torch.equal(world.encode(mirrored[:, ::-1]).tokens, expected)
    assert np.array_equal(frame, before)


# What is refused.


@pytest.mark.parametrize(
    ("bad", "got"),
    [
        (np.zeros((64, 64, 3), np.uint8), r"\(64, 64, 3\) uint8"),
        (np.zeros((3, 32, 32), np.uint8), r"\(3, 32, 32\) uint8"),
        (np.zeros((32, 32), np.uint8), r"\(32, 32\) uint8"),
        (np.zeros((1, 32, 32, 3), np.uint8), r"\(1, 32, 32, 3\) uint8"),
        (np.zeros((32, 32, 3), np.float32), r"\(32, 32, 3\) float32"),
        (np.zeros((32, 32, 3), np.int64), r"\(32, 32, 3\) int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_frame_of_another_size_or_type_is_refused(world, bad, got):
    with pytest.raises(ValueError, match=rf"frame must be \(32, 32, 3\) uint8, got {got}"):
        world.encode(bad)
    assert world.num_encoded_frames == 0


@pytest.mark.parametrize(
    "bad", [np.zeros(3), np.zeros((1, 2)), [np.nan, 1.0], [1.0, np.inf], [1.0, -np.inf]], ids=str
)
def test_a_state_that_does_not_fit_or_is_not_finite_is_refused(world, frame, bad):
    with pytest.raises(ValueError, match=r"state must be \(2,\) finite numbers, got"):
        world.encode(frame, bad)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_encoder_gives_no_latent(world, frame, value):
    with torch.no_grad():
        world.model.encoder.patch_embed.weight[0, 0, 0, 0, 0] = value
    with pytest.raises(FloatingPointError, match="encoder returned NaN or infinite latents"):
        world.encode(frame, STATE)


def test_broken_dynamics_give_no_plan(world, frame):
    start, goal = world.encode(frame, STATE), world.encode(frame)
    with torch.no_grad():
        world.model.dynamics.proj.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="all 8 imagined costs are NaN or infinite"):
        CEM(horizon=2, num_samples=8, num_elites=2).plan(
            world,
            start,
            cost=GoalDistance(goal, world.distance),
            action_spec=ActionSpec(("dx", "dy"), ("pixel/step",) * 2, (-2.5, -2.5), (2.5, 2.5)),
            generator=torch.Generator().manual_seed(0),
        )


def test_a_rollout_without_a_state_is_refused_where_the_model_uses_one(world, frame):
    with pytest.raises(ValueError, match=r"needs the robot's state: call encode\(frame, state\)"):
        world.rollout(world.encode(frame), ACTIONS)


@pytest.mark.parametrize("shape", [(4, 3, 1), (4, 3, 3), (3, 2)])
def test_actions_that_do_not_fit_are_refused(world, frame, shape):
    with pytest.raises(ValueError, match=r"actions must be \(samples, horizon, 2\), got"):
        world.rollout(world.encode(frame, STATE), torch.zeros(shape))


def test_a_chunk_must_hold_a_sample(make_model):
    with pytest.raises(ValueError, match="max_samples_per_chunk must be at least 1, got 0"):
        LatentWorld(make_model(), max_samples_per_chunk=0)


# Imagination.


@torch.no_grad()
def test_a_rollout_takes_raw_units_and_normalises_them(world, frame):
    imagined = world.rollout(world.encode(frame, STATE), ACTIONS)
    tokens = world.encode(frame).tokens.expand(3, -1, -1)
    state = torch.tensor([[-0.75, 5 / 7]]).expand(3, -1)
    actions = (ACTIONS - torch.tensor([0.1, -0.2])) / torch.tensor([1.4, 1.5])
    by_hand = world.model.dynamics.rollout(tokens, state, actions)
    assert_same_latents(imagined, by_hand, rtol=1e-5, atol=1e-6)
    assert imagined.tokens.shape[:2] == imagined.state.shape[:2] == (3, 3)


@torch.no_grad()
def test_a_rollout_is_one_step_after_the_other(world, frame):
    start = world.encode(frame, STATE)
    whole = world.rollout(start, ACTIONS)
    shorter = world.rollout(start, ACTIONS[:, :2])
    np.testing.assert_allclose(whole.tokens[:, :2], shorter.tokens, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_a_rollout_in_chunks_is_the_rollout_of_the_whole(make_model, frame, chunk):
    model = make_model()
    whole, chunked = LatentWorld(model), LatentWorld(model, max_samples_per_chunk=chunk)
    sizes = []
    actions = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
    expected = whole.rollout(whole.encode(frame, STATE), actions)
    model.dynamics.transformer.norm.register_forward_hook(lambda *io: sizes.append(len(io[2])))
    imagined = chunked.rollout(chunked.encode(frame, STATE), actions)
    assert_same_latents(imagined, expected, rtol=1e-4, atol=1e-5)
    assert max(sizes) == chunk


def test_each_sample_is_imagined_from_its_own_actions(world, frame):
    with torch.no_grad():
        imagined = world.rollout(world.encode(frame, STATE), ACTIONS[[0, 1, 0]])
    torch.testing.assert_close(imagined.tokens[0], imagined.tokens[2])
    assert (imagined.tokens[0] - imagined.tokens[1]).abs().max() > 1e-4


@torch.no_grad()
def test_a_model_without_proprioception_sees_pixels_only(make_model, frame):
    world = LatentWorld(make_model(uses_state=False))
    goal_like = world.rollout(world.encode(frame), ACTIONS)
    for state in (STATE, [np.nan, 1.0], np.zeros(5)):
        imagined = world.rollout(world.encode(frame, state), ACTIONS)
        assert torch.equal(imagined.tokens, goal_like.tokens)
    assert goal_like.state.shape == (3, 3, 0)


# Many at once, in the memory that there is.


def random_start(model, *, batch=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (model.latents.grid[0] * model.latents.grid[1], model.latents.dim)
    tokens = torch.randn(*batch, *shape, generator=generator)
    return Latent(tokens, torch.randn(*batch, model.dynamics.state_dim, generator=generator))


def random_actions(*leading, seed=0):
    return torch.randn(*leading, 2, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def step_by_step(model, start, actions):
    """Imagines with the whole prefix computed again at every step: no cache, no chunks."""
    count = len(actions)
    frames = start.tokens.repeat(count, 1, 1, 1)
    states = start.state.repeat(count, 1, 1)
    normalized = model.normalize_actions(actions)
    for step in range(actions.shape[1]):
        prediction = model.dynamics(frames, states, normalized[:, : step + 1])
        frames = torch.cat((frames, prediction.tokens[:, -1:]), 1)
        states = torch.cat((states, prediction.state[:, -1:]), 1)
    return Latent(frames[:, 1:], states[:, 1:])


@pytest.mark.parametrize("latents", ["slow", "patches"])
@pytest.mark.parametrize("chunk", [None, 4])
def test_a_rollout_equals_computing_the_whole_prefix_at_every_step(make_model, latents, chunk):
    model = make_model(latents=latents)
    world = LatentWorld(model, max_samples_per_chunk=chunk)
    start, actions = random_start(model), random_actions(9, 4)
    with torch.no_grad():
        imagined = world.rollout(start, actions)
    assert_same_latents(imagined, step_by_step(model, start, actions), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [None, 2, 5, 7, 100])
def test_many_environments_at_once_are_each_by_itself(make_model, chunk):
    model = make_model(latents="patches")
    world = LatentWorld(model, max_samples_per_chunk=chunk)
    starts, actions = random_start(model, batch=(3,)), random_actions(3, 5, 2)
    together = world.rollout(starts, actions)
    assert together.tokens.shape == (3, 5, 2, 16, 48)
    for index in range(3):
        alone = world.rollout(starts.map(lambda x, index=index: x[index]), actions[index])
        assert_same_latents(together.map(lambda x, index=index: x[index]), alone, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [None, 4, 13])
@pytest.mark.parametrize("num_environments", [None, 3])
def test_remembered_frames_count_as_if_they_were_computed_each_time(
    make_model, num_environments, chunk
):
    model = make_model(latents="patches")
    world = LatentWorld(model, max_samples_per_chunk=chunk)
    batch = () if num_environments is None else (num_environments,)
    past = random_start(model, batch=(*batch, 2), seed=1)
    start, done = random_start(model, batch=batch), random_actions(*batch, 2, seed=2)
    actions = random_actions(*batch, 6, 2)
    imagined = world.rollout(start, actions, memory=world.remember(past, done))
    for index in range(num_environments or 1):
        known, begin, wanted, found, of = past, start, done, imagined, actions
        if num_environments:
            known, begin, found = (
                x.map(lambda part, index=index: part[index]) for x in (past, start, imagined)
            )
            wanted, of = done[index], actions[index]
        frames = torch.cat((known.tokens, begin.tokens[None])).expand(6, -1, -1, -1)
        states = torch.cat((known.state, begin.state[None])).expand(6, -1, -1)
        all_actions = torch.cat((wanted.expand(6, -1, -1), of[:, :1]), 1)
        expected = model.dynamics(frames, states, model.normalize_actions(all_actions))
        first = found.map(lambda x: x[:, 0])
        last = Latent(expected.tokens[:, -1], expected.state[:, -1])
        assert_same_latents(first, last, rtol=0, atol=1e-5)
    forgotten = world.rollout(start, actions)
    assert (forgotten.tokens - imagined.tokens).abs().max() > 1e-3


@torch.no_grad()
def test_what_all_samples_share_is_computed_once(make_model):
    """Before the first attention only the token of the action is each sample's own."""
    model = make_model(latents="patches")
    world, rows = LatentWorld(model, max_samples_per_chunk=8), []
    embed, qkv = model.dynamics.embed, model.dynamics.transformer.blocks[0].attn.qkv
    for layer in (embed, qkv):
        layer.register_forward_hook(lambda _, __, out: rows.append(out.flatten(0, -2).shape[0]))
    world.rollout(random_start(model), random_actions(8, 1))
    assert rows == [16, 8, 17]  # patches; actions; state and patches


def test_gradients_go_through_a_rollout_in_chunks(make_model):
    model = make_model(latents="patches")
    gradients = []
    for chunk in (None, 2):
        actions = random_actions(5, 2).requires_grad_()
        world = LatentWorld(model, max_samples_per_chunk=chunk)
        world.rollout(random_start(model), actions).tokens.square().sum().backward()
        gradients.append(actions.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_memory_that_is_too_small_halves_the_chunks_and_changes_nothing(make_model, caplog):
    model = make_model(latents="patches")
    world, actions = LatentWorld(model), random_actions(12, 2)
    expected = world.rollout(random_start(model), actions)

    def refuse_many(module, inputs):
        if len(inputs[0]) > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")

    model.dynamics.transformer.blocks[-1].register_forward_pre_hook(refuse_many)
    imagined = world.rollout(random_start(model), actions)
    assert_same_latents(imagined, expected, rtol=0, atol=1e-5)
    assert len(caplog.records) == 1
    assert "going on with 6" in caplog.text
    assert world.memory.limit == 3


def test_a_budget_is_kept_by_smaller_chunks(make_model):
    model, sizes = make_model(latents="patches"), []
    model.dynamics.transformer.norm.register_forward_hook(lambda *io: sizes.append(len(io[2])))
    start, actions = random_start(model), random_actions(16, 2)
    with torch.no_grad():
        LatentWorld(model, max_bytes=2**40).rollout(start, actions)
        LatentWorld(model, max_bytes=1).rollout(start, actions)
    assert sizes[:2] == [16, 16]
    assert set(sizes[2:]) == {1}


@torch.no_grad()
def test_bfloat16_imagines_nearly_the_same_and_leaves_the_model_alone(make_model):
    model = make_model(latents="patches")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exact, rough = LatentWorld(model), LatentWorld(model, precision="bf16")
    start, actions = random_start(model), random_actions(6, 3)
    expected, imagined = (world.rollout(start, actions) for world in (exact, rough))
    assert imagined.tokens.dtype == imagined.state.dtype == torch.float32
    off = (imagined.tokens - expected.tokens).abs()
    assert 1e-5 < off.mean() < 0.03
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_precision_that_there_is_not_is_refused(make_model):
    with pytest.raises(ValueError, match="precision must be fp32 or bf16 or screened, got 'fp8'"):
        LatentWorld(make_model(), precision="fp8")


def screened_and_exact(model, *, seed, **options):
    """Plans with and without screening; all sequences of the first round are imagined roughly."""
    low, high = (-2.5,) * 2, (2.5,) * 2
    spec = ActionSpec(names=("x", "y"), units=("1", "1"), low=low, high=high)
    start, goal = (random_start(model, seed=number) for number in (seed, seed + 100))
    planner = CEM(horizon=2, num_samples=64, num_elites=6, num_iterations=4)
    plans = []
    for precision in ("screened", "fp32"):
        world, made = LatentWorld(model, precision=precision), []
        make = world.screening
        world.screening = lambda cost, make=make, made=made: made.append(make(cost)) or made[-1]
        known = {} if "memory" not in options else {"memory": world.remember(*options["memory"])}
        cost = GoalDistance(goal, world.distance, "last")
        generator = torch.Generator().manual_seed(seed)
        plans.append(
            planner.plan(world, start, cost=cost, action_spec=spec, generator=generator, **known)
        )
        assert (precision == "screened") == (made[0] is not None and made[0].num_rough >= 64)
    return plans


@pytest.mark.parametrize("latents", ["slow", "patches"])
def test_a_planner_that_screens_finds_what_it_finds_in_float32(make_model, latents):
    model = make_model(latents=latents)
    for seed in range(3):
        screened, exact = screened_and_exact(model, seed=seed)
        torch.testing.assert_close(screened.actions, exact.actions, rtol=0, atol=1e-5)
        assert screened.cost == pytest.approx(exact.cost, rel=1e-5)


def test_screening_counts_frames_before_the_start(make_model):
    model = make_model(latents="patches")
    past = random_start(model, batch=(2,), seed=1)
    known = {"memory": (past, random_actions(2, seed=2))}
    screened, exact = screened_and_exact(model, seed=0, **known)
    assert screened.cost == pytest.approx(exact.cost, rel=1e-5)
    without, _ = screened_and_exact(model, seed=0)
    assert abs(without.cost - exact.cost) > 1e-4


@torch.no_grad()
def test_the_screened_world_imagines_in_float32_itself(make_model):
    model = make_model(latents="patches")
    worlds = LatentWorld(model, precision="screened"), LatentWorld(model)
    start, actions = random_start(model), random_actions(5, 3)
    assert_same_latents(*(world.rollout(start, actions) for world in worlds), rtol=0, atol=0)
    assert (worlds[0].precision, worlds[1].screening(None)) == ("screened", None)


def test_an_ensemble_is_not_screened(make_model):
    model = make_model()
    model.dynamics.num_members = 5
    with pytest.raises(ValueError, match="'screened' is not for an ensemble"):
        LatentWorld(model, precision="screened")


def test_starts_and_actions_of_different_environments_are_refused(make_model):
    model = make_model(latents="patches")
    with pytest.raises(ValueError, match="there are 3 starts and actions for 2"):
        LatentWorld(model).rollout(random_start(model, batch=(3,)), random_actions(2, 5, 1))


def warnings_of(caplog):
    return [record for record in caplog.records if record.levelname == "WARNING"]


@torch.no_grad()
def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(make_model, caplog, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("no working C++ compiler")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx_inner", broken)
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", broken)
    model = make_model(latents="patches")
    start, actions = random_start(model), random_actions(3, 1)
    expected = LatentWorld(model).rollout(start, actions)
    world = LatentWorld(model, is_compiled=True)
    for _ in range(2):
        assert_same_latents(world.rollout(start, actions), expected, rtol=0, atol=1e-5)
    assert len(warnings_of(caplog)) == 1
    assert "cannot be compiled here, and run as they are" in caplog.text


@pytest.mark.slow
@torch.no_grad()
def test_compiled_dynamics_imagine_the_same_in_chunks_of_one_size(make_model, caplog):
    model = make_model(latents="patches")
    world = LatentWorld(model, is_compiled=True, max_samples_per_chunk=4)
    start, actions = random_start(model), random_actions(6, 2)
    expected = LatentWorld(model).rollout(start, actions)
    assert_same_latents(world.rollout(start, actions), expected, rtol=0, atol=1e-5)
    assert [record.message for record in warnings_of(caplog)] == []


# The model.


def test_states_are_told_in_their_units_and_members_are_counted(make_model):
    world = LatentWorld(make_model())
    units, place = world.state_units, np.array([12.0, 20.0], np.float32)
    normalised = world.encode(np.zeros((32, 32, 3), np.uint8), place).state
    assert units.raw(normalised).tolist() == pytest.approx([12.0, 20.0])
    assert (world.num_members, world.is_compiled) == (1, False)
    assert LatentWorld(make_model(uses_state=False)).state_units is None


@pytest.mark.parametrize("device", [None, "cpu"])
def test_the_model_is_put_in_evaluation_mode_and_described(make_model, device):
    world = LatentWorld(make_model().train(), device=device)
    assert not any(module.training for module in world.model.modules())
    assert (world.action_dim, world.image_size, world.device.type) == (2, 32, "cpu")


def test_a_saved_world_imagines_the_same(world, frame, tmp_path):
    save_world_model(world.model, tmp_path / "world_model")
    for folder in (tmp_path, tmp_path / "world_model"):
        loaded = LatentWorld.load(folder)
        with torch.no_grad():
            one, two = (w.rollout(w.encode(frame, STATE), ACTIONS) for w in (world, loaded))
        assert torch.equal(one.tokens, two.tokens)
        assert torch.equal(one.state, two.state)


# An arm: V-JEPA 2-AC, converted from the official format.


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arm")
    golden = Path(__file__).parents[1] / "golden" / "vjepa2_ac"
    command = [
        "convert",
        golden / "checkpoint.pt",
        folder / "arm",
        "--config",
        golden / "config.json",
    ]
    assert jepa_main(list(map(str, command))) == 0
    return LatentWorld.load(folder / "arm")


@torch.inference_mode()
def test_a_converted_arm_imagines_latents_and_poses(arm):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    pose = np.array([0.4, 0.0, 0.3, 3.1, 0.0, 0.1, 0.5], dtype=np.float32)
    start, goal = arm.encode(frame, pose), arm.encode(frame)
    actions = torch.zeros(3, 2, 7)
    actions[1, :, 0], actions[2, :, 6] = 0.05, 1.0  # forward, and close the gripper
    imagined = arm.rollout(start, actions)
    assert imagined.tokens.shape == (3, 2, 9, 48)
    torch.testing.assert_close(imagined.state[0, 1], torch.from_numpy(pose), atol=1e-5, rtol=0)
    assert imagined.state[1, 1, 0].item() == pytest.approx(0.5)
    assert imagined.state[2, 1, 6].item() == 1.0  # closed, and not more than that
    assert arm.distance(imagined.tokens[:, -1], goal.tokens).shape == (3,)
