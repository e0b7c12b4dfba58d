"""GRASP, level 2 (arXiv:2311.09048): P_Gravity/0.mp4 is possible, IP_Gravity/0.mp4 its partner."""

from __future__ import annotations

from pathlib import Path

from data_pipelines.physics_videos.index import PhysicsVideo, PhysicsVideos, with_partners

NAME, FRAME_STEP = "GRASP", 10
_POSSIBLE, _IMPOSSIBLE = "P_", "IP_"


def is_layout(folder: Path) -> bool:
    """True if a folder P_X with its IP_X is there."""
    names = {path.name for path in folder.glob("*") if path.is_dir()}
    return any(f"I{name}" in names for name in names if name.startswith(_POSSIBLE))


def read(folder: Path) -> PhysicsVideos:
    """Lists all videos; those without a partner are refused by name."""
    videos = []
    for is_possible, prefix in ((True, _POSSIBLE), (False, _IMPOSSIBLE)):
        for path in sorted(folder.glob(f"{prefix}*/*.mp4")):
            concept = path.parent.name.removeprefix(prefix)
            pair = f"{concept}-{path.stem}"
            videos.append(PhysicsVideo(path, pair, pair, concept, "", is_possible))
    return with_partners(videos, [])
