import torch

from jepa.models.standardization import Standardization


def test_in_training_every_feature_has_zero_mean_and_unit_variance():
    features = torch.tensor([[[1.0, 5.0]], [[3.0, 5.0]], [[5.0, 8.0]], [[7.0, 8.0]]])
    found = Standardization(2)(features)
    root = 5**0.5  # variance of 1, 3, 5, 7
    expected = torch.tensor([[-3 / root, -1], [-1 / root, -1], [1 / root, 1], [3 / root, 1]])
    torch.testing.assert_close(found[:, 0], expected, atol=1e-5, rtol=0)


def test_differences_that_are_small_beside_what_is_constant_come_out_large():
    features = 100 + 1e-2 * torch.randn(4096, 3)
    found = Standardization(3)(features)
    torch.testing.assert_close(found.std(0), torch.ones(3), atol=0.02, rtol=0)


def test_in_evaluation_the_running_statistics_are_used_and_rows_do_not_know_each_other():
    standardize = Standardization(3, momentum=0.5)
    features = 2 + 3 * torch.randn(1000, 3)
    for _ in range(30):
        standardize(features)
    standardize.eval()
    before = standardize.mean.clone()
    found = standardize(features)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.var(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardize(features[:1]), found[:1])
    assert torch.equal(standardize.mean, before)


def test_it_is_torchs_batch_norm_with_its_gradient():
    ours, theirs = Standardization(4, eps=1e-5), torch.nn.BatchNorm1d(4, affine=False)
    rows = torch.randn(6, 4)
    one, two = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    left, right = ours(one), theirs(two)
    weight = torch.randn(6, 4)
    (left * weight).sum().backward()
    (right * weight).sum().backward()
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(one.grad, two.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.mean, theirs.running_mean)


def test_what_comes_in_bfloat16_is_standardised_in_float32():
    standardize, features = Standardization(2), (300 + 9 * torch.randn(64, 2)).to(torch.bfloat16)
    found = standardize(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Standardization(2)(features.float()))
    torch.testing.assert_close(standardize.mean, 0.1 * features.float().mean(0))
    rounded = standardize.to(torch.bfloat16)  # a model that is all in bfloat16
    assert rounded.train()(features).dtype == rounded.eval()(features).dtype == torch.float32
