from dataclasses import replace

import pytest
import torch

from data_pipelines.trajectories import ColumnStatistics
from jepa.checkpoints.native import load_world_model
from jepa.models import normalize_pixels
from jepa.models.dynamics import GRU, AdaLN
from jepa.models.latents import PatchTokens, SlowFeatures
from jepa.models.world_model import ActionColumns, ColumnScaling, LatentWorldModel

SCALING = ColumnScaling(
    state_mean=(1.0, 2.0, 0.3),
    state_std=(2.0, 0.5, 1e-17),  # the last column never changes
    action_mean=(0.5, 0.1),
    action_std=(0.25, 0.0),  # neither does this one
)


@pytest.fixture
def make_world(make_encoder):
    def make(*, uses_state=True, latents=None, actions=None):
        world = LatentWorldModel(
            make_encoder(),
            latents or PatchTokens(),
            scaling=SCALING,
            uses_state=uses_state,
            dim=24,
            depth=1,
            num_heads=2,
            actions=actions,
        )
        return world.eval()

    return make


@pytest.fixture
def frames():
    return torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)


STATISTICS = ColumnStatistics(
    state_mean=(5.0, 1.0),
    state_std=(2.0, 0.0),
    action_mean=(0.5,),
    action_std=(0.25,),
    state_quantile_01=(2.0, 1.0),
    state_quantile_99=(12.0, 1.0),
    action_quantile_01=(-4.0,),
    action_quantile_99=(0.0,),
)


def test_a_scaling_is_of_mean_and_spread_or_of_quantiles():
    assert ColumnScaling.of(STATISTICS) == ((5.0, 1.0), (2.0, 0.0), (0.5,), (0.25,))
    assert ColumnScaling.of(STATISTICS, "quantiles") == ([7, 1], [5, 0], [-2], [2])


def test_with_quantiles_the_first_and_last_percent_are_at_minus_one_and_one(make_encoder):
    world = LatentWorldModel(
        make_encoder(),
        PatchTokens(),
        scaling=ColumnScaling.of(STATISTICS, "quantiles"),
        uses_state=True,
        dim=24,
        depth=1,
        num_heads=2,
    )
    states = torch.tensor([[2.0, 1.0], [12.0, 1.0], [7.0, 1.0], [17.0, 1.0]])
    scaled = [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [2.0, 0.0]]  # outliers are not cut off
    torch.testing.assert_close(world.normalize_states(states), torch.tensor(scaled))
    actions = world.normalize_actions(torch.tensor([[-4.0], [0.0]]))
    torch.testing.assert_close(actions, torch.tensor([[-1.0], [1.0]]))


def test_quantiles_that_nobody_noted_are_refused():
    old = replace(STATISTICS, action_quantile_01=(), action_quantile_99=())
    with pytest.raises(ValueError, match="nobody noted the quantiles of the action columns"):
        ColumnScaling.of(old, "quantiles")
    with pytest.raises(ValueError, match="normaliser must be mean_std or quantiles, got 'minmax'"):
        ColumnScaling.of(STATISTICS, "minmax")
    stateless = replace(
        STATISTICS, state_mean=(), state_std=(), state_quantile_01=(), state_quantile_99=()
    )
    assert ColumnScaling.of(stateless, "quantiles") == ([], [], [-2], [2])


def test_encoding_is_pixels_encoder_latent_space(make_world, frames):
    world = make_world()
    patches = world.encoder.encode_frames(normalize_pixels(frames))
    torch.testing.assert_close(world.encode_patches(frames), patches)
    torch.testing.assert_close(world.encode(frames), world.latents(patches))
    assert not world.encode(frames).requires_grad


def test_raw_units_become_zero_mean_and_unit_variance_and_constants_zero(make_world):
    world = make_world()
    states = world.normalize_states(torch.tensor([[1.0, 2.0, 0.3], [3.0, 3.0, 0.3]]))
    torch.testing.assert_close(states, torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0]]))
    actions = world.normalize_actions(torch.tensor([[0.75, 0.1]]))
    torch.testing.assert_close(actions, torch.tensor([[1.0, 0.0]]))


