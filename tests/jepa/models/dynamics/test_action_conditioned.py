import re

import pytest
import torch
import torch.nn.functional as F

from jepa.models import ActionConditionedPredictor
from jepa.models.poses import next_pose
from jepa.models.rope import rope_angles, rotation

BATCH, TIME, GRID, LATENT_DIM, ACTION_DIM = 3, 5, (2, 3), 10, 2


def make(*, state_dim=4, output="normed"):
    torch.manual_seed(0)
    dynamics = ActionConditionedPredictor(
        latent_dim=LATENT_DIM,
        action_dim=ACTION_DIM,
        state_dim=state_dim,
        grid=GRID,
        output=output,
        dim=24,
        depth=2,
        num_heads=2,
    )
    with torch.no_grad():  # large enough that everything matters
        for parameter in dynamics.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return dynamics


def make_windows(state_dim=4):
    tokens = torch.randn(BATCH, TIME, GRID[0] * GRID[1], LATENT_DIM)
    return tokens, torch.randn(BATCH, TIME, state_dim), torch.randn(BATCH, TIME, ACTION_DIM)


@pytest.fixture(params=[("normed", 4), ("residual", 4), ("normed", 0), ("residual", 0)], ids=str)
def world(request):
    output, state_dim = request.param
    return make(state_dim=state_dim, output=output), make_windows(state_dim)


def close(one, two):
    for left, right in zip(one[:2], two, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


def test_a_prediction_looks_like_what_is_predicted(world):
    dynamics, windows = world
    predicted = dynamics(*windows)
    assert predicted.tokens.shape == windows[0].shape
    assert predicted.state.shape == windows[1].shape


@torch.no_grad()
def test_of_frames_their_keys_and_values_are_kept_and_of_a_shared_one_once():
    dynamics, windows = make(), make_windows()
    memory = dynamics.remember(*(part[:1, :1] for part in windows))
    for time in (1, 2):
        _, memory = dynamics.step(*(part[:, time] for part in windows), memory=memory)
    tensors = [x for block in memory for frame in block for x in frame]
    held = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    of_one_frame = 2 * 2 * (2 + 6) * 24 * 4  # blocks, keys and values, tokens, dim, bytes
    assert sum(held.values()) == of_one_frame * (1 + 2 * BATCH)


@torch.no_grad()
def test_of_a_last_frame_nothing_is_kept():
    dynamics, windows = make(), make_windows()
    _, first = dynamics.step(*(part[:, 0] for part in windows))
    _, kept = dynamics.step_features(*(part[:, 1] for part in windows), memory=first)
    _, none = dynamics.step_features(*(part[:, 1] for part in windows), memory=first, last_frame=1)
    assert (len(kept), none) == (2, [])


@pytest.mark.parametrize("changed", [0, 1, 2], ids=["tokens", "states", "actions"])
def test_the_future_does_not_change_earlier_predictions(changed):
    dynamics, windows = make(), make_windows()
    before = dynamics(*windows)
    windows[changed][:, 3] = torch.randn_like(windows[changed][:, 3])
    after = dynamics(*windows)
    close([part[:, :3] for part in after[:2]], [part[:, :3] for part in before[:2]])
    for time in (3, 4):  # and it does change the later ones
        assert not torch.allclose(after.tokens[:, time], before.tokens[:, time], atol=1e-3)
        assert not torch.allclose(after.state[:, time], before.state[:, time], atol=1e-3)


def test_steps_with_a_cache_equal_the_whole_at_once(world):
    dynamics, windows = world
    whole, cache = dynamics(*windows), None
    for time in range(TIME):
        step, cache = dynamics.step(*(part[:, time] for part in windows), memory=cache)
        close(step, (part[:, time] for part in whole[:2]))


def test_a_rollout_equals_feeding_predictions_back_without_a_cache(world):
    dynamics, (tokens, states, actions) = world
    imagined = dynamics.rollout(tokens[:, 0], states[:, 0], actions)
    tokens, states = tokens[:, :1], states[:, :1]
    for time in range(TIME):
        predicted = dynamics(tokens, states, actions[:, : time + 1])
        tokens = torch.cat((tokens, predicted.tokens[:, -1:]), dim=1)
        states = torch.cat((states, predicted.state[:, -1:]), dim=1)
    close(imagined, (tokens[:, 1:], states[:, 1:]))


def test_another_action_gives_another_future_from_that_step_on(world):
    dynamics, (tokens, states, actions) = world
    before = dynamics.rollout(tokens[:, 0], states[:, 0], actions).tokens
    actions[:, 2] += 1.0
    after = dynamics.rollout(tokens[:, 0], states[:, 0], actions).tokens
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert ((after - before)[:, 2:].abs().amax((-2, -1)) > 1e-2).all()


def test_a_cache_of_one_past_serves_many_samples():
    dynamics, (tokens, states, actions) = make(), make_windows()
    _, cache = dynamics.step(tokens[:1, 0], states[:1, 0], actions[:1, 0])
    shared, _ = dynamics.step(tokens[:, 1], states[:, 1], actions[:, 1], memory=cache)
    for part in (tokens, states, actions):
        part[:, 0] = part[:1, 0]
    whole = dynamics(tokens[:, :2], states[:, :2], actions[:, :2])
    close(shared, (part[:, 1] for part in whole[:2]))


def test_normed_latents_have_zero_mean_and_unit_variance():
    tokens = make(output="normed")(*make_windows()).tokens
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(tokens.shape[:-1]), atol=1e-5, rtol=0)
    variance = tokens.var(-1, unbiased=False)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-3, rtol=0)


