"""What every training shares, through real fits: on one rank, and on two."""

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from jepa.training.gradients import GradientClipping
from jepa.training.learning_rate_scaling import LearningRateScaling
from jepa.training.loss_policy import LossPolicy
from jepa.training.optimization import global_batch_size
from jepa.training.pretraining import Pretraining
from jepa.training.schedules import Cosine, LinearCooldown, WarmupConstant
from tests.jepa.training.rank_fits import (
    RECIPES,
    JoinedBatches,
    MasksByClip,
    SpoilingPretraining,
    encoder_and_predictor,
    fit_joined,
    latent_l1,
)

MOMENTS = ("exp_avg", "exp_avg_sq")


class Rates(L.Callback):
    """Keeps the rates and the gradient norms of every update."""

    def __init__(self):
        self.rates, self.decays, self.norms = [], [], []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        decayed, rest = optimizer.param_groups
        self.rates.append((decayed["lr"], rest["lr"]))
        self.decays.append((decayed["weight_decay"], rest["weight_decay"]))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        norms = [
            torch.nn.utils.get_total_norm([p.grad for p in module.parameters()]).item()
            for module in (pl_module.encoder, pl_module.predictor)
        ]
        self.norms.append(norms)


class StateByStep(L.Callback):
    """Keeps weights (the target's too) and moments after every batch."""

    def __init__(self):
        self.kept = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        state = trainer.optimizers[0].state.values()
        moments = [torch.cat([s[name].flatten() for s in state]) for name in MOMENTS]
        online, target = weights(pl_module.encoder), weights(pl_module.target_encoder)
        self.kept.append([online.clone(), target.clone(), *moments])


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def logged_by(trainer):
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_rate_and_decay_follow_their_schedules_to_the_last_update(make_trainer):
    rates = Rates()
    model = latent_l1(
        learning_rate=1e-3,
        schedule=LinearCooldown(final_fraction=0.1),
        weight_decay=0.4,
        weight_decay_schedule=Cosine(0.1),
    )
    trainer = make_trainer(4, callbacks=[rates])
    trainer.fit(model, JoinedBatches())
    assert [rate for rate, _ in rates.rates] == pytest.approx([7.75e-4, 5.5e-4, 3.25e-4, 1e-4])
    assert all(decayed == rest for decayed, rest in rates.rates)
    assert rates.decays[1][0] == pytest.approx(0.22)  # half way
    assert rates.decays[3][0] == pytest.approx(0.4)
    assert [rest for _, rest in rates.decays] == [0.0] * 4
    logged = logged_by(trainer)
    assert logged["optim/learning_rate"] == pytest.approx(1e-4)
    assert logged["optim/weight_decay"] == pytest.approx(0.4)
    assert 0.9 < logged["optim/ema_momentum"] < 0.99


def test_each_part_is_clipped_by_its_own_norm(make_trainer):
    rates = Rates()
    model = latent_l1(gradient_clipping=GradientClipping(max_norm=1e-3, first_step=2))
    trainer = make_trainer(4, callbacks=[rates])
    trainer.fit(model, JoinedBatches())
    before, after = rates.norms[:2], rates.norms[2:]
    assert all(encoder > 1.1e-3 and predictor > 1e-2 for encoder, predictor in before)
    assert all(norms == pytest.approx([1e-3, 1e-3], rel=1e-3) for norms in after)
    logged = logged_by(trainer)  # what was there before clipping
    assert logged["optim/gradient_norm_predictor"] > 1e-2
    parts = [logged["optim/gradient_norm_encoder"], logged["optim/gradient_norm_predictor"]]
    assert logged["optim/gradient_norm"] == pytest.approx(torch.tensor(parts).norm().item())


