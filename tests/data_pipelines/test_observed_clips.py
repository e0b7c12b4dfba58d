import numpy as np
import pytest

from data_pipelines.action_segments import ActionSegment
from data_pipelines.anticipation_timing import AnticipationTiming, plan_clips
from data_pipelines.observed_clips import ObservedClips, find_named_videos
from data_pipelines.transforms import ResizeShortSideAndCenterCrop
from data_pipelines.video_writing import write_mp4

SHORT = AnticipationTiming(clip_length_frames=4, frames_per_second=4.0)


def write_counting_video(path, num_frames=40, fps=8.0):
    """Frame i is grey, 5 * i bright."""
    grey = (5 * np.arange(num_frames)).astype(np.uint8)
    frames = np.broadcast_to(grey[:, None, None, None], (num_frames, 32, 32, 3))
    return write_mp4(path, np.ascontiguousarray(frames), frames_per_second=fps, crf=0)


def make_clips(folder, segments, timing=SHORT):
    videos = find_named_videos(folder, {segment.video_id for segment in segments})
    plan = plan_clips(segments, videos.durations_seconds, timing, unreadable=videos.unreadable)
    return ObservedClips(videos, plan.clips, ResizeShortSideAndCenterCrop(16)), plan


@pytest.mark.parametrize(
    ("anchor", "frames"), [("start", [8, 10, 12, 14]), ("official", [12, 14, 16, 18])]
)
def test_the_pixels_are_those_of_the_frames_before_the_action(tmp_path, anchor, frames):
    # The clip ends at 2 s (from the start, 3 s) or 2.5 s (from the end, 3.5 s): 1 s of 4 frames,
    # every second one of the video's 8 a second.
    write_counting_video(tmp_path / "sub/v.mp4")
    timing = AnticipationTiming(clip_length_frames=4, frames_per_second=4.0, anchor=anchor)
    clips, _ = make_clips(tmp_path, [ActionSegment("s", "v", 3.0, 3.5, 0, 0)], timing)
    (seen,) = clips
    assert seen.video.shape == (3, 4, 16, 16) and seen.clip.segment.name == "s"
    brightness = seen.video.float().mean((0, 2, 3)) / 5
    np.testing.assert_allclose(brightness, frames, atol=0.5)


def test_only_named_videos_are_opened(tmp_path):
    write_counting_video(tmp_path / "v.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = find_named_videos(tmp_path, ["v", "missing"])
    assert dict(videos.paths) == {"v": "v.mp4"} and not videos.unreadable
    assert videos.durations_seconds["v"] == pytest.approx(5.0)


def test_a_broken_video_is_named_and_its_actions_left_out(tmp_path):
    write_counting_video(tmp_path / "v.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    segments = [ActionSegment(name, name, 3.0, 4.0, 0, 0) for name in ("broken", "v")]
    clips, plan = make_clips(tmp_path, segments)
    assert [item.clip.segment.name for item in clips] == ["v"]
    ((name, reason),) = plan.skipped
    assert name == "broken" and "the video cannot be read: not a video" in reason


def test_a_video_that_breaks_later_is_counted_while_reading(tmp_path):
    for name in "uv":
        write_counting_video(tmp_path / f"{name}.mp4")
    segments = [ActionSegment(f"{name}{start}", name, start, start + 1, 0, 0)
                for name in "uv" for start in (3.0, 4.0)]  # fmt: skip
    clips, _ = make_clips(tmp_path, segments)
    (tmp_path / "u.mp4").write_bytes(b"gone")
    assert [item.clip.segment.name for item in clips] == ["v3.0", "v4.0"]
    assert [name for name, _ in clips.skipped] == ["u3.0", "u4.0"]
    assert "u.mp4" in clips.skipped[0].reason
    assert len(list(clips)) == 2 and len(clips.skipped) == 2  # a second pass counts anew


def test_folders_without_the_videos_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        find_named_videos(tmp_path / "none", ["v"])
    write_counting_video(tmp_path / "v.mp4")
    with pytest.raises(ValueError, match="has none of the 2 annotated videos, as a"):
        find_named_videos(tmp_path, ["b", "a"])
    write_counting_video(tmp_path / "again/v.mp4")
    with pytest.raises(ValueError, match=r"has two videos v: again/v\.mp4 and v\.mp4"):
        find_named_videos(tmp_path, ["v"])
