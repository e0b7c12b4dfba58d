"""What counts as known: by hand on latents of known shape, calibrated, and kept on disk."""

import pytest
import torch
from safetensors.torch import save_file

from planning.costs import LatentBank, Mahalanobis, NearestLatents

KINDS = [Mahalanobis, NearestLatents]


def gaussian_latents(num_frames, *, seed, stds=(4.0, 0.5), mean=(1.0, -1.0)):
    """Latents (frames, 1 token, 2) of independent columns."""
    noise = torch.randn(num_frames, 2, generator=torch.Generator().manual_seed(seed))
    return (noise * torch.tensor(stds) + torch.tensor(mean)).unsqueeze(1)


def bank(kind, **options):
    return kind.fit(gaussian_latents(4000, seed=0), gaussian_latents(1000, seed=1), **options)


def at(*values):
    return torch.tensor(values).reshape(-1, 1, 2)


def test_a_gaussian_counts_standard_deviations_along_its_axes():
    # Off the mean by 2 standard deviations along the first axis, or 2 along the second.
    distances = bank(Mahalanobis, shrinkage=1e-6).distance(at([9.0, -1.0], [1.0, 0.0], [1.0, -1.0]))
    assert distances.tolist() == pytest.approx([2**0.5, 2**0.5, 0], abs=0.06)


def test_a_gaussian_sees_through_correlation():
    latents = gaussian_latents(4000, seed=0, stds=(1.0, 1.0), mean=(0.0, 0.0))
    latents[..., 1] = latents[..., 0] + 0.1 * latents[..., 1]  # near the diagonal
    fitted = Mahalanobis.fit(latents, latents[:500], shrinkage=1e-6)
    along, across = fitted.distance(at([1.0, 1.0], [1.0, -1.0])).tolist()
    assert across > 10 * along


def test_a_direction_that_never_varied_is_strange_but_not_without_bound():
    latents = gaussian_latents(100, seed=0, stds=(1.0, 0.0), mean=(0.0, 0.0))
    distance = Mahalanobis.fit(latents, latents, shrinkage=0.02).distance(at([0.0, 1.0]))
    variance = latents.var(correction=0, dim=0).sum().item()
    # The mean variance is half that of the column that varies; 2 % of it is all that this one has.
    assert distance.item() == pytest.approx((1 / (0.01 * variance) / 2) ** 0.5, rel=1e-3)


def test_nearest_latents_by_hand():
    latents = at([0.0, 0.0], [1.0, 0.0], [0.0, 3.0])
    query = at([0.0, 0.0])  # differences 0, 1 and 3 in one of two features
    for neighbour, expected in ((1, 0.0), (2, 0.5**0.5), (3, 4.5**0.5)):
        fitted = NearestLatents.fit(latents, at([5.0, 5.0]), neighbour=neighbour)
        assert fitted.distance(query).item() == pytest.approx(expected)