def test_residual_dynamics_that_say_nothing_copy_the_latest_frame():
    dynamics, windows = make(output="residual"), make_windows()
    for head in (dynamics.proj, dynamics.state_proj):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    predicted = dynamics(*windows)
    assert torch.equal(predicted.tokens, windows[0])
    assert torch.equal(predicted.state, windows[1])


def test_time_counts_by_differences_only():
    """With all frames and actions alike, only a frame's own past can tell it from the others."""
    dynamics, windows = make(), make_windows()
    still = [part[:, :1].expand(-1, TIME, *part.shape[2:]) for part in windows]
    early = dynamics(*(part[:, :3] for part in still))
    cache, positions = None, dynamics._rotation
    dynamics._rotation = lambda first, *rest: positions(first + 7, *rest)
    for time in range(3):
        late, cache = dynamics.step(*(part[:, time] for part in still), memory=cache)
        close(late, (part[:, time] for part in early[:2]))


def test_the_order_of_the_past_matters():
    """In one layer, only the rotation in time can tell an earlier frame from a later one."""
    dynamics, windows = make(), make_windows()
    dynamics.transformer.blocks = dynamics.transformer.blocks[:1]
    before = dynamics(*windows)
    swapped = dynamics(*(part[:, [1, 0, 2, 3, 4]] for part in windows))
    assert not torch.allclose(swapped.tokens[:, -1], before.tokens[:, -1], atol=1e-3)


@pytest.mark.parametrize(("state_dim", "conditions"), [(4, 2), (0, 1)])
def test_patches_rotate_with_their_place_and_conditions_with_time_only(state_dim, conditions):
    places = []
    for time in (3, 4):
        places += [(time, 0, 0)] * conditions  # the action, and the state if there is one
        places += [(time, row, column) for row in range(2) for column in range(3)]
    expected = rotation(rope_angles(torch.tensor(places), head_dim=12))
    found = make(state_dim=state_dim)._rotation(3, 2, False, torch.device("cpu"))
    torch.testing.assert_close(found, expected)


def test_places_of_a_frame_are_told_apart():
    dynamics, (tokens, states, actions) = make(), make_windows()
    tokens = tokens[:, :, :1].expand(-1, -1, 6, -1)  # the same latent everywhere
    predicted = dynamics(tokens, states, actions).tokens
    assert not torch.allclose(predicted[:, :, 0], predicted[:, :, 1], atol=1e-2)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((3, 5, 5, 10), (3, 5, 4), (3, 5, 2)), "tokens must be (3, 5, 6, 10), got (3, 5, 5, 10)"),
        (((3, 5, 6, 9), (3, 5, 4), (3, 5, 2)), "tokens must be (3, 5, 6, 10), got (3, 5, 6, 9)"),
        (((3, 5, 6, 10), (3, 5, 0), (3, 5, 2)), "states must be (3, 5, 4), got (3, 5, 0)"),
        (((3, 5, 6, 10), (3, 5, 4), (3, 4, 2)), "actions must be (3, 5, 2), got (3, 4, 2)"),
    ],
)
def test_windows_that_do_not_fit_are_refused(shapes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        make()(*(torch.zeros(shape) for shape in shapes))


def test_a_rollout_without_an_action_is_refused():
    tokens, states, actions = make_windows()
    with pytest.raises(ValueError, match=r"at least one action, got \(3, 0, 2\)"):
        make().rollout(tokens[:, 0], states[:, 0], actions[:, :0])


def test_a_world_without_actions_is_refused():
    with pytest.raises(ValueError, match=r"action_dim must be at least 1 .* got 0 and 2"):
        ActionConditionedPredictor(latent_dim=8, action_dim=0, state_dim=2, grid=(2, 2))


# With the settings of V-JEPA 2-AC.


def make_arm(**options):
    torch.manual_seed(0)
    dynamics = ActionConditionedPredictor(
        latent_dim=LATENT_DIM,
        action_dim=7,
        state_dim=7,
        grid=GRID,
        dim=24,
        depth=2,
        num_heads=2,
        positions="rope_tiled",
        next_state="end_effector_pose",
        extrinsics_dim=6,
        **options,
    )
    with torch.no_grad():
        for parameter in dynamics.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return dynamics


def arm_windows():
    tokens = torch.randn(BATCH, TIME, 6, LATENT_DIM)
    poses, actions = torch.rand(BATCH, TIME, 7), 0.1 * torch.randn(BATCH, TIME, 7)
    return tokens, poses, actions


@pytest.mark.parametrize("has_place_embedding", [False, True])
@pytest.mark.parametrize("has_extrinsics", [False, True])
def test_an_arm_steps_with_a_cache_as_all_at_once(has_place_embedding, has_extrinsics):
    dynamics, windows = make_arm(has_place_embedding=has_place_embedding), arm_windows()
    camera = torch.randn(BATCH, TIME, 6) if has_extrinsics else None
    whole, cache = dynamics(*windows, extrinsics=camera), None
    for time in range(TIME):
        now = None if camera is None else camera[:, time]
        step, cache = dynamics.step(
            *(part[:, time] for part in windows), extrinsics=now, memory=cache
        )
        close(step, (part[:, time] for part in whole[:2]))


def test_the_next_pose_of_an_arm_is_pose_and_action():
    tokens, poses, actions = arm_windows()
    predicted = make_arm().rollout(tokens[:, 0], poses[:, 0], actions).state
    pose = poses[:, 0]
    for time in range(TIME):
        pose = next_pose(pose, actions[:, time])
        torch.testing.assert_close(predicted[:, time], pose)


def test_the_camera_matters_where_it_is_given():
    dynamics, windows = make_arm(), arm_windows()
    without = dynamics(*windows).tokens
    one, other = (
        dynamics(*windows, extrinsics=torch.full((3, 5, 6), x)).tokens for x in (0.0, 1.0)
    )
    assert not torch.allclose(without, one, atol=1e-2)
    assert not torch.allclose(one, other, atol=1e-2)


def test_an_absolute_latent_is_the_normed_one_before_the_norm():
    dynamics, windows = make_arm(), arm_windows()
    normed = dynamics(*windows).tokens
    dynamics.output = "absolute"
    absolute = dynamics(*windows).tokens
    torch.testing.assert_close(F.layer_norm(absolute, absolute.shape[-1:]), normed)
    assert not torch.allclose(absolute, normed, atol=1e-2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"next_state": "end_effector_pose"}, "states and actions of 7 numbers, got 4 and 2"),
        ({"positions": "sincos_3d"}, "the dynamics need rotary positions, got sincos_3d"),
    ],
)
def test_settings_that_do_not_fit_one_another_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ActionConditionedPredictor(
            latent_dim=10, action_dim=2, state_dim=4, grid=GRID, dim=24, num_heads=2, **options
        )


