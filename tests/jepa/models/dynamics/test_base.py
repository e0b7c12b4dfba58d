"""What every architecture owes the interface; members are found by walking the folder."""

import importlib
import inspect
import pkgutil
import re

import pytest
import torch

import jepa.models.dynamics
from jepa.models.dynamics import GRU, ActionConditionedPredictor, AdaLN, Dynamics, Ensemble
from jepa.models.dynamics.base import Prediction, map_memory

BATCH, TIME, GRID, LATENT_DIM, STATE_DIM, ACTION_DIM = 3, 7, (2, 3), 10, 4, 2

# How each is made small. A new file has to be added here, or the first test says so.
SMALL = {
    "ActionConditionedPredictor": [
        lambda: ActionConditionedPredictor(dim=24, depth=2, num_heads=2)
    ],
    "AdaLN": [
        lambda: small_adaln(context_frames=1),
        lambda: small_adaln(context_frames=3),
        lambda: small_adaln(context_frames=20, projector_dim=16),
    ],
    "GRU": [lambda: GRU(dim=24, depth=2)],
    "Ensemble": [
        lambda: Ensemble(small_adaln(context_frames=3), num_members=3, hidden_dim=16),
        lambda: Ensemble(GRU(dim=24), num_members=2, hidden_dim=16),
        lambda: Ensemble(
            ActionConditionedPredictor(dim=24, depth=1, num_heads=2), num_members=2, hidden_dim=8
        ),
    ],
}
MAKERS = [(name, index) for name, makers in SMALL.items() for index in range(len(makers))]
SIZES = [("normed", 4, (2, 3)), ("residual", 4, (1, 1)), ("residual", 0, (2, 3))]


def small_adaln(**options):
    return AdaLN(dim=24, depth=2, num_heads=3, head_dim=12, mlp_dim=32, dropout=0, **options)


def make(name, index=0, *, output="normed", state_dim=STATE_DIM, grid=GRID, disturbance=0.2):
    torch.manual_seed(0)
    dynamics = SMALL[name][index]()
    dynamics.build(
        latent_dim=LATENT_DIM, action_dim=ACTION_DIM, state_dim=state_dim, grid=grid, output=output
    )
    with torch.no_grad():  # large enough that everything matters
        for parameter in dynamics.parameters():
            parameter.add_(disturbance * torch.randn_like(parameter))
    return dynamics.eval()


def make_windows(state_dim=STATE_DIM, grid=GRID, time=TIME):
    tokens = torch.randn(BATCH, time, grid[0] * grid[1], LATENT_DIM)
    return tokens, torch.randn(BATCH, time, state_dim), torch.randn(BATCH, time, ACTION_DIM)


@pytest.fixture(params=MAKERS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def maker(request):
    return request.param


@pytest.fixture(params=SIZES, ids=str)
def world(request, maker):
    output, state_dim, grid = request.param
    dynamics = make(*maker, output=output, state_dim=state_dim, grid=grid)
    return dynamics, make_windows(state_dim, grid)


def close(one, two):
    for left, right in zip(one, two, strict=True):
        assert (left is None) == (right is None)
        if left is not None:
            torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)


def at(prediction, time):
    return prediction.map(lambda part: part[:, time])


def test_every_architecture_in_the_folder_is_tested_here():
    found = set()
    for module in pkgutil.iter_modules(jepa.models.dynamics.__path__):
        module = importlib.import_module(f"jepa.models.dynamics.{module.name}")
        for name, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, Dynamics) and value is not Dynamics:
                found.add(name)
    assert found == SMALL.keys()


def test_a_prediction_looks_like_what_is_predicted(world):
    dynamics, (tokens, states, actions) = world
    predicted = dynamics(tokens, states, actions)
    assert predicted.tokens.shape == tokens.shape
    assert predicted.state.shape == states.shape
    imagined = dynamics.rollout(tokens[:, 0], states[:, 0], actions)
    assert imagined.tokens.shape == tokens.shape
    for prediction in (predicted, imagined):
        if dynamics.num_members == 1:
            assert prediction.disagreement is None
        else:
            assert prediction.disagreement.shape == (BATCH, TIME)
            assert (prediction.disagreement > 0).all()


@pytest.mark.parametrize("changed", [0, 1, 2], ids=["tokens", "states", "actions"])
def test_the_future_changes_nothing_and_the_present_does(maker, changed):
    dynamics, windows = make(*maker), make_windows()
    before = dynamics(*windows)
    windows[changed][:, 3:] = torch.randn_like(windows[changed][:, 3:])
    after = dynamics(*windows)
    close(after.map(lambda part: part[:, :3]), before.map(lambda part: part[:, :3]))
    for time in (3, 4):
        for part in ("tokens", "state"):
            one, two = (getattr(at(each, time), part) for each in (before, after))
            assert not torch.allclose(one, two, atol=1e-3)


