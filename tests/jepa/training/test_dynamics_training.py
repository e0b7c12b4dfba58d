"""What trainings of dynamics share, seen through the one with a frozen encoder."""

import pytest
import torch

from data_pipelines.datamodules import TrajectoryDataModule
from jepa.checkpoints.native import load_world_model
from jepa.models.dynamics import GRU, AdaLN, Ensemble
from jepa.models.latents import PooledTokens
from jepa.objectives import LatentMSE
from jepa.training.bagging import draws
from jepa.training.state_list import note_entries
from jepa.training.world_model_training import WorldModelTraining
from tests.jepa.training.rank_fits import make_trainer


@pytest.fixture
def fit(encoder_folder, trajectory_shards, tmp_path):
    """Fits for one step; returns the model and a batch."""

    def run(*, frames=3, **options):
        torch.manual_seed(0)
        if "dynamics" not in options:
            options |= {"dim": 24, "depth": 1, "num_heads": 2}
        model = WorldModelTraining(encoder_folder, **options)
        data = TrajectoryDataModule(trajectory_shards, frames, image_size=32, batch_size=4)
        make_trainer(tmp_path, max_steps=1).fit(model, data)
        return model, next(iter(data.train_dataloader()))

    return run


def test_the_loss_is_the_weighted_sum_of_both_ways_and_of_the_states(fit):
    model, batch = fit(teacher_forcing_weight=0.25, rollout_weight=2.0, state_weight=0.5)
    latents = model.encode(batch)
    forced, forced_state = model.teacher_forcing(latents, batch)
    imagined, imagined_state = model.rollout(latents, batch)
    loss = model.loss(latents, batch)
    expected = 0.25 * (forced + 0.5 * forced_state) + 2 * (imagined + 0.5 * imagined_state)
    torch.testing.assert_close(loss.total, expected)
    assert torch.equal(loss.parts["teacher_forcing"], forced)
    assert torch.equal(loss.parts["rollout"], imagined)


def test_what_has_no_weight_is_not_computed(fit, monkeypatch):
    def never(self, latents, batch):
        raise AssertionError("computed")

    monkeypatch.setattr(WorldModelTraining, "rollout", never)
    model, batch = fit(frames=2, rollout_weight=0)  # windows too short for a rollout of 2
    assert model.loss(model.encode(batch), batch).parts.keys() == {"teacher_forcing", "state"}
    assert model.error_names == ("teacher_forcing", "copy")
    monkeypatch.undo()
    monkeypatch.setattr(WorldModelTraining, "teacher_forcing", never)
    model, batch = fit(teacher_forcing_weight=0)
    assert model.loss(model.encode(batch), batch).parts.keys() == {"rollout", "state"}


@pytest.mark.parametrize("weights", [(0, 0), (-1, 1), (float("nan"), 1)])
def test_weights_that_leave_nothing_to_learn_are_refused(weights, encoder_folder):
    forcing, rollout = weights
    with pytest.raises(ValueError, match="must be at least 0, and one of them positive"):
        WorldModelTraining(encoder_folder, teacher_forcing_weight=forcing, rollout_weight=rollout)


def test_a_frozen_recipe_takes_no_latents_that_are_to_be_learned(encoder_folder):
    with pytest.raises(ValueError, match=r"PooledTokens are learned .*or JointTraining"):
        WorldModelTraining(encoder_folder, latents=PooledTokens())


def test_the_frozen_encoder_stays_frozen_and_the_run_leaves_its_model(fit, tmp_path):
    model, _ = fit()
    assert not any(parameter.requires_grad for parameter in model.world.encoder.parameters())
    left = load_world_model(tmp_path).state_dict()
    assert all(torch.equal(left[name], value) for name, value in model.world.state_dict().items())


def test_a_checkpoint_of_other_latents_is_refused_by_name(encoder_folder):
    ours, theirs = (WorldModelTraining(encoder_folder, dim=dim) for dim in (24, 48))
    with pytest.raises(ValueError, match=r"has dynamics.dim=48, the config dynamics.dim=24"):
        ours.refuse_to_resume({"architecture": theirs.architecture})
    with pytest.raises(ValueError, match="the checkpoint has no state_list"):  # of earlier versions
        ours.refuse_to_resume({"architecture": {}})