def test_the_trainers_own_clipping_works_too(make_trainer):
    rates = Rates()
    trainer = make_trainer(1, callbacks=[rates], gradient_clip_val=1e-3)
    trainer.fit(latent_l1(gradient_clipping=None), JoinedBatches())
    assert torch.tensor(rates.norms[0]).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_the_rate_is_scaled_by_the_global_batch(make_trainer):
    model = latent_l1(
        learning_rate=1e-3,
        schedule=WarmupConstant(warmup_steps=0),
        learning_rate_scaling=LearningRateScaling(4, "linear"),
    )
    trainer = make_trainer(1, accumulate_grad_batches=3)
    data = JoinedBatches()  # 8 clips a batch, 3 batches an update: 24 of 4
    assert global_batch_size(trainer, data) == 24
    told = model.describe_optimization(trainer, data)
    assert "at most 0.006" in told
    assert "6 x 0.001 (linear: global batch 24, reference 4)" in told
    trainer.fit(model, data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(6e-3)
    with pytest.raises(ValueError, match="needs data that have a batch_size"):
        global_batch_size(trainer, object())


def test_accumulated_batches_make_one_update_and_the_target_follows_once(make_trainer):
    class Counting(SpoilingPretraining):
        def after_update(self):
            self.updates = getattr(self, "updates", 0) + 1
            super().after_update()

    model = Counting(*encoder_and_predictor())
    trainer = make_trainer(3, accumulate_grad_batches=2)
    trainer.fit(model, JoinedBatches())
    assert (model.updates, len(trainer.losses)) == (3, 6)


def spoilt_fit(make_trainer, *, spoilt, max_steps, **policy):
    """Every batch of one rank is spoilt at the steps told."""

    class Spoilt(SpoilingPretraining):
        global_rank = 1

    model = Spoilt(*encoder_and_predictor(), loss_policy=LossPolicy(**policy))
    model.spoilt = spoilt
    trainer = make_trainer(max_steps)
    return model, trainer


def test_a_skipped_update_changes_nothing_and_is_logged(make_trainer):
    model, trainer = spoilt_fit(make_trainer, spoilt=(0, 1), max_steps=2, on_non_finite="skip")
    for parameter in model.target_encoder.parameters():
        parameter.add_(1.0)  # a target that followed would move
    before = weights(model)
    trainer.fit(model, JoinedBatches())
    assert torch.equal(weights(model), before)
    assert trainer.global_step == 2
    assert logged_by(trainer)["train/skipped_updates"] == 2
    assert trainer.optimizers[0].state == {}


def test_a_bad_loss_stops_the_run_with_the_weights_of_before(make_trainer):
    model, trainer = spoilt_fit(make_trainer, spoilt=(0,), max_steps=2)
    before = weights(model)
    with pytest.raises(ValueError, match=r"the loss is nan at step 0 \(samples clip-0-0, clip-0-1"):
        trainer.fit(model, JoinedBatches())
    assert torch.equal(weights(model), before)


class Leaping(Pretraining):
    """Has a loss a hundred times too large at its twelfth update."""

    def compare(self, predicted, target, masks, *, grid):
        terms = super().compare(predicted, target, masks, grid=grid)
        factor = 100.0 if self.global_step == 11 else 1.0
        return terms._replace(total=factor * terms.total)


def test_a_leap_of_the_loss_skips_its_update(make_trainer):
    model = Leaping(*encoder_and_predictor(), loss_policy=LossPolicy(max_loss_spike=5.0))
    trainer = make_trainer(13)
    trainer.fit(model, JoinedBatches())
    assert model.loss_watch.num_skipped == 1


def test_recomputing_activations_changes_no_number(make_trainer, tmp_path):
    plain = fit_joined("latent_l1", tmp_path)
    model = latent_l1(checkpoint_activations=True)
    names = list(model.state_dict())
    trainer = make_trainer(3)
    kept = []
    block = model.encoder.transformer.blocks[0]
    block.mlp.register_forward_pre_hook(lambda *_: kept.append(torch.is_grad_enabled()))
    model.__class__ = type("ByClip", (MasksByClip, type(model)), {})
    trainer.fit(model, JoinedBatches())
    assert trainer.losses == plain["losses"]
    assert len(kept) == 2 * 3 * 2  # two masks, three steps, and each once more backwards
    assert list(model.state_dict()) == names


def test_half_precision_trains(make_trainer):
    trainer = make_trainer(3, precision="bf16-mixed")
    model = latent_l1()
    trainer.fit(model, JoinedBatches())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert trainer.losses[-1] < trainer.losses[0]


@pytest.mark.parametrize(("batches", "max_steps", "warns"), [(6, 3, 0), (5, 3, 1), (5, 2, 0)])
def test_an_epoch_that_ends_with_a_smaller_update_is_told_once(
    batches, max_steps, warns, make_trainer, caplog
):
    trainer = make_trainer(max_steps, accumulate_grad_batches=2, limit_train_batches=batches)
    trainer.fit(latent_l1(), JoinedBatches())
    told = [r.message for r in caplog.records if "accumulate_grad_batches=2" in r.message]
    assert len(told) == warns
    assert all("the sum of 1 batches divided by 2: make" in line for line in told)
    assert all("(steps_per_epoch), 5, a multiple" in line for line in told)


def scaled_losses():
    """Precision 16-mixed, whose loss scaler multiplies the loss by 65536 at first."""
    return [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))]


