"""The contract of every part in the folder: a new file is tested from its first day."""

import copy
import importlib
import inspect
import pkgutil

import pytest
import torch

import jepa.objectives
from jepa.objectives import (
    ActionHead,
    InverseDynamics,
    LatentMSE,
    Objective,
    Regularizer,
    SIGReg,
    TemporalSimilarity,
    TimeContrast,
    VICReg,
)

NO_PARTS = {"base", "ranks"}
MODULES = [
    name for _, name, _ in pkgutil.iter_modules(jepa.objectives.__path__) if name not in NO_PARTS
]
NEEDED = {TimeContrast: {"dim": 16}}  # options that have no default
VARIANTS = {  # all others: as made
    LatentMSE: [{"stop_gradient": True}, {"stop_gradient": False}],
    **{member: [options] for member, options in NEEDED.items()},
}


def members(base):
    for name in MODULES:
        module = importlib.import_module(f"jepa.objectives.{name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, base) and member.__module__ == module.__name__:
                yield member


def of(base):
    """Every member of the folder with the options that it is tested with."""
    return [
        pytest.param((member, options), id=f"{member.__name__}{options or ''}")
        for member in members(base)
        for options in VARIANTS.get(member, [{}])
    ]


def made(request):
    member, options = request.param
    return member(**options)


objective = pytest.fixture(params=of(Objective))(made)
regularizer = pytest.fixture(params=of(Regularizer))(made)


@pytest.fixture(params=of(ActionHead))
def action_head(request):
    head = made(request)
    head.build(16, 3)
    return head


@pytest.fixture
def latents():
    return torch.randn(2, 4, 5, 16, requires_grad=True).unbind(0)


@pytest.fixture
def embeddings():
    return torch.randn(3, 8, 16, requires_grad=True)  # (time, batch, dim)


@pytest.fixture
def transitions():
    before, after = torch.randn(2, 4, 5, 16, requires_grad=True).unbind(0)
    return before, after, torch.randn(4, 5, 3)


def assert_finite_scalars(terms):
    assert terms.parts != {}
    for value in (terms.total, *terms.parts.values()):
        assert value.shape == ()
        assert value.isfinite()
        assert value.dtype == torch.float32


def test_every_file_holds_one_part_and_the_package_names_it():
    found = [member for base in (Objective, Regularizer, ActionHead) for member in members(base)]
    assert len(found) >= 9
    assert sorted(member.__module__.rpartition(".")[2] for member in found) == sorted(MODULES)
    assert {member.__name__ for member in found} <= set(jepa.objectives.__all__)


# Objectives.


def test_total_and_parts_are_finite_scalars(objective, latents):
    assert_finite_scalars(objective(*latents))


def test_gradients_reach_the_prediction_and_only_where_promised_the_target(objective):
    predicted, target = (torch.randn(4, 5, 16, requires_grad=True) for _ in range(2))
    objective(predicted, target).total.backward()
    assert (predicted.grad.abs().amax(-1) > 0).all()
    if objective.target_needs_gradient:
        assert (target.grad.abs().amax(-1) > 0).all()
    else:
        assert target.grad is None


def test_descending_the_gradient_lowers_the_loss(objective, latents):
    predicted, target = (part.detach() for part in latents)
    predicted.requires_grad_()
    before = objective(predicted, target).total
    (gradient,) = torch.autograd.grad(before, predicted)
    after = objective(predicted - 0.1 * gradient / gradient.norm(), target).total
    assert after < before


def test_the_order_of_clips_does_not_matter(objective, latents):
    flipped = objective(*(part.flip(0) for part in latents)).total
    torch.testing.assert_close(flipped, objective(*latents).total)


def test_latents_that_cannot_be_compared_one_by_one_are_refused(objective):
    with pytest.raises(ValueError, match=r"same shape, got \(4, 5, 16\) and \(4, 1, 16\)"):
        objective(torch.zeros(4, 5, 16), torch.zeros(4, 1, 16))


def test_latents_in_bfloat16_are_compared_in_float32(objective, latents):
    rounded = [part.detach().bfloat16() for part in latents]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(*rounded)
    assert_finite_scalars(loss)
    torch.testing.assert_close(loss.total, objective(*(part.float() for part in rounded)).total)


def test_not_a_number_is_never_hidden(objective):
    assert objective(torch.full((4, 5, 16), float("nan")), torch.randn(4, 5, 16)).total.isnan()
    assert objective(torch.randn(4, 5, 16), torch.full((4, 5, 16), float("nan"))).total.isnan()


# Regularizers.


def test_a_regularizer_returns_finite_scalars_and_a_gradient(regularizer, embeddings):
    terms = regularizer(embeddings, step=0)
    assert_finite_scalars(terms)
    terms.total.backward()
    assert (embeddings.grad.abs().amax(-1) > 0).all()


def test_the_order_of_rows_does_not_matter(regularizer, embeddings):
    flipped = regularizer(embeddings.flip(1), step=0).total
    torch.testing.assert_close(flipped, regularizer(embeddings, step=0).total)


def test_the_same_step_gives_the_same_numbers(regularizer, embeddings):
    one, two = (regularizer(embeddings, step=7).total for _ in range(2))
    assert one == two


def test_descending_the_gradient_lowers_what_embeddings_cost(regularizer, embeddings):
    before = regularizer(embeddings, step=0).total
    (gradient,) = torch.autograd.grad(before, embeddings)
    after = regularizer(embeddings - 0.1 * gradient / gradient.norm(), step=0).total
    assert after < before


def test_gradients_are_those_of_the_numbers(regularizer):
    embeddings = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    regularizer = regularizer.double()
    assert torch.autograd.gradcheck(lambda x: regularizer(x, step=3).total, embeddings)


def test_constant_embeddings_have_a_finite_loss_and_gradient(regularizer):
    embeddings = torch.full((3, 8, 16), 0.1, requires_grad=True)
    terms = regularizer(embeddings, step=0)
    assert_finite_scalars(terms)
    terms.total.backward()
    assert embeddings.grad.isfinite().all()


def test_statistics_are_float32_under_autocast(regularizer, embeddings):
    embeddings = embeddings.detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = regularizer(embeddings, step=0)
    assert inside.total == regularizer(embeddings, step=0).total
    assert_finite_scalars(regularizer(embeddings.bfloat16(), step=0))


def test_one_embedding_that_is_not_a_number_is_seen(regularizer, embeddings):
    embeddings = embeddings.detach().clone()
    embeddings[1, 2, 3] = float("nan")
    assert regularizer(embeddings, step=0).total.isnan()


def test_a_batch_of_one_row_is_refused(regularizer):
    with pytest.raises(ValueError, match=r"at least 2 rows.* got embeddings \(3, 1, 16\); raise"):
        regularizer(torch.zeros(3, 1, 16), step=0)


@pytest.mark.parametrize("shape", [(16,), (3, 0, 16), (0, 8, 16)])
def test_embeddings_without_rows_are_refused(regularizer, shape):
    with pytest.raises(ValueError, match=r"\(\.\.\., rows, dim\) and not empty, got \("):
        regularizer(torch.zeros(shape), step=0)


def test_weights_below_zero_are_refused():
    for member in [*members(Regularizer), *members(ActionHead)]:
        weights = [name for name in inspect.signature(member).parameters if "weight" in name]
        assert weights != []
        for name in weights:
            with pytest.raises(ValueError, match="weights must be finite and at least 0, got"):
                member(**NEEDED.get(member, {}), **{name: -1.0})


def test_weights_are_in_the_total_and_not_in_the_parts(embeddings):
    for member in members(Regularizer):
        weights = [name for name in inspect.signature(member).parameters if "weight" in name]
        whole = member(**NEEDED.get(member, {}))
        doubled = copy.deepcopy(whole)
        for name in weights:
            setattr(doubled, name, 2 * getattr(whole, name))
        one, two = (regularizer(embeddings, step=0) for regularizer in (whole, doubled))
        torch.testing.assert_close(two.total, 2 * one.total)
        assert two.parts == one.parts
        assert one.total > 0


# Action heads.


def test_an_action_head_learns_and_teaches_both_embeddings(action_head, transitions):
    terms = action_head(*transitions)
    assert_finite_scalars(terms)
    terms.total.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in action_head.parameters())
    before, after, actions = (part.detach().requires_grad_() for part in transitions)
    action_head(before, after, actions).total.backward()
    assert (before.grad.abs().amax(-1) > 0).all()
    assert (after.grad.abs().amax(-1) > 0).all()