def test_teacher_forcing_and_rollout_agree_on_the_first_step(make_world, frames):
    world = make_world()
    latents, states, actions = world.encode(frames), torch.randn(2, 4, 3), torch.randn(2, 4, 2)
    forced = world(latents, states, actions)
    imagined = world.rollout(latents[:, 0], world.normalize_states(states[:, 0]), actions)
    torch.testing.assert_close(imagined.tokens[:, 0], forced.tokens[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(imagined.state[:, 0], forced.state[:, 0], atol=1e-5, rtol=1e-4)


def test_a_world_of_pixels_alone_ignores_states(make_world, frames):
    world = make_world(uses_state=False)
    latents, actions = world.encode(frames), torch.randn(2, 4, 2)
    one, two = (world(latents, states, actions) for states in torch.randn(2, 2, 4, 3))
    assert torch.equal(one.tokens, two.tokens)
    assert one.state.shape == (2, 4, 0)


def test_the_encoder_is_frozen_and_the_dynamics_are_not(make_world):
    world = make_world()
    assert not any(parameter.requires_grad for parameter in world.encoder.parameters())
    assert all(parameter.requires_grad for parameter in world.dynamics.parameters())


def test_the_latent_space_decides_what_the_dynamics_predict(make_world):
    latents = SlowFeatures(num_features=6, num_tokens=2)
    dynamics = make_world(latents=latents).dynamics
    assert (dynamics.output, dynamics.grid, dynamics.proj.out_features) == ("residual", (1, 2), 3)
    dynamics = make_world().dynamics
    assert (dynamics.output, dynamics.grid, dynamics.proj.out_features) == ("normed", (4, 4), 48)


def test_states_and_actions_of_another_world_are_refused(make_world):
    world = make_world()
    with pytest.raises(ValueError, match=r"states must have 3 columns.* got \(2, 5\)"):
        world.normalize_states(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"actions must have 2 columns.* got \(2, 4\)"):
        world.normalize_actions(torch.zeros(2, 4))


@pytest.mark.parametrize("setting", [{"dim": -24}, {"depth": 0}, {"num_heads": 1.5}])
def test_dynamics_of_nonsense_are_refused(make_encoder, setting):
    sizes = {"dim": 24, "depth": 1, "num_heads": 2} | setting
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be a whole number from 1"):
        LatentWorldModel(make_encoder(), PatchTokens(), scaling=SCALING, uses_state=True, **sizes)


def test_other_dynamics_are_built_for_the_latents_and_remember_the_past(make_encoder, frames):
    world = LatentWorldModel(
        make_encoder(), PatchTokens(), scaling=SCALING, uses_state=True, dynamics=GRU(dim=24),
        context_frames=2,
    ).eval()  # fmt: skip
    dynamics = world.dynamics
    assert (dynamics.latent_dim, dynamics.grid, dynamics.output) == (48, (4, 4), "normed")
    assert (dynamics.action_dim, dynamics.state_dim) == (2, 3)
    latents, states, actions = world.encode(frames), torch.randn(2, 4, 3), torch.randn(2, 4, 2)
    felt = world.normalize_states(states)
    memory = world.remember(latents[:, :3], felt[:, :3], actions[:, :3])
    imagined = world.rollout(latents[:, 3], felt[:, 3], actions[:, 3:], memory=memory)
    forced = world(latents, states, actions)
    torch.testing.assert_close(imagined.tokens[:, 0], forced.tokens[:, 3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(imagined.state[:, 0], forced.state[:, 3], atol=1e-5, rtol=1e-4)


def test_settings_of_two_kinds_of_dynamics_are_refused(make_encoder):
    settings = {"scaling": SCALING, "uses_state": True, "dynamics": GRU(dim=24)}
    with pytest.raises(ValueError, match="dim=24 would be of the default dynamics, but GRU is"):
        LatentWorldModel(make_encoder(), PatchTokens(), **settings, dim=24)
    with pytest.raises(ValueError, match="context_frames must be a whole number from 1"):
        LatentWorldModel(make_encoder(), PatchTokens(), **settings, context_frames=0)
    with pytest.raises(ValueError, match="context_frames=4 exceeds the 3 frames that AdaLN sees"):
        LatentWorldModel(
            make_encoder(), PatchTokens(), **settings | {"dynamics": AdaLN()}, context_frames=4
        )


ACTIONS = ActionColumns(
    ("dx@0", "dx@1"), ("metres",) * 2, (-1.0,) * 2, (1.0,) * 2, 5.0, "concatenate", "equal", 2
)


def test_what_actions_mean_is_saved_with_the_model(make_world, tmp_path):
    assert make_world().actions is None and "actions" not in make_world().config
    make_world(actions=ACTIONS).save_pretrained(tmp_path)
    assert load_world_model(tmp_path).actions == ACTIONS


def test_meanings_of_other_columns_than_the_scaling_has_are_refused(make_world):
    with pytest.raises(ValueError, match=r"'names': 3, .* the scaling has 2 columns of actions"):
        make_world(actions=ACTIONS._replace(names=("a", "b", "c")))
