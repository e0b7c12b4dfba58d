"""`jepa demo`: video, shards, pretraining, probe, world model, goals reached by planning, a report.

Every stage is a command that can be run by itself; the demo prints it. Exit code 1 if a sanity
threshold fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jepa.version import __version__


@dataclass(frozen=True)
class Size:
    """How long the demo takes.

    Attributes:
        episodes: recorded to train on.
        held_out_episodes: recorded to score the probe on.
        pretrain_steps: optimizer steps of the encoder.
        world_model_steps: optimizer steps of the dynamics.
        tasks: goals to reach.
        min_success: threshold of the planner's success rate.
        max_random_success: threshold of random actions; few tasks need a loose one.
        min_probe_gain: threshold of trained minus untrained probe score; None: training is too
            short to ask for it.
    """

    episodes: int
    held_out_episodes: int
    pretrain_steps: int
    world_model_steps: int
    tasks: int
    min_success: float
    max_random_success: float
    min_probe_gain: float | None


FULL = Size(200, 40, 800, 700, 100, 0.8, 0.2, 0.05)
QUICK = Size(64, 16, 60, 150, 12, 0.4, 0.4, None)
MIN_EFFECTIVE_RANK = 3.0
RECORDED_STEPS = 63
PLANNER = {"horizon": 8, "num_samples": 128, "num_elites": 16, "num_iterations": 3,
           "smoothness": 0.3}  # fmt: skip
EXECUTE_STEPS = 4


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns 0, or 1 if a sanity threshold failed."""
    parser = argparse.ArgumentParser(prog="jepa demo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of all results")
    parser.add_argument("--quick", action="store_true", help="a minute: proves the path, not much")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and planner")
    arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
    # Idle threads spin briefly, then sleep: with one other process on two cores the default made
    # training 1.6 times slower than this (docs/log.md). Read once, when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    demo = Demo(arguments.out, QUICK if arguments.quick else FULL, arguments.seed)
    demo.run()
    return 0 if all(threshold["passed"] for threshold in demo.summary["thresholds"]) else 1


