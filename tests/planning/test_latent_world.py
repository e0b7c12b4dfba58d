"""A tiny world model behind the planner's interface: units, shapes, faults, and what is counted."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from jepa.__main__ import main as jepa_main
from jepa.checkpoints.native import save_world_model
from jepa.models.world_model import ActionColumns
from planning.action_space import ActionSpec, ActionSteps
from planning.costs import GoalDistance
from planning.latent_world import LatentWorld
from planning.planners.cem import CEM

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


# The model.


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
