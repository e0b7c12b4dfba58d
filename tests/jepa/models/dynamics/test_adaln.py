"""What is special to AdaLN; what all dynamics share is in test_base.py."""

import pytest
import torch

from jepa.models.dynamics import AdaLN
from jepa.models.dynamics.adaln import AdaLNBlock
from jepa.training.model_blocks import checkpoint_blocks
from tests.jepa.models.dynamics.test_base import close, make_windows


def make(*, disturbance=0.2, output="residual", state_dim=4, grid=(1, 1), **options):
    torch.manual_seed(0)
    settings = {"dim": 24, "depth": 2, "num_heads": 3, "head_dim": 12, "mlp_dim": 32, "dropout": 0}
    dynamics = AdaLN(**(settings | options))
    dynamics.build(latent_dim=10, action_dim=2, state_dim=state_dim, grid=grid, output=output)
    with torch.no_grad():
        for parameter in dynamics.parameters():
            parameter.add_(disturbance * torch.randn_like(parameter))
    return dynamics.eval()


def test_gates_begin_at_zero_so_blocks_begin_by_doing_nothing():
    block = AdaLNBlock(24, 3, 12, 32, 0.0)
    x, condition = torch.randn(2, 3, 4, 24), torch.randn(2, 3, 24)
    assert torch.equal(block(x, block.modulation(condition))[0], x)


def test_one_frame_of_a_block_is_that_of_a_slow_reference():
    """One head, one token a frame: the formula of the paper, written out."""
    torch.manual_seed(0)
    block = AdaLNBlock(6, 1, 4, 8, 0.0)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, modulation = torch.randn(1, 2, 1, 6), torch.randn(1, 2, 36)
    found = block(x, modulation, is_visible=torch.ones(2, 2).tril().bool())[0]
    shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation[0].split(6, -1)
    rows = x[0, :, 0]  # (frames, dim)
    normed = torch.nn.functional.layer_norm(rows, (6,), eps=1e-6) * (1 + scale) + shift
    queries, keys, values = block.qkv(normed).split(4, -1)
    scores = (queries @ keys.T / 2).masked_fill(torch.ones(2, 2).triu(1).bool(), -torch.inf)
    rows = rows + gate * block.proj(scores.softmax(-1) @ values)
    normed = torch.nn.functional.layer_norm(rows, (6,), eps=1e-6) * (1 + mlp_scale) + mlp_shift
    rows = rows + mlp_gate * block.mlp(normed)
    torch.testing.assert_close(found[0, :, 0], rows, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3)])
def test_what_left_the_window_is_forgotten(grid):
    """The prediction is that of the last frames alone, as if nothing had been before."""
    dynamics = make(context_frames=3, grid=grid)
    windows = make_windows(grid=grid)
    whole = dynamics(*windows)
    for time in (3, 4, 6):
        alone = dynamics(*(part[:, time - 2 : time + 1] for part in windows))
        close(whole.map(lambda p, t=time: p[:, t]), alone.map(lambda p: p[:, -1]))
    longer = make(context_frames=4, grid=grid)
    assert longer.frame_embed.shape[0] == 4


def test_within_the_window_all_of_it_counts():
    dynamics, windows = make(context_frames=3), make_windows(grid=(1, 1))
    before = dynamics(*windows).tokens
    windows[0][:, 2] += 1.0
    changed = (dynamics(*windows).tokens - before).abs().amax((0, 2, 3))
    assert (changed[:2] == 0).all() and (changed[2:5] > 1e-3).all()
    assert (changed[5:] < 1e-5).all()


def test_keys_and_values_are_kept_until_the_window_slides():
    dynamics, windows = make(context_frames=3), make_windows(grid=(1, 1))
    memory, kept = None, []
    for time in range(5):
        _, memory = dynamics.step(*(part[:, time] for part in windows), memory=memory)
        kept.append((memory.frames.shape[1], len(memory.keys_values)))
    assert kept == [(1, 2), (2, 2), (3, 0), (3, 0), (3, 0)]


def test_a_rollout_asks_once_what_actions_do_to_the_norms():
    dynamics, (tokens, states, actions) = make(context_frames=3), make_windows(grid=(1, 1))
    calls = []
    dynamics.blocks[0].modulation.register_forward_hook(lambda *io: calls.append(io[2].shape))
    dynamics.rollout(tokens[:, 0], states[:, 0], actions)
    assert calls == [(3, 7, 6 * 24)]


def test_nothing_of_a_window_of_one_frame_is_remembered():
    dynamics, windows = make(context_frames=1), make_windows(grid=(1, 1))
    assert dynamics.remember(*(part[:, :3] for part in windows)) is None


def test_a_residual_begins_close_to_a_copy():
    dynamics, windows = make(disturbance=0.0), make_windows(grid=(1, 1))
    predicted = dynamics(*windows)
    assert (predicted.tokens - windows[0]).abs().mean() < 0.2
    assert (predicted.tokens - windows[0]).abs().max() > 0


def test_the_predictor_of_the_paper_has_its_size():
    """10.8 M parameters in the blocks (released modules of LeWM), see configs/world_model."""
    with torch.device("meta"):
        dynamics = AdaLN(projector_dim=2048)
        dynamics.build(latent_dim=192, action_dim=10, state_dim=0, grid=(1, 1), output="residual")
    assert sum(p.numel() for p in dynamics.blocks.parameters()) == 10_804_224
    assert sum(p.numel() for p in dynamics.parameters()) == 11_824_256


def test_blocks_that_are_computed_again_have_the_same_gradient():
    windows, gradients = make_windows(grid=(1, 1)), []
    for again in (False, True):
        dynamics = make(context_frames=3)
        if again:
            checkpoint_blocks([dynamics])
        dynamics.rollout(windows[0][:, 0], windows[1][:, 0], windows[2]).tokens.sum().backward()
        gradients.append({name: p.grad for name, p in dynamics.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-4)
