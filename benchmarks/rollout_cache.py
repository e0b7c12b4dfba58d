"""Imagining with a key/value cache against recomputing the prefix at every step.

    python benchmarks/rollout_cache.py [--samples 64] [--dim 192] [--repeats 5]

Same weights, same actions, outputs equal to 1e-4 before a ratio is printed. The two alternate
within one run; the ratio is the median of paired ratios, with the smallest and the largest. The
last column is the ratio of frames that go through the network, H (H + 1) / 2 over H.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor

from jepa.models import ActionConditionedPredictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--dim", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'grid':>6}{'horizon':>9}{'speed-up':>10}{'min-max':>14}{'frames':>8}")
    for grid in ((1, 1), (4, 4)):
        for horizon in (2, 4, 8):
            ratios = compare(grid, horizon, arguments)
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
            median = statistics.median(ratios)
            size = f"{grid[0]}x{grid[1]}"
            print(f"{size:>6}{horizon:>9}{median:>9.2f}x{spread:>14}{(horizon + 1) / 2:>7.1f}x")


@torch.inference_mode()
def compare(grid: tuple[int, int], horizon: int, arguments: argparse.Namespace) -> list[float]:
    torch.manual_seed(0)
    model = ActionConditionedPredictor(
        latent_dim=64, action_dim=2, state_dim=2, grid=grid, dim=arguments.dim, depth=4, num_heads=4
    )
    tokens = torch.randn(arguments.samples, grid[0] * grid[1], 64)
    state = torch.randn(arguments.samples, 2)
    actions = torch.randn(arguments.samples, horizon, 2)
    cached = model.rollout(tokens, state, actions).tokens
    torch.testing.assert_close(cached, uncached(model, tokens, state, actions), atol=1e-4, rtol=0)
    ratios = []
    for _ in range(arguments.repeats):
        slow = seconds(lambda: uncached(model, tokens, state, actions))
        ratios.append(slow / seconds(lambda: model.rollout(tokens, state, actions)))
    return ratios


def uncached(
    model: ActionConditionedPredictor, tokens: Tensor, state: Tensor, actions: Tensor
) -> Tensor:
    """Rolls out by running the whole prefix at every step, as the reference implementations do."""
    frames, states = tokens[:, None], state[:, None]
    for step in range(actions.shape[1]):
        prediction = model(frames, states, actions[:, : step + 1])
        frames = torch.cat((frames, prediction.tokens[:, -1:]), 1)
        states = torch.cat((states, prediction.state[:, -1:]), 1)
    return frames[:, 1:]


def seconds(run: object) -> float:
    assert callable(run)
    began = time.process_time()
    run()
    return time.process_time() - began


if __name__ == "__main__":
    main()