def test_a_loss_scaler_changes_neither_norms_nor_clipping(make_trainer):
    found = []
    for plugins in ([], scaled_losses()):
        rates = Rates()
        model = latent_l1(gradient_clipping=GradientClipping(max_norm=1e-3, first_step=1))
        trainer = make_trainer(2, callbacks=[rates], plugins=plugins)
        trainer.fit(model, JoinedBatches())
        found.append((rates.norms, logged_by(trainer)))
    (norms, logged), (scaled_norms, scaled_logged) = found
    assert scaled_norms[0] == pytest.approx(norms[0], rel=0.05)  # not clipped yet
    assert scaled_norms[1] == pytest.approx([1e-3, 1e-3], rel=1e-3)
    for part in ("", "_encoder", "_predictor"):
        name = f"optim/gradient_norm{part}"
        assert scaled_logged[name] == pytest.approx(logged[name], rel=0.05)


def test_a_skipped_update_under_a_loss_scaler_changes_nothing(make_trainer):
    model = Leaping(*encoder_and_predictor(), loss_policy=LossPolicy(max_loss_spike=5.0))
    states = StateByStep()
    trainer = make_trainer(13, callbacks=[states], plugins=scaled_losses())
    trainer.fit(model, JoinedBatches())
    assert model.loss_watch.num_skipped == 1
    assert all(map(torch.equal, states.kept[11], states.kept[10]))
    assert not any(map(torch.equal, states.kept[12], states.kept[11]))


def test_a_gradient_that_overflows_moves_neither_weights_nor_target(make_trainer):
    class Overflowing(Pretraining):
        def compare(self, predicted, target, masks, *, grid):
            terms = super().compare(predicted, target, masks, grid=grid)
            if self.global_step == 1:
                terms.total.register_hook(lambda gradient: gradient * float("inf"))
            return terms

    model = Overflowing(*encoder_and_predictor())
    states, plugins = StateByStep(), scaled_losses()
    trainer = make_trainer(3, callbacks=[states], plugins=plugins)
    trainer.fit(model, JoinedBatches())
    assert all(map(torch.equal, states.kept[1], states.kept[0]))
    assert not any(map(torch.equal, states.kept[2], states.kept[1]))
    assert plugins[0].scaler.get_scale() == 2.0**15  # halved once
    assert model.loss_watch.num_skipped == 0  # the policy is about other troubles


def test_a_checkpoint_holds_plain_values_only(make_trainer, tmp_path):
    trainer = make_trainer(1)
    trainer.fit(latent_l1(loss_policy=LossPolicy(max_loss_spike=3.0)), JoinedBatches())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["architecture"]["encoder"]["depth"] == 2
    assert len(saved["loss_watch"]["usual"]) == 1


def test_a_run_without_an_end_is_refused_before_the_first_batch(make_trainer):
    trainer = make_trainer(-1, max_epochs=-1)
    with pytest.raises(ValueError, match=r"no end: set trainer\.max_steps"):
        trainer.fit(latent_l1(schedule=LinearCooldown()), JoinedBatches())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive.* got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive.* got nan"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
    ],
)
def test_rates_that_learn_nothing_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        latent_l1(**options)


# Two ranks: see rank_fits.py.


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory):
    return {name: fit_joined(name, tmp_path_factory.mktemp(name)) for name in RECIPES}


