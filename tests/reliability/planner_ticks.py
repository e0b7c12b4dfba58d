"""A control loop at 30 ms whose planner, in its own process, is killed, stopped, slowed and failed.

Prints one line of JSON: how each tick was answered, how long the answer took, how late it was.
Options: the number of ticks, the seed of the faults, and `waiting`, which lets the loop itself wait
for each plan: what must not be done.
"""

import json
import os
import signal
import sys
import threading
import time
from functools import partial

import numpy as np
import torch

from planning.actions.space import ActionSpec, ActionSteps
from planning.control.asynchronous_mpc import AsynchronousPolicy
from planning.control.metronome import Metronome
from planning.control.plan_process import PlannerRecipe, PlanProcess
from planning.planners.cem import CEM
from planning.safety.safe_stop import SafeStop
from planning.types import Goal, Latent, TimeStep

PERIOD_SECONDS = 0.03
TICKS_BETWEEN_FAULTS = 400
PLANNER = CEM(horizon=12, num_samples=64, num_elites=8, num_iterations=2)


class DrawnWorld:
    """A small network moves a place; now and then it is slow, or fails."""

    action_dim, seconds_per_step, action_steps = 2, None, ActionSteps()
    device = torch.device("cpu")

    def __init__(self, seed, *, fails=True):
        self.generator, self.fails = np.random.default_rng(seed), fails
        torch.manual_seed(0)
        self.network = torch.nn.Linear(2, 2).requires_grad_(False)

    def encode(self, frame, state=None):
        return Latent(torch.from_numpy(frame[0, :1, :2].astype(np.float32)) / 255)

    def rollout(self, start, actions):
        draw = self.generator.random() if self.fails and len(actions) > 1 else 1.0
        if draw < 0.0003:
            raise RuntimeError("the network failed")
        if draw < 0.001:
            time.sleep(0.5)
        return Latent(start.tokens + self.network(actions).cumsum(1).unsqueeze(2) * 0.1)

    def distance(self, latents, goal):
        return (latents - goal).square().sum((-2, -1))


class Arm:
    """Shows noise; its actions are looked at."""

    name, frames_per_second, image_size = "arm", 1 / PERIOD_SECONDS, 4
    action_spec = ActionSpec(("x", "y"), ("m",) * 2, (-1.0,) * 2, (1.0,) * 2, max_change=(0.5,) * 2)
    goal = Goal(np.full((4, 4, 3), 200, np.uint8), np.zeros(2, np.float32))


class Loop:
    """The ticking side."""

    def __init__(self, seed, *, waits):
        self.seed, self.waits, self.num_starts = seed, waits, 0
        self.policy = self.process = self.starter = None
        self.last = np.zeros(2, np.float32)
        self.start()

    def start(self):
        """Begins a new planner, beside the loop: the reset that a stop asks for."""
        self.num_starts += 1
        self.starter = threading.Thread(target=self._start, daemon=True)
        self.starter.start()

    def _start(self):
        if self.policy is not None:
            self.policy.close()
            self.process.close()
        recipe = PlannerRecipe(
            partial(DrawnWorld, (7, self.seed, self.num_starts)), PLANNER, [Arm.goal.frame],
            Arm.action_spec, deadline_seconds=0.02,
        )  # fmt: skip
        self.process = PlanProcess(recipe, give_up_seconds=1.0)
        self.policy = AsynchronousPolicy(
            DrawnWorld(0, fails=False), PLANNER, submit=self.process.submit,
            period_seconds=PERIOD_SECONDS,
        )  # fmt: skip

    def answer(self, frame):
        """Answers one tick: "plan", "still" or "stop"."""
        if self.starter is not None and self.starter.is_alive():
            return "stop"
        try:
            shown = TimeStep(frame, np.zeros(2, np.float32), False, False)
            action = self.policy(Arm, shown, None)
            if self.waits and self.policy._future is not None:
                self.policy._future.exception()
        except SafeStop:
            self.last = np.zeros(2, np.float32)
            self.start()
            return "stop"
        assert np.isfinite(action).all() and (np.abs(action) <= 1).all()
        assert (np.abs(action - self.last) <= 0.5 + 1e-6).all()
        self.last = action
        return "plan" if self.policy._motion._queue or action.any() else "still"


def harm(process_id, generator):
    """Kills or stops the planner's process; a stopped one may go on half a second later."""
    kind = generator.choice(["kill", "stop", "pause"])
    try:
        os.kill(process_id, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
        if kind == "pause":
            threading.Timer(0.5, _go_on, [process_id]).start()
    except ProcessLookupError:
        return "none"
    return str(kind)


def _go_on(process_id):
    try:
        os.kill(process_id, signal.SIGCONT)
    except ProcessLookupError:
        return


def main(num_ticks, seed, *, waits):
    torch.set_num_threads(1)
    generator, metronome = np.random.default_rng(seed), Metronome(PERIOD_SECONDS)
    loop, harms = Loop(seed, waits=waits), {}
    answers, took, late = {"plan": 0, "still": 0, "stop": 0}, [], []
    loop.starter.join()
    began = time.monotonic()
    while loop.answer(np.zeros((4, 4, 3), np.uint8)) != "plan" and time.monotonic() - began < 120:
        time.sleep(PERIOD_SECONDS)
    metronome.wait()
    for tick in range(num_ticks):
        if tick % TICKS_BETWEEN_FAULTS == 50 and loop.process is not None:
            kind = harm(loop.process.process_id, generator)
            harms[kind] = harms.get(kind, 0) + 1
        began, due = time.monotonic(), metronome._due
        answers[loop.answer(generator.integers(0, 255, (4, 4, 3), np.uint8))] += 1
        took.append(time.monotonic() - began)
        late.append(0.0 if due is None else max(0.0, began - due + PERIOD_SECONDS))
        metronome.wait()
    loop.starter.join()
    loop.policy.close()
    loop.process.close()
    print(json.dumps({"answers": answers, "harms": harms, "starts": loop.num_starts,
                      "took_ms": [round(1e3 * s, 3) for s in took],
                      "late_ms": [round(1e3 * s, 3) for s in late]}))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), waits="waiting" in sys.argv)
