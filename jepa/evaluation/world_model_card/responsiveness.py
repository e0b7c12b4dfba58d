"""Responsiveness: how long a thought takes here and now, beside the deadline of a control loop.

Latencies are those of this machine at this moment, other work on it included; they are measured,
and no test asserts them. What a controller needs between a frame and an action is at least to
encode the frame and to imagine one batch of plans; a search imagines several.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from jepa.evaluation.world_model_card.held_out import HeldOutWindows
from jepa.evaluation.world_model_card.verdict import NotMeasured, Verdict
from jepa.models.world_model import LatentWorldModel

NUM_WARM_UPS = 3
LEAST_REPEATS = 5
SHARE_IN_TIME = 0.95
CONTROL = "frame and plans"  # what the deadline is held against

Clock = Callable[[], float]


@dataclass(frozen=True)
class Latency:
    """How long one kind of work took, again and again.

    Attributes:
        name: of the work.
        batch_size: sequences beside one another.
        num_steps: imagined actions one after the other; 0: none is imagined.
        seconds: of every repeat, in order.
    """

    name: str
    batch_size: int
    num_steps: int
    seconds: tuple[float, ...]

    def percentile_seconds(self, percent: float) -> float:
        """Returns what so many per cent of the repeats do not exceed."""
        return float(np.percentile(self.seconds, percent))

    @property
    def hz(self) -> float:
        """How often a second, at the median."""
        return 1 / max(self.percentile_seconds(50), 1e-9)

    def share_within(self, deadline_seconds: float) -> float:
        """Returns the share of the repeats that took no longer."""
        return float(np.mean(np.array(self.seconds) <= deadline_seconds))


@dataclass(frozen=True)
class Responsiveness:
    """Latencies of a world model, on one machine.

    Attributes:
        latencies: of a frame, a step, a rollout, many of them, and of `CONTROL`.
        deadline_hz: control steps a second.
        share_in_time: of the repeats of `CONTROL` that met the deadline.
        machine: where and with how many threads.
        verdict: passes if at least 95 % were in time, here and now.
    """

    latencies: tuple[Latency, ...]
    deadline_hz: float
    share_in_time: float
    machine: str
    verdict: Verdict


def measure_responsiveness(
    model: LatentWorldModel,
    windows: HeldOutWindows,
    *,
    deadline_hz: float = 10.0,
    num_samples: int = 64,
    repeats: int = 50,
    max_seconds_each: float = 10.0,
    clock: Clock = time.perf_counter,
) -> Responsiveness | NotMeasured:
    """Times the work of one control step and its parts.

    Args:
        model: works.
        windows: a frame, a start and actions to work on.
        deadline_hz: control steps a second.
        num_samples: plans in a batch.
        repeats: of each kind of work; fewer where they take longer than `max_seconds_each`.
        max_seconds_each: for the repeats of one kind.
        clock: tells seconds.

    Raises:
        ValueError: if the deadline, the samples or the repeats are out of range.
    """
    if not deadline_hz > 0 or num_samples < 1 or repeats < 1:
        raise ValueError(
            "deadline_hz must be above 0, num_samples and repeats at least 1, got "
            f"{deadline_hz}, {num_samples} and {repeats}"
        )
    horizon = windows.horizon
    found = []
    for name, batch_size, num_steps, work in _works(model, windows, num_samples, horizon):
        seconds = _timed(work, model.action_mean.device, repeats, max_seconds_each, clock)
        found.append(Latency(name, batch_size, num_steps, seconds))
    share = found[-1].share_within(1 / deadline_hz)
    machine = _machine(model.action_mean.device)
    return Responsiveness(
        latencies=tuple(found),
        deadline_hz=deadline_hz,
        share_in_time=share,
        machine=machine,
        verdict=_verdict(found[-1], share, deadline_hz, machine),
    )


def _works(
    model: LatentWorldModel, windows: HeldOutWindows, num_samples: int, horizon: int
) -> list[tuple[str, int, int, Callable[[], object]]]:
    """Returns name, batch size, steps, and the work itself; the last is one of a controller."""
    frame = windows.frames[:1, :, :1].to(model.action_mean.device)

    def rollout(batch_size: int, num_steps: int) -> Callable[[], object]:
        start = windows.start_latents[:1].expand(batch_size, -1, -1)
        state = windows.states[:1, windows.num_past].expand(batch_size, -1)
        actions = windows.future_actions[:1, :num_steps].expand(batch_size, -1, -1)
        return lambda: model.rollout(start, state, actions)

    plans = rollout(num_samples, horizon)
    works: list[tuple[str, int, int, Callable[[], object]]] = [
        ("frame", 1, 0, lambda: model.encode(frame)),
        ("step", 1, 1, rollout(1, 1)),
        ("steps", num_samples, 1, rollout(num_samples, 1)),
        ("rollout", 1, horizon, rollout(1, horizon)),
        ("plans", num_samples, horizon, plans),
    ]
    works.append((CONTROL, num_samples, horizon, lambda: (model.encode(frame), plans())))
    return works


@torch.inference_mode()
def _timed(
    work: Callable[[], object],
    device: torch.device,
    repeats: int,
    max_seconds: float,
    clock: Clock,
) -> tuple[float, ...]:
    """Returns the seconds of every repeat, after some that do not count."""
    for _ in range(NUM_WARM_UPS):
        work()
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < LEAST_REPEATS or sum(seconds) < max_seconds):
        _wait_for(device)
        begin = clock()
        work()
        _wait_for(device)
        seconds.append(clock() - begin)
    return tuple(seconds)


def _wait_for(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} thread(s)"


def _verdict(latency: Latency, share: float, deadline_hz: float, machine: str) -> Verdict:
    told = (
        f"{share:.0%} of {len(latency.seconds)} control steps (a frame, {latency.batch_size} plans "
        f"of {latency.num_steps} steps) within {1000 / deadline_hz:g} ms, on this machine "
        f"({machine})"
    )
    if share >= SHARE_IN_TIME:
        return Verdict("pass", told)
    return Verdict("fail", f"{told}: at least {SHARE_IN_TIME:.0%} must be")
