"""A small card of two rooms, its files, and the bench that its controls are made of."""

import hashlib

import pytest
import yaml

from planning.benchmarking.controls import Bench
from planning.benchmarking.planning_setup import Wishes, card_setup, wished_setup
from planning.benchmarking.protocol_card import ProtocolCard
from planning.environments.two_rooms import TwoRooms
from planning.evaluation import freeze_tasks
from planning.latent_world import LatentWorld

PLANNER = {
    "name": "random_shooting",
    "settings": {"num_samples": 8},
    "cost": "mean",
}


@pytest.fixture
def card_values():
    """What a card says, without its tasks' hash."""
    return {
        "format": 1,
        "name": "few",
        "version": 1,
        "source": "nobody, Sec. 0",
        "environment": {"name": "two_rooms"},
        "tasks": {"file": "few.json", "sha256": "", "split": "made for this test"},
        "goal": {"described": "anywhere"},
        "budget_steps": 6,
        "horizon_steps": 4,
        "execute_steps": 2,
        "success": {"within": 4.0, "unit": "pixel"},
        "state": "robot",
        "action_space": {
            "names": ["dx", "dy"],
            "units": ["pixel/step", "pixel/step"],
            "low": [-5, -5],
            "high": [5, 5],
        },
        "planner": dict(PLANNER),
    }


@pytest.fixture
def write_card(tmp_path, card_values):
    """Writes a card with what is changed, and its tasks; returns its file."""

    def write(*, tasks=None, name="few", **changes):
        file = tmp_path / "few.json"
        if not file.exists() or tasks is not None:
            tasks = tasks or freeze_tasks(TwoRooms(), name="few", num_tasks=4, seed=5)
            tasks.save(file)
        values = {**card_values, **changes}
        if not values["tasks"]["sha256"]:
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            values["tasks"] = {**values["tasks"], "sha256": sha256}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


@pytest.fixture
def load_card(write_card):
    return lambda **changes: ProtocolCard.load(write_card(**changes))


@pytest.fixture
def make_bench(load_card, checkpoint):
    """Makes a bench of the small card and an untrained world model."""

    def make(*, card=None, **options):
        card = card or load_card()
        world = LatentWorld.load(checkpoint)
        setup = wished_setup(card, world.action_steps, Wishes())
        oracle = card_setup(card, world.action_steps, card.oracle_planner)
        return Bench(card, card.load_tasks(), world, setup, oracle, **options)

    return make