@dataclass
class Demo:
    """One run, stage by stage; `summary` grows as it goes."""

    out: Path
    size: Size
    seed: int
    summary: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """All stages."""
        began = time.perf_counter()
        self.summary = {
            "version": __version__,
            "settings": {**vars(self.size), "seed": self.seed, "planner": PLANNER},
            "machine": {"system": platform.platform(), "python": platform.python_version(),
                        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                        else os.cpu_count()},
            "commands": [],
            "seconds": {},
        }  # fmt: skip
        self.out.mkdir(parents=True, exist_ok=True)
        with self.stage("record"):
            self.record()
        with self.stage("pretrain"):
            self.pretrain()
        with self.stage("probe"):
            self.probe()
        with self.stage("world_model"):
            self.train_world_model()
        with self.stage("plan"):
            self.plan()
        self.check_thresholds()
        with self.stage("report"):
            self.report()
        self.summary["seconds"]["total"] = time.perf_counter() - began
        self.write_summary()
        self.finish()

    # ------------------------------------------------------------------ stages

    def record(self) -> None:
        """Records the simulator under a random policy: mp4s with states and actions, in shards."""
        from planning.__main__ import main as plan

        for folder, episodes, seed in (
            ("shards", self.size.episodes, self.seed),
            ("held_out", self.size.held_out_episodes, self.seed + 1_000_003),
        ):
            self.command(
                "plan", plan,
                "record", "--environment", "two_rooms", "--episodes", episodes, "--steps",
                RECORDED_STEPS, "--seed", seed, "--overwrite", self.out / folder,
            )  # fmt: skip

    def pretrain(self) -> None:
        """Masked-latent pretraining on the videos alone."""
        folder = self.out / "pretrain"
        self.fit(
            "demo/pretrain.yaml", folder, self.size.pretrain_steps,
            "--data.shards", self.out / "shards",
        )  # fmt: skip
        metrics = _metrics(folder)
        self.summary["collapse"] = {
            "effective_rank": metrics["collapse/effective_rank"][-1],
            "effective_rank_at_start": metrics["collapse/effective_rank"][0],
            "feature_std": metrics["collapse/feature_std"][-1],
            "dim": _encoder_dim(folder),
        }
        self.summary["pretraining"] = _first_and_last(metrics, "loss/total")
        loss, health = self.summary["pretraining"], self.summary["collapse"]
        self.say(
            f"loss {loss['first']:.3f} -> {loss['last']:.3f}, effective rank "
            f"{health['effective_rank']:.1f} of {health['dim']} (1 = collapsed)"
        )

    def probe(self) -> None:
        """Reads the agent's position off frozen features."""
        from jepa.evaluation.probes import probe_against_untrained, score_table

        paths = [str(self.out / name) for name in ("pretrain", "shards", "held_out")]
        self.note(
            "probe", "--encoder", paths[0], "--shards", paths[1], "--test-shards", paths[2],
            "--seed", str(self.seed),
        )  # fmt: skip
        scores = probe_against_untrained(*paths, seed=self.seed)
        self.summary["probe"] = {
            name: {"r2": row["pooled"], "r2_all_tokens": row["all_tokens"]}
            for name, row in scores.items()
        }
        self.summary["probe"]["chance"] = {"r2": scores["trained"]["chance"]}
        self.say(f"position from frozen features\n{score_table(scores)}")

    def train_world_model(self) -> None:
        """Learns what actions do, in the latent space of the frozen encoder."""
        folder, encoder = self.out / "world_model", self.out / "pretrain"
        self.fit(
            "demo/world_model.yaml", folder, self.size.world_model_steps,
            "--data.trajectories.init_args.shards", self.out / "shards",
            "--data.encoder", encoder, "--model.encoder", encoder,
        )  # fmt: skip
        metrics = _metrics(folder)
        self.summary["world_model"] = {
            "teacher_forcing": metrics["loss/teacher_forcing"][-1],
            "rollout": metrics["loss/rollout"][-1],
            "copy_baseline": metrics["baseline/copy"][-1],
        }
        row = self.summary["world_model"]
        self.say(
            f"next latent off by {row['teacher_forcing']:.4f}, imagined for 8 steps "
            f"{row['rollout']:.4f}; predicting no change: {row['copy_baseline']:.4f} for one step"
        )

    def plan(self) -> None:
        """Reaches goal images on frozen starts, beside every baseline."""
        from planning.__main__ import find_tasks
        from planning.control.mpc import PlanningPolicy
        from planning.evaluation import TaskSet, baselines, evaluate, success_table
        from planning.latent_world import LatentWorld
        from planning.planners.cem import CEM

        self.note(
            "plan", "evaluate", "--world", str(self.out / "world_model"),
            "--episodes", str(self.size.tasks), "--seed", str(self.seed),
        )  # fmt: skip
        tasks = TaskSet.load(find_tasks("two_rooms")).first(self.size.tasks)
        world, planner = LatentWorld.load(self.out / "world_model"), CEM(**PLANNER)

        def planning(index: int) -> PlanningPolicy:
            return PlanningPolicy(
                world, planner, execute_steps=EXECUTE_STEPS, seed=self.seed + index
            )

        self.evaluation = evaluate("planner", planning, tasks)
        makers = baselines(tasks.make_environment())
        others = [evaluate(name, make, tasks) for name, make in makers.items()]
        evaluations = [self.evaluation, *others]
        self.summary["success"] = {e.policy.replace(" ", "_"): _rates(e) for e in evaluations}
        self.summary["milliseconds_per_plan"] = self.evaluation.milliseconds_per_plan
        episodes = json.dumps([e.to_json() for e in evaluations], indent=1)
        (self.out / "episodes.json").write_text(episodes)
        self.say(f"{len(tasks.tasks)} frozen starts and goals\n{success_table(evaluations)}")

    def check_thresholds(self) -> None:
        """Compares the numbers with what a sane run reaches."""
        summary, size = self.summary, self.size
        probe, model = summary["probe"], summary["world_model"]
        rows = [
            ("planned success", summary["success"]["planner"]["rate"], ">=", size.min_success),
            ("success of random actions", summary["success"]["random_actions"]["rate"], "<=",
             size.max_random_success),
            ("probe gain over the untrained encoder",
             probe["trained"]["r2"] - probe["untrained"]["r2"], ">=", size.min_probe_gain),
            ("effective rank", summary["collapse"]["effective_rank"], ">=", MIN_EFFECTIVE_RANK),
            ("prediction error over no change",
             model["teacher_forcing"] / model["copy_baseline"], "<=", 1.0),
        ]  # fmt: skip
        summary["thresholds"] = [
            {
                "name": f"{name} {sign} {limit:g}",
                "value": value,
                "limit": limit,
                "passed": bool(value >= limit if sign == ">=" else value <= limit),
            }
            for name, value, sign, limit in rows
            if limit is not None
        ]

    def report(self) -> None:
        """Writes report.html and the picture of the README."""
        from jepa.checkpoints.native import load_encoder, untrained_encoder
        from jepa.demo import evidence
        from jepa.demo.figures import hero_picture, spearman
        from jepa.demo.report import ReportInputs, write_report
        from planning.environments.two_rooms import TwoRooms
        from planning.latent_world import LatentWorld

        rooms, episode = TwoRooms(), evidence.show_episode(self.evaluation)
        world = LatentWorld.load(self.out / "world_model")
        geometry = evidence.geometry(world, rooms, num_pairs=2000, seed=self.seed)
        way = geometry.path_length
        self.summary["geometry"] = {
            "latent_rank_correlation": spearman(way, geometry.latent_distance),
            "token_rank_correlation": spearman(way, geometry.token_distance),
        }
        self.write_summary()
        folder = self.out / "pretrain"
        encoders = load_encoder(folder), untrained_encoder(folder, seed=self.seed)
        inputs = ReportInputs(
            summary=self.summary,
            pretraining_metrics=folder / "metrics.csv",
            world_model_metrics=self.out / "world_model" / "metrics.csv",
            feature_maps=evidence.feature_maps(*encoders, episode),
            geometry=geometry,
            landscape=evidence.energy_landscape(world, rooms, episode, repeats=EXECUTE_STEPS),
            imagined=evidence.imagined_distance(episode),
            distance_map=evidence.distance_map(world, rooms, episode.goal.state.astype(float)),
            episodes=evidence.chosen_episodes(self.evaluation),
            rollout_strip=evidence.rollout_strip(world, rooms, episode),
        )
        write_report(self.out / "report.html", inputs)
        (self.out / "picture.png").write_bytes(hero_picture(inputs))
        ranks = self.summary["geometry"]
        self.say(
            f"latent distance follows the length of the way: rank correlation "
            f"{ranks['latent_rank_correlation']:.2f}; distance of patch tokens "
            f"{ranks['token_rank_correlation']:.2f}"
        )

    # ------------------------------------------------------------------ the frame around them

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announces a stage and takes its time."""
        began = time.perf_counter()
        print(f"\n=== {name.replace('_', ' ')}", flush=True)
        yield
        self.summary["seconds"][name] = time.perf_counter() - began
        print(f"    {self.summary['seconds'][name]:.0f} s", flush=True)

    def fit(self, config: str, folder: Path, steps: int, *options: object) -> None:
        """Runs `jepa fit`."""
        from jepa.lightning_cli import main as fit

        self.command(
            "fit", lambda argv: fit(["fit", *argv]),
            "--config", config, *options, "--trainer.max_steps", steps,
            "--data.steps_per_epoch", steps, "--seed_everything", self.seed,
            "--trainer.default_root_dir", folder, "--trainer.enable_model_summary", "false",
        )  # fmt: skip

    def command(self, verb: str, run: Any, *options: object) -> None:  # noqa: ANN401
        """Prints a command, keeps it for the report, runs it."""
        argv = [str(option) for option in options]
        self.note(verb, *argv)
        if run(argv) != 0:
            raise RuntimeError(f"jepa {verb} {shlex.join(argv)} failed")

    def note(self, verb: str, *argv: str) -> None:
        """Prints the command of a stage and keeps it for the report."""
        line = f"jepa {verb} {shlex.join(argv)}"
        self.summary["commands"].append(line)
        print(f"  $ {line}", flush=True)

    def say(self, text: str) -> None:
        """Prints the result of a stage."""
        print("\n".join(f"  {line}" for line in text.splitlines()), flush=True)

    def write_summary(self) -> None:
        """Writes summary.json: every number with its baseline, and the seconds of every stage."""
        (self.out / "summary.json").write_text(json.dumps(self.summary, indent=1) + "\n")

    def finish(self) -> None:
        """Says how it went and where to look."""
        print()
        for threshold in self.summary["thresholds"]:
            mark = "ok    " if threshold["passed"] else "FAILED"
            print(f"  {mark}  {threshold['name']}: {threshold['value']:.3g}")
        print(f"\n  {self.summary['seconds']['total']:.0f} s in all")
        print(f"  report:  {self.out / 'report.html'}")
        print(f"  numbers: {self.out / 'summary.json'}", flush=True)


def _rates(evaluation: Any) -> dict[str, Any]:  # noqa: ANN401
    """The planner's or a baseline's rates as plain numbers."""
    groups = {group: evaluation.success_in(group)._asdict() for group in evaluation.groups}
    return {**evaluation.success._asdict(), **groups}


def _metrics(folder: Path) -> dict[str, list[float]]:
    """Reads metrics.csv: the values of every column, in order, blanks left out."""
    import csv

    columns: dict[str, list[float]] = {}
    with (folder / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    columns.setdefault(name, []).append(float(value))
    return columns


def _first_and_last(metrics: dict[str, list[float]], name: str) -> dict[str, float]:
    return {"first": metrics[name][0], "last": metrics[name][-1]}


def _encoder_dim(folder: Path) -> int:
    return json.loads((folder / "encoder" / "config.json").read_text())["encoder"]["dim"]


if __name__ == "__main__":
    sys.exit(main())