def test_nearest_latents_follow_a_ring_that_a_gaussian_cannot():
    angles = torch.linspace(0, 2 * torch.pi, 400)[:-1]
    ring = torch.stack([angles.cos(), angles.sin()], -1).unsqueeze(1)
    middle, on_it = at([0.0, 0.0], [1.0, 0.0])
    nearest = NearestLatents.fit(ring[::2], ring[1::2])
    assert nearest.excess(middle) > 1
    assert nearest.excess(on_it) == 0
    assert Mahalanobis.fit(ring[::2], ring[1::2]).excess(middle) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_the_threshold_lets_its_share_of_new_latents_pass(kind, quantile):
    fitted = bank(kind, quantile=quantile)
    new = gaussian_latents(2000, seed=2)
    assert (fitted.excess(new) == 0).float().mean().item() == pytest.approx(quantile, abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_excess_is_in_thresholds_and_zero_within_one(kind):
    fitted = bank(kind)
    tokens = torch.stack([at([1.0, -1.0]), at([100.0, -1.0])])
    expected = (fitted.distance(tokens) / fitted.threshold - 1).clamp_min(0)
    assert torch.equal(fitted.excess(tokens), expected)
    assert fitted.excess(tokens)[0] == 0 < fitted.excess(tokens)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_rollouts_are_measured_latent_by_latent(kind):
    fitted = bank(kind)
    rollouts = gaussian_latents(24, seed=3).reshape(4, 6, 1, 2)
    distances = fitted.distance(rollouts)
    assert distances.shape == (4, 6)
    assert torch.allclose(distances[2, 5], fitted.distance(rollouts[2, 5]), atol=1e-6)


def test_nearest_latents_in_many_chunks_are_those_in_one(monkeypatch):
    fitted, tokens = bank(NearestLatents), gaussian_latents(50, seed=4)
    together = fitted.distance(tokens)
    monkeypatch.setattr("planning.costs.latent_banks.MAX_DISTANCES", 7 * 4000)  # of 4000 latents
    alone = fitted.distance(tokens)
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_pooled", [False, True])
def test_pooled_banks_do_not_see_where_a_token_is(kind, is_pooled):
    latents = torch.randn(200, 3, 2, generator=torch.Generator().manual_seed(0))
    latents = latents + torch.tensor([[9.0], [0.0], [-9.0]])
    fitted = kind.fit(latents[::2], latents[1::2], is_pooled=is_pooled)
    is_known = fitted.excess(latents[:1].flip(-2)) == 0
    assert bool(is_known) is is_pooled


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(
    kind, assert_gradient_is_that_of_finite_differences
):
    fitted = bank(kind)
    assert_gradient_is_that_of_finite_differences(
        lambda tokens: fitted.distance(5 * tokens), 2, 3, 1, 2
    )


def test_a_gradient_at_a_known_latent_is_finite():
    latents = gaussian_latents(50, seed=0)
    fitted = NearestLatents.fit(latents, gaussian_latents(50, seed=1), neighbour=1)
    tokens = latents[:2].clone().requires_grad_()
    fitted.distance(tokens).sum().backward()
    assert tokens.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_nan_is_never_known(kind):
    assert bank(kind).excess(at([float("nan"), 0.0])).isnan().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_bank_comes_back_from_disk_as_it_was(kind, is_pooled, tmp_path):
    fitted = bank(kind, is_pooled=is_pooled)
    loaded = LatentBank.load(fitted.save(tmp_path / "bank.safetensors"))
    tokens = gaussian_latents(20, seed=5)
    assert type(loaded) is kind
    assert (loaded.threshold, loaded.is_pooled) == (fitted.threshold, is_pooled)
    assert torch.equal(loaded.excess(tokens), fitted.excess(tokens))
    assert [path.name for path in tmp_path.iterdir()] == ["bank.safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bank_is_read_to_the_device_of_the_world_model(kind, tmp_path):
    path = bank(kind).save(tmp_path / "bank.safetensors")
    devices = [torch.device("cpu")] + [torch.device("cuda", 0)] * torch.cuda.is_available()
    for device in devices:
        loaded = LatentBank.load(path, device=device)
        assert {part.device for part in loaded.tensors().values()} == {device}


def test_files_that_are_no_bank_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        LatentBank.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        LatentBank.load(tmp_path / "text")
    save_file({"latents": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="is not a latent bank 1 file"):
        LatentBank.load(tmp_path / "other")
    header = {"format": "latent bank 1", "kind": "NearestLatents", "settings": "{}"}
    save_file({"latents": torch.zeros(1)}, tmp_path / "part", metadata=header)
    with pytest.raises(ValueError, match="is not a whole latent bank 1 file"):
        LatentBank.load(tmp_path / "part")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("latents", "held_out", "options", "message"),
    [
        ((9, 1, 2), (9, 1, 2), {"quantile": 1.0}, r"quantile must be in \(0, 1\), got 1.0"),
        ((9, 1, 2), (9, 1, 3), {}, r"of one world, got \(9, 1, 2\) and \(9, 1, 3\)"),
        ((9, 2), (9, 2), {}, r"must be \(frames, tokens, dim\)"),
        ((1, 1, 2), (9, 1, 2), {}, "at least 2 latents and 1 held out, got 1 and 9"),
        ((9, 1, 2), (0, 1, 2), {}, "at least 2 latents and 1 held out, got 9 and 0"),
    ],
)
def test_latents_that_do_not_fit_are_refused(kind, latents, held_out, options, message):
    with pytest.raises(ValueError, match=message):
        kind.fit(torch.randn(latents), torch.randn(held_out), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_latents_that_say_nothing_are_refused(kind):
    with pytest.raises(ValueError, match="must be finite"):
        kind.fit(torch.full((9, 1, 2), float("nan")), torch.zeros(9, 1, 2))
    with pytest.raises(ValueError, match="build it with the same world model"):
        bank(kind).distance(torch.zeros(4, 3, 2))


def test_latents_that_are_all_equal_are_refused():
    with pytest.raises(ValueError, match="all equal to those of the bank"):
        NearestLatents.fit(torch.ones(9, 1, 2), torch.ones(9, 1, 2))
    with pytest.raises(ValueError, match="the latents are all equal"):
        Mahalanobis.fit(torch.ones(9, 1, 2), torch.ones(9, 1, 2))


def test_settings_of_one_kind_are_checked():
    latents = torch.randn(9, 1, 2)
    with pytest.raises(ValueError, match="neighbour must be from 1 to the 9 latents, got 10"):
        NearestLatents.fit(latents, latents, neighbour=10)
    with pytest.raises(ValueError, match=r"shrinkage must be in \(0, 1\], got 0"):
        Mahalanobis.fit(latents, latents, shrinkage=0)
    wide = torch.randn(3, 100, 64)
    with pytest.raises(ValueError, match=r"6400 features is too large, at most 4096 .* is_pooled"):
        Mahalanobis.fit(wide, wide)
    assert Mahalanobis.fit(wide, wide, is_pooled=True).threshold > 0