def test_steps_that_remember_equal_the_whole_at_once(world):
    dynamics, windows = world
    whole, memory = dynamics(*windows), None
    for time in range(TIME):
        step, memory = dynamics.step(*(part[:, time] for part in windows), memory=memory)
        close(step, at(whole, time))


@pytest.mark.parametrize("past", [1, 2, 3, 5])
def test_what_is_remembered_at_once_is_what_steps_remember(world, past):
    """The past of one is shared by all samples."""
    dynamics, windows = world
    for part in windows:
        part[:, :past] = part[:1, :past]
    memory = dynamics.remember(*(part[:1, :past] for part in windows))
    whole = dynamics(*windows)
    for time in range(past, TIME):
        step, memory = dynamics.step(*(part[:, time] for part in windows), memory=memory)
        close(step, at(whole, time))


@pytest.mark.parametrize("past", [0, 1, 3])
@pytest.mark.parametrize(("output", "state_dim", "grid"), SIZES)
@pytest.mark.parametrize("alone", [pair for pair in MAKERS if pair[0] != "Ensemble"], ids=str)
def test_a_rollout_equals_feeding_predictions_back_without_a_memory(
    alone, output, state_dim, grid, past
):
    """Of ensembles, whose members live on their own predictions: see test_ensemble.py."""
    dynamics = make(*alone, output=output, state_dim=state_dim, grid=grid)
    tokens, states, actions = make_windows(state_dim, grid)
    seen = (tokens[:, :past], states[:, :past], actions[:, :past])
    memory = dynamics.remember(*seen) if past else None
    imagined = dynamics.rollout(tokens[:, past], states[:, past], actions[:, past:], memory=memory)
    tokens, states = tokens[:, : past + 1], states[:, : past + 1]
    for time in range(past, TIME):
        predicted = dynamics(tokens, states, actions[:, : time + 1])
        tokens = torch.cat((tokens, predicted.tokens[:, -1:]), dim=1)
        states = torch.cat((states, predicted.state[:, -1:]), dim=1)
    close(imagined[:2], (tokens[:, past + 1 :], states[:, past + 1 :]))


def test_another_action_gives_another_future_from_that_step_on(world):
    dynamics, (tokens, states, actions) = world
    before = dynamics.rollout(tokens[:, 0], states[:, 0], actions).tokens
    actions[:, 2] += 1.0
    after = dynamics.rollout(tokens[:, 0], states[:, 0], actions).tokens
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert ((after - before)[:, 2:4].abs().amax((-2, -1)) > 1e-3).all()


