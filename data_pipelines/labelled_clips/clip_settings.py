"""What is cut out of each labelled sample."""

from __future__ import annotations

from dataclasses import dataclass

from data_pipelines.clip_sampling import ShortVideoPolicy
from data_pipelines.labelled_clips.evaluation_crops import Crop, evaluation_crops
from data_pipelines.transforms import ClipTransform, RandomResizedClipCrop


@dataclass(frozen=True)
class ClipSettings:
    """Which clips of a sample, at which rate, and which crops of them.

    Attributes:
        clip_length_frames: frames of a clip.
        image_size: height and width of a clip, in pixels.
        num_clips: moments of each video, equally spaced; 1: its middle. Images have one.
        num_views: square crops of each moment.
        crop: see `evaluation_crops`.
        frames_per_second: of the clip, by time stamps; None counts frames instead.
        frame_stride: every so many frames one is taken; above 1 only without frames_per_second.
        short_video: "repeat_last" repeats the end of a video that is too short, "loop" starts it
            over; "skip" leaves it out, so encoders with other clip lengths see another test set.
        random_views: training views: each a random crop of a moment that is drawn, too, in its
            part of the video. What is drawn depends on seed and key alone.
        crop_scale: least and greatest part of the frame's area that a random crop keeps; the
            released probes were trained with (0.08, 1).
        seed: of random views.
        decoder: a name from `decoder_names`.
        windows_per_trajectory: windows taken from each trajectory, equally spaced.

    Raises:
        ValueError: if a value is out of range.
    """

    clip_length_frames: int
    image_size: int
    num_clips: int = 1
    num_views: int = 1
    crop: Crop = "official"
    frames_per_second: float | None = None
    frame_stride: int = 1
    short_video: ShortVideoPolicy = "repeat_last"
    random_views: bool = False
    crop_scale: tuple[float, float] = (0.3, 1.0)
    seed: int = 0
    decoder: str = "decord"
    windows_per_trajectory: int = 8

    def __post_init__(self) -> None:
        for name in (
            *("clip_length_frames", "image_size", "num_clips", "num_views"),
            *("frame_stride", "windows_per_trajectory"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.transforms()

    def transforms(self) -> tuple[ClipTransform, ...]:
        """Returns the transform of each view."""
        if not self.random_views:
            return evaluation_crops(self.crop, self.image_size, self.num_views)
        drawn = RandomResizedClipCrop(
            self.image_size, scale=self.crop_scale, horizontal_flip=False
        )  # mirroring would change what "left" means
        return (drawn,) * self.num_views
