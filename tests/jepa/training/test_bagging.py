import torch

from jepa.training.bagging import drawn_rows, draws


def test_a_trajectory_is_drawn_as_often_in_every_batch():
    one = draws(["a", "b", "a", "c"], num_members=4, seed=0)
    other = draws(["c", "a", "d"], num_members=4, seed=0)
    assert one.shape == (4, 4)
    assert torch.equal(one[:, 0], one[:, 2])
    assert torch.equal(one[:, [3, 0]], other[:, :2])
    assert not torch.equal(one, draws(["a", "b", "a", "c"], num_members=4, seed=1))


def test_draws_are_those_of_a_sample_with_replacement():
    """Poisson(1): mean and variance are 1, and 1 / e are left out; members draw by themselves."""
    counts = draws([f"episode-{n}" for n in range(4000)], num_members=3, seed=5).float()
    torch.testing.assert_close(counts.mean(1), torch.ones(3), atol=0.06, rtol=0)
    torch.testing.assert_close(counts.var(1), torch.ones(3), atol=0.1, rtol=0)
    torch.testing.assert_close((counts == 0).float().mean(1), torch.full((3,), 0.368), atol=0.03,
                               rtol=0)  # fmt: skip
    assert torch.corrcoef(counts)[0, 1].abs() < 0.06


def test_no_member_is_left_with_nothing_to_learn():
    counts = torch.cat([draws([f"episode-{n}"] * 2, num_members=5, seed=0) for n in range(40)])
    assert (counts.sum(1) > 0).all()
    assert (counts == 1).any() and (counts > 1).any()


def test_rows_are_as_often_as_they_were_drawn():
    rows = drawn_rows(torch.tensor([[2, 0, 1], [0, 1, 0]]))
    assert [row.tolist() for row in rows] == [[0, 0, 2], [1]]