def test_an_action_head_must_be_built(action_head, transitions):
    with pytest.raises(RuntimeError, match=r"call build\(dim, action_dim\)"):
        type(action_head)()(*transitions)


def test_layouts_that_do_not_fit_an_action_head_are_refused(action_head, transitions):
    before, after, actions = transitions
    with pytest.raises(ValueError, match=r"alike, got \(4, 5, 16\) and \(4, 4, 16\)"):
        action_head(before, after[:, 1:], actions)
    with pytest.raises(ValueError, match=r"actions must be \(4, 5, 3\).* got \(4, 4, 3\)"):
        action_head(before, after, actions[:, 1:])
    with pytest.raises(ValueError, match="no pair of frames"):
        action_head(before[:, :0], after[:, :0], actions[:, :0])


# What they are for: a linear encoder and a linear predictor of what comes next, no teacher.


def walks(*, batch=128):
    """Two frames (2, batch, 16): the second is the first with some noise."""
    first = torch.randn(batch, 16)
    return torch.stack([first, 0.9 * first + 0.3 * torch.randn(batch, 16)])


def stds_after_training(regularizers, *, dim=8, steps=300):
    """Sorted standard deviations of the embeddings along their principal axes."""
    encoder, predictor = torch.nn.Linear(16, dim), torch.nn.Linear(dim, dim)
    optimizer = torch.optim.Adam([*encoder.parameters(), *predictor.parameters()], lr=0.01)
    objective = LatentMSE(stop_gradient=False)
    for step in range(steps):
        embeddings = encoder(walks())  # (time 2, batch, dim)
        loss = objective(predictor(embeddings[0]), embeddings[1]).total
        loss = loss + sum(part(embeddings, step=step).total for part in regularizers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.linalg.eigvalsh(encoder(walks(batch=1024))[0].detach().T.cov()).clamp_min(0).sqrt()


@pytest.mark.parametrize("regularizers", [[], [TemporalSimilarity()]])
def test_prediction_alone_collapses(regularizers):
    assert stds_after_training(regularizers).max() < 0.02


@pytest.mark.parametrize(
    "regularizers",
    [
        [SIGReg(weight=0.2, num_projections=64)],
        [VICReg()],
        [VICReg(), TemporalSimilarity()],
    ],
    ids=["SIGReg", "VICReg", "VICReg and TemporalSimilarity"],
)
def test_a_regularizer_keeps_every_dimension_of_the_embeddings(regularizers):
    assert stds_after_training(regularizers).min() > 0.5


def test_variance_without_covariance_keeps_few_dimensions():
    stds = stds_after_training([VICReg(cov_weight=0.0)])
    assert stds.max() > 1.5
    assert stds.min() < 0.1


def told_of_actions(*, has_head, steps=300):
    """R^2 of a linear read-out of actions from two embeddings; 0.5 is all that can be told."""

    def frames():  # 2 dimensions of noise that the action is added to, 6 that tell the clip apart
        actions, ground = torch.randn(256, 2), torch.randn(2, 256, 2)
        places = ground + torch.stack([torch.zeros(256, 2), actions])
        return torch.cat([places, torch.randn(256, 6).expand(2, -1, -1)], -1), actions

    encoder, predictor, head = torch.nn.Linear(8, 4), torch.nn.Linear(6, 4), InverseDynamics()
    head.build(4, 2)
    modules = torch.nn.ModuleList([encoder, predictor, head])
    optimizer = torch.optim.Adam(modules.parameters(), lr=0.03)
    objective, regularizer = LatentMSE(stop_gradient=False), VICReg()
    for step in range(steps):
        video, actions = frames()
        embeddings = encoder(video)
        predicted = predictor(torch.cat([embeddings[0], actions], -1))
        loss = objective(predicted, embeddings[1]).total + regularizer(embeddings, step=step).total
        if has_head:
            loss = loss + 4 * head(embeddings[0], embeddings[1], actions).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    video, actions = frames()
    pairs = torch.cat([*encoder(video).detach(), torch.ones(256, 1)], -1)
    rest = actions - pairs @ torch.linalg.lstsq(pairs, actions, driver="gelsd", rcond=0.01).solution
    return 1 - (rest.square().sum() / actions.square().sum()).item()


def test_without_inverse_dynamics_embeddings_live_on_what_never_moves():
    assert told_of_actions(has_head=False) < 0.1
    assert told_of_actions(has_head=True) > 0.4
