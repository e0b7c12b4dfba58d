"""A world model and an encoder of a few numbers, and a real browser without a screen."""

import html.parser
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipelines.shards import pack_trajectories
from data_pipelines.synthetic import MOVING_SHAPE_SPECIFICATION, moving_shape_episodes
from jepa.checkpoints.native import save_model
from jepa.evaluation.report.clips import held_out_clips
from jepa.evaluation.report.imagination import Imagination
from jepa.evaluation.report.subject import load_subject
from jepa.models import JepaModel, LatentWorldModel, MaskedLatentPredictor, VideoEncoder
from jepa.models.latents import PatchTokens
from jepa.models.world_model import ActionColumns, ColumnScaling

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NOTHING_OUTSIDE = "--host-resolver-rules=MAP * ~NOTFOUND"


class Browser:
    """Headless Chromium that can reach nothing."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, page, *options, width=1200, height=1000):
        profile = self.folder / f"profile{len(list(self.folder.iterdir()))}"
        return subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--no-first-run", "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr",
                "--hide-scrollbars", "--virtual-time-budget=2000",
                f"--window-size={width},{height}", f"--user-data-dir={profile}", NOTHING_OUTSIDE,
                *options, Path(page).resolve().as_uri(),
            ],
            capture_output=True, text=True, timeout=240, check=True,
        )  # fmt: skip

    def dom(self, page, **size):
        """The page as it is after its scripts, and what the console said."""
        done = self.run(page, "--dump-dom", **size)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium")
    return Browser(tmp_path_factory.mktemp("chromium"))


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page; complains of tags that do not match."""

    VOID = frozenset(("meta", "img", "source", "br", "link", "input", "hr"))

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.tags, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.fixture
def page_of():
    return Page


@pytest.fixture
def root_data():
    """Returns the data- attributes that a page's script gave its root."""

    def read(dom):
        tag = re.search(r"<html[^>]*>", dom)[0]
        return dict(re.findall(r'data-([a-z]+)="([^"]*)"', tag))

    return read


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Twelve trajectories of a shape that obeys its actions."""
    folder = tmp_path_factory.mktemp("recordings")
    episodes = moving_shape_episodes(num_episodes=12, num_frames=12, size=32)
    pack_trajectories(episodes, folder, specification=MOVING_SHAPE_SPECIFICATION)
    return str(folder)


def tiny_encoder():
    torch.manual_seed(0)
    return VideoEncoder(
        image_size=32, clip_length_frames=4, patch_size=8, dim=48, depth=1, num_heads=4
    )


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory):
    """A saved world model without training, of the recordings' actions."""
    told = MOVING_SHAPE_SPECIFICATION
    names, units = tuple(told.action_names), tuple(told.action_units)
    states = len(told.state_names)
    encoder = tiny_encoder()
    model = LatentWorldModel(
        encoder,
        PatchTokens(),
        scaling=ColumnScaling([0.0] * states, [1.0] * states, [0.0] * 2, [1.0] * 2),
        uses_state=False,
        dim=24,
        depth=1,
        num_heads=2,
        actions=ActionColumns(
            names, units, tuple(told.action_low), tuple(told.action_high),
            told.frames_per_second, "recorded", "equal", 1,
        ),
    )  # fmt: skip
    return str(save_model(model.eval(), tmp_path_factory.mktemp("world") / "world_model"))


@pytest.fixture(scope="session")
def predictor_folder(tmp_path_factory):
    """A saved encoder with its predictor, without training."""
    encoder = tiny_encoder()
    predictor = MaskedLatentPredictor(encoder_dim=48, dim=24, depth=1, num_heads=2)
    folder = tmp_path_factory.mktemp("pretrained") / "encoder"
    return str(save_model(JepaModel(encoder, predictor=predictor).eval(), folder))


@pytest.fixture(scope="session")
def world_subject(world_folder):
    return load_subject(world_folder)


@pytest.fixture(scope="session")
def world_clips(world_subject, recordings):
    return held_out_clips(world_subject, recordings, num_clips=10, horizon=4)


@pytest.fixture(scope="session")
def predictor_subject(predictor_folder):
    return load_subject(predictor_folder)


@pytest.fixture
def exact_imagination():
    """Makes an imagination of known latents: frame t of clip c is the point (c, t)."""

    def make(predicted, *, num_clips=3, num_times=5, num_seen=2):
        clip, time = np.mgrid[:num_clips, :num_times]
        latents = torch.from_numpy(np.stack([clip * 100.0, time * 1.0], -1))[:, :, None].float()
        frames = np.zeros((num_clips, num_times, 16, 16, 3), np.uint8)
        frames[..., 0] = (clip * 40 + time * 5)[..., None, None]
        imagined = Imagination(
            frames=frames,
            latents=latents,
            current=latents[:, num_seen - 1],
            predicted=latents[:, num_seen:],
            num_seen=num_seen,
            grid=(1, 1),
            distance=lambda a, b: (a - b).abs().mean((-2, -1)),
            words="Known.",
            step_words=("step", "steps"),
        )
        return replace(imagined, predicted=predicted(imagined))

    return make


@pytest.fixture
def numbers_in():
    """Returns the numbers that a page holds for programs."""

    def read(text):
        found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', text)
        return json.loads(found[1])

    return read