# Rollouts.


def frame_by_frame(model, latents, batch, *, start, steps, past=0):
    """The slow reference: every step computes the whole sequence anew, without a memory."""
    world = model.world
    states, actions = world.normalize_states(batch.states), world.normalize_actions(batch.actions)
    first = start - past
    seen, felt = [list(v[:, first : start + 1].unbind(1)) for v in (latents, states)]
    for step in range(steps):
        known = torch.stack(seen, 1), torch.stack(felt, 1), actions[:, first : start + step + 1]
        predicted = world.dynamics(*known)
        seen.append(predicted.tokens[:, -1])
        felt.append(predicted.state[:, -1])
    return torch.stack(seen[past + 1 :], 1), torch.stack(felt[past + 1 :], 1)


def gradient_of(loss, model):
    parameters = [p for p in model.world.dynamics.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat([
        (torch.zeros_like(p) if g is None else g).flatten()
        for p, g in zip(parameters, gradients, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize(("frames", "context", "starts"), [(4, 1, [0]), (7, 1, [0, 3]),
                                                          (5, 2, [1]), (6, 3, [2])])  # fmt: skip
def test_a_rollout_starts_from_true_frames_and_lives_on_its_own(frames, context, starts, fit):
    """Loss and gradient are those of the slow reference: nothing is cut."""
    model, batch = fit(frames=frames, rollout_steps=3, context_frames=context)
    model.train()
    latents = model.encode(batch)
    loss, state_loss = model.rollout(latents, batch)
    states = model.world.normalize_states(batch.states)
    errors, state_errors = [], []
    for start in starts:
        tokens, state = frame_by_frame(
            model, latents, batch, start=start, steps=3, past=context - 1
        )
        errors.append((tokens - latents[:, start + 1 : start + 4]).abs().mean())
        state_errors.append((state - states[:, start + 1 : start + 4]).abs().mean())
    expected = torch.stack(errors).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(state_loss, torch.stack(state_errors).mean())
    ours, theirs = (gradient_of(value, model) for value in (loss, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_a_rollout_is_not_that_of_the_first_release(fit):
    """There, step two saw the true first frame beside the prediction of frame 2, not of frame 1."""
    model, batch = fit(frames=3, rollout_steps=2)
    with torch.no_grad():
        for parameter in model.world.dynamics.parameters():  # so that it matters what it sees
            parameter.add_(0.3 * torch.randn_like(parameter))
    latents, world = model.encode(batch), model.world
    states, actions = world.normalize_states(batch.states), world.normalize_actions(batch.actions)
    forced = world.dynamics(latents[:, :2], states[:, :2], actions)
    seconds = {}
    for name, place in (("right", 0), ("released", 1)):
        seen = torch.stack((latents[:, 0], forced.tokens[:, place]), 1)
        felt = torch.stack((states[:, 0], forced.state[:, place]), 1)
        seconds[name] = world.dynamics(seen, felt, actions).tokens[:, 1]
    losses = {
        name: (torch.stack((forced.tokens[:, 0], second), 1) - latents[:, 1:]).abs().mean().item()
        for name, second in seconds.items()
    }
    ours = model.rollout(latents, batch)[0].item()
    assert ours == pytest.approx(losses["right"], rel=1e-5)
    assert ours != pytest.approx(losses["released"], rel=1e-4)
    assert (seconds["right"] - seconds["released"]).abs().mean() > 0.01


def test_a_cut_rollout_has_the_same_loss_and_less_of_the_gradient(fit):
    model, batch = fit(frames=5, rollout_steps=4, truncate_rollout_after=2)
    model.train()
    latents = model.encode(batch)
    cut = model.rollout(latents, batch)[0]
    model.truncate_rollout_after = None
    whole = model.rollout(latents, batch)[0]
    assert torch.equal(cut, whole)
    cut, whole = gradient_of(cut, model), gradient_of(whole, model)
    assert cut.abs().sum() > 0 and not torch.allclose(cut, whole, rtol=1e-2)


@pytest.mark.parametrize("truncate", [1, 2, 3, None])
def test_a_gradient_is_cut_after_every_so_many_steps_and_nowhere_else(truncate, fit):
    """The slow reference: an AdaLN that sees one frame, called step by step, detached by hand."""
    model, batch = fit(
        frames=6, rollout_steps=5, truncate_rollout_after=truncate, objective=LatentMSE(),
        dynamics=small_adaln(context_frames=1, dropout=0.0),
    )  # fmt: skip
    model.train()
    latents, world = model.encode(batch), model.world
    states, actions = world.normalize_states(batch.states), world.normalize_actions(batch.actions)
    tokens, state, errors = latents[:, :1], states[:, :1], []
    for step in range(5):
        if truncate is not None and step in range(truncate, 5, truncate):
            tokens, state = tokens.detach(), state.detach()
        tokens, state, _ = world.dynamics(tokens, state, actions[:, step : step + 1])
        errors.append((tokens - latents[:, step + 1 : step + 2]).square().mean())
    expected = gradient_of(torch.stack(errors).mean(), model)
    ours = gradient_of(model.rollout(latents, batch)[0], model)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"truncate_rollout_after": 0}, "truncate_rollout_after must be at least 1 and less than"),
        ({"truncate_rollout_after": 2}, r"less than rollout_steps=2, where nothing is cut, got 2"),
        ({"action_noise_std": -0.1}, "action_noise_std must be finite and at least 0, got -0.1"),
        ({"action_noise_std": float("nan")}, "action_noise_std must be finite .* got nan"),
        ({"context_frames": 0}, "context_frames must be a whole number from 1"),
    ],
)
def test_rollouts_of_nonsense_are_refused(options, words, encoder_folder):
    with pytest.raises(ValueError, match=words):
        WorldModelTraining(encoder_folder, **options)


def test_windows_that_have_no_room_for_the_context_are_refused(fit):
    words = r"rollout_steps=2 from context_frames=2 needs windows of at least 4 frames, got 3"
    with pytest.raises(ValueError, match=words):
        fit(frames=3, context_frames=2)


def test_more_context_than_the_dynamics_see_is_refused(fit):
    words = "context_frames=3 exceeds the 2 frames that AdaLN sees; lower it, or raise its own"
    with pytest.raises(ValueError, match=words):
        fit(frames=6, context_frames=3, dynamics=small_adaln(context_frames=2))


# Noise on actions.


def test_noise_is_on_actions_in_units_of_their_spread_and_another_at_every_step(fit, monkeypatch):
    model, batch = fit(action_noise_std=0.5)
    many = batch._replace(actions=batch.actions.repeat(1, 500, 1))
    noise = (model.with_noisy_actions(many).actions - many.actions) / model.world.action_std
    assert noise.std().item() == pytest.approx(0.5, rel=0.05)
    assert abs(noise.mean().item()) < 0.05
    again = model.with_noisy_actions(batch).actions
    assert torch.equal(again, model.with_noisy_actions(batch).actions)
    monkeypatch.setattr(WorldModelTraining, "_batches_trained", 7)
    assert not torch.equal(again, model.with_noisy_actions(batch).actions)


def test_batches_of_one_step_have_noise_of_their_own(encoder_folder, trajectory_shards, tmp_path):
    seen = []

    class Watched(WorldModelTraining):
        def with_noisy_actions(self, batch):
            noisy = super().with_noisy_actions(batch)
            seen.append((self.global_step, noisy.actions - batch.actions))
            return noisy

    model = Watched(encoder_folder, action_noise_std=0.5, dim=24, depth=1, num_heads=2)
    data = TrajectoryDataModule(trajectory_shards, 3, image_size=32, batch_size=4)
    make_trainer(tmp_path, max_steps=1, accumulate_grad_batches=2).fit(model, data)
    assert [step for step, _ in seen] == [0, 0]
    assert (seen[0][1] - seen[1][1]).abs().mean() > 0.01  # noise is 0.03 in size here


def test_noise_is_for_training_only(fit):
    model, batch = fit(action_noise_std=0.5)
    latents = model.encode(batch)
    model.train()
    noisy = model.prediction_loss(latents, batch).total
    model.eval()
    quiet = model.prediction_loss(latents, batch).total
    model.train().action_noise_std = 0.0
    assert torch.equal(quiet, model.prediction_loss(latents, batch).total)
    assert not torch.equal(noisy, quiet)


# Which dynamics.


def small_adaln(**options):
    return AdaLN(dim=24, depth=1, num_heads=2, head_dim=12, mlp_dim=32, **options)


def test_members_of_an_ensemble_learn_from_their_own_trajectories(fit):
    ensemble = Ensemble(GRU(dim=24), num_members=3, hidden_dim=16)
    model, batch = fit(frames=4, rollout_steps=3, dynamics=ensemble)
    model.train()
    latents, world = model.encode(batch), model.world
    loss, _ = model.teacher_forcing(latents, batch)
    counts = draws(batch.keys, num_members=3, seed=0)
    assert (counts != 1).any()
    states = world.normalize_states(batch.states)
    known = latents[:, :-1], states[:, :-1], world.normalize_actions(batch.actions)
    errors = (world.dynamics.forward_members(*known).tokens - latents[:, 1:]).abs().mean((2, 3, 4))
    expected = ((errors * counts).sum(1) / counts.sum(1)).mean()
    torch.testing.assert_close(loss, expected)
    # What is validated is what plans: the mean of the members, on everything.
    model.eval()
    mean = (world.dynamics(*known).tokens - latents[:, 1:]).abs().mean()
    torch.testing.assert_close(model.teacher_forcing(latents, batch)[0], mean)
    imagined = world.dynamics.rollout(latents[:, 0], states[:, 0], known[2])
    error = (imagined.tokens - latents[:, 1:]).abs().mean()
    torch.testing.assert_close(model.rollout(latents, batch)[0], error)


def test_every_rollout_of_a_window_is_learned_from_as_often_as_its_trajectory_was_drawn(fit):
    ensemble = Ensemble(GRU(dim=24), num_members=3, hidden_dim=16)
    model, batch = fit(frames=7, rollout_steps=3, dynamics=ensemble)
    model.train()
    latents, world = model.encode(batch), model.world
    counts = draws(batch.keys, num_members=3, seed=0)
    assert (counts != counts[:, :1]).any()
    states, actions = world.normalize_states(batch.states), world.normalize_actions(batch.actions)
    errors = []
    for start in (0, 3):
        imagined = world.dynamics.rollout_members(
            latents[:, start], states[:, start], actions[:, start : start + 3]
        )
        wrong = (imagined.tokens - latents[:, start + 1 : start + 4]).abs().mean((2, 3, 4))
        errors.append((wrong * counts).sum(1) / counts.sum(1))
    torch.testing.assert_close(model.rollout(latents, batch)[0], torch.stack(errors).mean())


def test_sizes_of_the_default_dynamics_beside_others_are_refused(encoder_folder):
    words = "dim=24, depth=1 would be of the default dynamics, but GRU is given: put its sizes"
    with pytest.raises(ValueError, match=words):
        WorldModelTraining(encoder_folder, dim=24, depth=1, dynamics=GRU())


def test_a_checkpoint_of_other_dynamics_is_refused_by_name(encoder_folder):
    def make(**options):
        return WorldModelTraining(encoder_folder, **options)

    gru, adaln = make(dynamics=GRU(dim=24)), make(dynamics=small_adaln())
    ensembles = [make(dynamics=Ensemble(GRU(dim=dim))) for dim in (24, 48)]
    same = {"architecture": make(dynamics=GRU(dim=24)).architecture}
    note_entries(same)
    gru.refuse_to_resume(same)
    for ours, theirs, words in (
        (gru, adaln, "has dynamics.name=AdaLN, the config dynamics.name=GRU"),
        (make(dim=24), gru, "has dynamics.name=GRU"),
        (*ensembles, "has dynamics.trunk.dim=48, the config dynamics.trunk.dim=24"),
    ):
        with pytest.raises(ValueError, match=words):
            ours.refuse_to_resume({"architecture": theirs.architecture})