def test_extrinsics_for_a_model_without_are_refused():
    tokens, states, actions = make_windows()
    with pytest.raises(ValueError, match="takes no extrinsics: its extrinsics_dim is 0"):
        make()(tokens, states, actions, extrinsics=torch.zeros(BATCH, TIME, 6))


def test_extrinsics_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"extrinsics must be \(3, 5, 6\), got \(3, 5, 4\)"):
        make_arm()(*arm_windows(), extrinsics=torch.zeros(BATCH, TIME, 4))


# What is not computed twice.


@pytest.mark.parametrize("state_dim", [0, 4])
def test_samples_that_start_from_one_frame_share_it_and_imagine_the_same(state_dim):
    """An expanded view is recognised: its rows are one row in memory."""
    dynamics, (tokens, states, actions) = make(state_dim=state_dim), make_windows(state_dim)
    one = tokens[:1, 0].expand(BATCH, -1, -1), states[:1, 0].expand(BATCH, -1)
    rows = []
    hook = dynamics.embed.register_forward_hook(lambda _, __, out: rows.append(len(out)))
    shared = dynamics.rollout(*one, actions)
    assert rows == [1] + [BATCH] * (TIME - 1)
    hook.remove()
    close(shared, dynamics.rollout(*(part.clone() for part in one), actions)[:2])


def test_a_shared_start_has_the_gradient_of_all_samples():
    dynamics, (tokens, states, actions) = make(), make_windows()
    gradients = []
    for is_shared in (True, False):
        start = tokens[:1, 0].clone().requires_grad_()
        each = start.expand(BATCH, -1, -1), states[:1, 0].expand(BATCH, -1)
        if not is_shared:
            each = tuple(part.clone() for part in each)
        dynamics.rollout(*each, actions).tokens.square().sum().backward()
        gradients.append(start.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_rotary_tables_are_made_once_and_may_be_learned_with():
    dynamics, (tokens, states, actions) = make(), make_windows()
    with torch.inference_mode():
        dynamics.rollout(tokens[:, 0], states[:, 0], actions)
    made = dict(dynamics._tables)
    assert len(made) == TIME
    dynamics.rollout(tokens[:, 0], states[:, 0], actions).tokens.sum().backward()
    assert all(dynamics._tables[wish] is table for wish, table in made.items())


def test_the_last_step_of_a_rollout_keeps_nothing():
    dynamics, (tokens, states, actions) = make(), make_windows()
    kept = []
    step = dynamics.step_features

    def noted(*arguments, **options):
        features, memory = step(*arguments, **options)
        kept.append(len(memory))
        return features, memory

    dynamics.step_features = noted
    dynamics.rollout(tokens[:, 0], states[:, 0], actions)
    assert kept == [2] * (TIME - 1) + [0]
