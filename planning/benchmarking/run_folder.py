"""What a run under a card leaves behind: summary.json, and the episodes of every policy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planning.benchmarking.episode_outcome import PolicyOutcome, fingerprint, summary_of

RUN_FORMAT = 2
SUMMARY, EPISODES = "summary.json", "episodes"


@dataclass(frozen=True)
class RunFolder:
    """A folder that `jepa plan evaluate --card` wrote.

    Attributes:
        path: of the folder.
        summary: the content of summary.json.
    """

    path: Path
    summary: Mapping[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> RunFolder:
        """Reads a folder, and adds its episodes up again.

        Raises:
            FileNotFoundError: if there is no summary.
            ValueError: if it is not one of this format, or says of a policy what its episodes do
                not add up to.
        """
        file = Path(path) / SUMMARY
        if not file.is_file():
            raise FileNotFoundError(
                f"{path} holds no {SUMMARY}; give a folder that `jepa plan evaluate --card ... "
                "--out FOLDER` wrote"
            )
        try:
            summary = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:  # no text, no JSON, nested too deeply
            raise ValueError(f"{file} is not JSON: {error}") from error
        if not isinstance(summary, dict) or summary.get("format") != RUN_FORMAT:
            raise ValueError(
                f"{file} is not the summary of a run of format {RUN_FORMAT}; evaluate again"
            )
        run = cls(Path(path), summary)
        try:
            for policy in run.policies:
                run._refuse_other_sums(policy)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file} cannot be read ({error!r}); evaluate again") from error
        return run

    @property
    def card(self) -> Mapping[str, Any]:
        """Name, version and hashes of the card."""
        return self.summary["card"]

    @property
    def title(self) -> str:
        """Of the card: "pusht_swm v1"."""
        return f"{self.card['name']} v{self.card['version']}"

    @property
    def policies(self) -> list[str]:
        """Names of what was played, the planner first."""
        return [policy["policy"] for policy in self.summary["policies"]]

    def policy(self, name: str) -> Mapping[str, Any]:
        """Returns the summary of one policy.

        Raises:
            ValueError: if it was not played.
        """
        for policy in self.summary["policies"]:
            if policy["policy"] == name:
                return policy
        raise ValueError(f"{self.path}: no policy {name!r}; there are: {', '.join(self.policies)}")

    def episodes(self, policy: str) -> list[dict[str, Any]]:
        """Returns the episodes of one policy, in the order of the tasks.

        Raises:
            ValueError: if it was not played, or the episodes are not those of the summary.
        """
        expected = self.policy(policy)["outcomes_sha256"]
        file = self.path / EPISODES / f"{policy}.json"
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
            is_the_same = fingerprint(rows) == expected
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"{file} cannot be read ({error}); evaluate again") from error
        if not is_the_same:
            raise ValueError(
                f"{self.path}: the episodes of {policy} are not those of {SUMMARY}; evaluate again"
            )
        return rows

    def _refuse_other_sums(self, policy: str) -> None:
        said = self.policy(policy)
        for name, value in summary_of(self.episodes(policy)).items():
            if said.get(name) != value:
                raise ValueError(
                    f"{self.path / SUMMARY} says {name} {said.get(name)} of {policy}, its episodes "
                    f"add up to {value}: one of the two was changed; evaluate again"
                )


def runs_in(folder: Path) -> list[Path]:
    """Returns the run folders in a folder, however deep, in the order of their names.

    One that is a run itself, or holds none, is returned as it is.
    """
    if (folder / SUMMARY).is_file():
        return [folder]
    found = sorted(file.parent for file in folder.rglob(SUMMARY))
    return [run for run in found if (run / EPISODES).is_dir()] or [folder]


def write_run(
    folder: Path, outcomes: Sequence[PolicyOutcome], facts: Mapping[str, Any]
) -> RunFolder:
    """Writes the episodes of each policy, then the summary; episodes of an earlier run go.

    Args:
        folder: is there.
        outcomes: of the planner and of the controls.
        facts: everything else that belongs into the summary.
    """
    (folder / EPISODES).mkdir(exist_ok=True)
    ours = {f"{outcome.policy}.json" for outcome in outcomes}
    for file in (folder / EPISODES).glob("*.json"):
        if file.name not in ours:
            file.unlink()
    for outcome in outcomes:
        rows = ",\n ".join(json.dumps(episode.to_json()) for episode in outcome.episodes)
        file = folder / EPISODES / f"{outcome.policy}.json"
        file.write_text(f"[\n {rows}\n]\n", encoding="utf-8")
    policies = [outcome.summary() for outcome in outcomes]
    summary = {"format": RUN_FORMAT, **facts, "policies": policies}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return RunFolder.load(folder)