def assert_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        atol = tolerance * max(value.float().abs().max().item(), 1.0)  # of the largest entry
        torch.testing.assert_close(found[name], value, atol=atol, rtol=0, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_ranks_are_one_rank_with_the_joined_batch(recipe, strategy, two_ranks, one_rank):
    expected = one_rank[recipe]
    first, second = two_ranks(f"{recipe}-{strategy}")
    losses = [(a + b) / 2 for a, b in zip(first["losses"], second["losses"], strict=True)]
    assert losses == pytest.approx(expected["losses"], abs=1e-6, rel=1e-5)
    assert first["losses"] != second["losses"]  # their data differ
    assert_close(first["gradients"], expected["gradients"], 5e-6)
    for found in (first, second):
        # Where a gradient is all but zero, Adam makes a step of its rounding.
        assert_close(found["weights"], expected["weights"], 1e-4 if recipe == "vicreg" else 1e-5)
        for part in ("encoder", "predictor"):  # Adam would not show another factor of clipping
            norm = f"optim/gradient_norm_{part}"
            assert found["logged"][norm] == pytest.approx(expected["logged"][norm], rel=1e-4)


@pytest.mark.slow
def test_in_half_precision_sharded_ranks_are_whole_ones_and_masters_stay_float32(two_ranks):
    for whole, sharded, full in zip(
        *map(two_ranks, ("half-ddp", "half-fsdp2", "latent_l1-ddp")), strict=True
    ):
        assert sharded["losses"] == pytest.approx(whole["losses"], rel=1e-6)
        assert sharded["losses"] != full["losses"]  # it was half precision
        assert sharded["losses"] == pytest.approx(full["losses"], rel=1e-2)
        assert_close(sharded["gradients"], whole["gradients"], 1e-6)
        assert_close(sharded["weights"], whole["weights"], 1e-5)
        assert {value.dtype for value in sharded["weights"].values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_ranks_resume_bit_for_bit(strategy, two_ranks):
    for whole, resumed in zip(
        two_ranks(f"whole-{strategy}"), two_ranks(f"resumed-{strategy}"), strict=True
    ):
        assert resumed["losses"] == whole["losses"][3:]
        assert resumed["keys"] == whole["keys"][3:]
        assert all(map(torch.equal, resumed["drawn"], whole["drawn"][3:]))
        assert resumed["watch"] == whole["watch"]
        for name, value in whole["weights"].items():
            assert torch.equal(resumed["weights"][name], value), name
        assert resumed["optimizer"].keys() == whole["optimizer"].keys()
        for name, state in whole["optimizer"].get("state", {}).items():
            for moment, value in state.items():
                assert torch.equal(resumed["optimizer"]["state"][name][moment], value)
    first, second = two_ranks(f"whole-{strategy}")
    assert set(first["keys"][0]) != set(second["keys"][0])
    assert not torch.equal(first["drawn"][0], second["drawn"][0])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_bad_loss_on_one_rank_is_skipped_on_both_and_the_target_stays(strategy, two_ranks):
    first, second = two_ranks(f"skip-{strategy}")
    for found in (first, second):
        for name in ("online", "target"):
            steps = found[name]
            assert torch.equal(steps[1], steps[0])  # the second update was not made
            assert not torch.equal(steps[2], steps[1])  # the third was
        assert found["watch"]["num_skipped"] == 1
        assert len(found["watch"]["usual"]) == 3
    assert first["watch"] == second["watch"]
    assert torch.equal(first["online"][-1], second["online"][-1])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_bad_loss_on_one_rank_stops_both_with_its_samples(strategy, two_ranks):
    first, second = two_ranks(f"stop-{strategy}")
    assert first["message"] == second["message"]
    assert "the loss is nan at step 1 (samples clip-1-1, clip-1-3" in first["message"]  # rank 1's
    assert len(first["online"]) == 1


@pytest.mark.slow
def test_a_collapse_that_one_rank_sees_stops_no_rank(two_ranks):
    assert [found["steps"] for found in two_ranks("collapsed")] == [2, 2]


@pytest.mark.slow
def test_a_time_limit_ends_both_ranks_with_a_checkpoint(two_ranks):
    first, second = two_ranks("timed")
    saved = torch.load(two_ranks.folder / "timed" / "last.ckpt", weights_only=True)
    assert 0 < first["steps"] == second["steps"] == saved["global_step"] < 10_000