def test_the_gradient_reaches_every_parameter(world):
    dynamics, (tokens, states, actions) = world
    memory = dynamics.remember(tokens[:, :1], states[:, :1], actions[:, :1])
    imagined = dynamics.rollout_members(tokens[:, 1], states[:, 1], actions[:, 1:], memory=memory)
    forced = dynamics.forward_members(tokens, states, actions)
    loss = sum((p.tokens - tokens[:, :1].mean()).square().mean() for p in (imagined, forced))
    loss = loss + sum(p.state.square().sum() for p in (imagined, forced))
    loss.backward()
    without = [n for n, p in dynamics.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_a_rollout_has_its_gradient_through_every_step_unless_it_is_cut(world):
    dynamics, (tokens, states, actions) = world

    def gradients(**options):
        """Of the last frame, after six actions, by every action."""
        wanted = actions[:, :6].clone().requires_grad_()
        imagined = dynamics.rollout(tokens[:, 0], states[:, 0], wanted, **options)
        target = torch.linspace(-1, 1, LATENT_DIM)
        (imagined.tokens[:, -1] * target).sum().backward()
        return wanted.grad.abs().amax((0, 2))

    assert (gradients() > 0).all()
    cut = gradients(truncate_after=2)
    assert (cut[:4] == 0).all() and (cut[4:] > 0).all()


def test_members_stand_in_front(maker):
    dynamics, (tokens, states, actions) = make(*maker), make_windows()
    forced = dynamics.forward_members(tokens, states, actions)
    imagined = dynamics.rollout_members(tokens[:, 0], states[:, 0], actions)
    for members, whole in (
        (forced, dynamics(tokens, states, actions)),
        (imagined, dynamics.rollout(tokens[:, 0], states[:, 0], actions)),
    ):
        assert members.tokens.shape == (dynamics.num_members, *tokens.shape)
        close((members.tokens.mean(0), members.state.mean(0)), whole[:2])


def test_the_settings_make_an_equal_one(maker):
    name, index = maker
    dynamics = make(name, index)
    settings = dict(dynamics.config)
    if name == "Ensemble":
        trunk = dict(settings["trunk"])
        made = getattr(jepa.models.dynamics, trunk.pop("name"))
        settings["trunk"] = made(**trunk)
    other = type(dynamics)(**settings)
    other.build(latent_dim=LATENT_DIM, action_dim=2, state_dim=4, grid=GRID, output="normed")
    other.load_state_dict(dynamics.state_dict())
    windows = make_windows()
    close(other.eval()(*windows), dynamics(*windows))


def test_dropout_is_for_training_only():
    for dynamics in (
        AdaLN(dim=24, depth=1, num_heads=2, head_dim=12, mlp_dim=32, dropout=0.5),
        GRU(dim=24, dropout=0.5),
    ):
        sizes = {"latent_dim": LATENT_DIM, "action_dim": 2, "state_dim": 4, "grid": GRID}
        dynamics.build(**sizes, output="normed")
        with torch.no_grad():
            for parameter in dynamics.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        windows = make_windows()
        assert not torch.equal(dynamics(*windows).tokens, dynamics(*windows).tokens)
        dynamics.eval()
        assert torch.equal(dynamics(*windows).tokens, dynamics(*windows).tokens)


# What is refused.


@pytest.mark.parametrize(
    ("changed", "shape", "words"),
    [
        (0, (3, 7, 5, 10), "tokens must be (3, 7, 6, 10), got (3, 7, 5, 10)"),
        (0, (3, 7, 6, 9), "tokens must be (3, 7, 6, 10), got (3, 7, 6, 9)"),
        (1, (3, 7, 0), "states must be (3, 7, 4), got (3, 7, 0)"),
        (2, (3, 6, 2), "actions must be (3, 7, 2), got (3, 6, 2)"),
    ],
)
def test_windows_that_do_not_fit_are_refused(maker, changed, shape, words):
    windows = list(make_windows())
    windows[changed] = torch.zeros(shape)
    with pytest.raises(ValueError, match=re.escape(words)):
        make(*maker)(*windows)


def test_a_rollout_without_an_action_is_refused(maker):
    tokens, states, actions = make_windows()
    with pytest.raises(ValueError, match=r"at least one action, got \(3, 0, 2\)"):
        make(*maker).rollout(tokens[:, 0], states[:, 0], actions[:, :0])


def test_sizes_of_nonsense_and_a_second_world_are_refused(maker):
    name, index = maker
    sizes = {"latent_dim": 8, "action_dim": 2, "state_dim": 0, "grid": (1, 1), "output": "normed"}
    for wrong, words in (
        ({"action_dim": 0}, "action_dim must be at least 1 .* got 0 and 0"),
        ({"state_dim": -1}, "state_dim at least 0, got 2 and -1"),
        ({"latent_dim": 0}, "latent_dim must be a whole number from 1"),
        ({"grid": (0, 1)}, "height must be a whole number from 1"),
    ):
        with pytest.raises(ValueError, match=words):
            SMALL[name][index]().build(**(sizes | wrong))
    dynamics = SMALL[name][index]()
    dynamics.build(**sizes)
    with pytest.raises(ValueError, match=f"{name} is built already, for latents of 8"):
        dynamics.build(**sizes)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: AdaLN(dim=0), "dim must be a whole number from 1"),
        (lambda: AdaLN(context_frames=0), "context_frames must be a whole number from 1"),
        (lambda: AdaLN(dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: GRU(depth=0), "depth must be a whole number from 1"),
        (lambda: GRU(dropout=float("nan")), r"dropout must be in \[0, 1\), got nan"),
        (lambda: Ensemble(GRU(), num_members=1), "num_members must be a whole number from 2"),
        (lambda: Ensemble(GRU(), prior_scale=-1), "prior_scale must be finite and at least 0"),
        (lambda: Ensemble(Ensemble(GRU())), "the trunk, Ensemble, is an ensemble itself"),
        (lambda: ActionConditionedPredictor(depth=-1), "depth must be a whole number from 1"),
    ],
)
def test_settings_of_nonsense_are_refused(made, words):
    with pytest.raises(ValueError, match=words):
        made()


# Parts.


def test_a_memory_keeps_its_layout():
    memory = [(torch.ones(1), None), Prediction(torch.zeros(2), torch.ones(3))]
    doubled = map_memory(memory, lambda part: 2 * part)
    assert doubled[0][0].item() == 2 and doubled[0][1] is None
    assert isinstance(doubled[1], Prediction) and doubled[1].state.tolist() == [2, 2, 2]
    assert map_memory(None, torch.neg) is None


def test_predictions_are_joined_part_by_part():
    one = Prediction(torch.zeros(2, 1, 1), torch.zeros(2, 3))
    both = Prediction.joined([one, one.map(lambda part: part + 1)], torch.cat)
    assert both.tokens.flatten().tolist() == [0, 0, 1, 1]
    assert both.state.shape == (4, 3) and both.disagreement is None
