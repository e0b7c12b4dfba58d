import torch

from data_pipelines.synthetic import write_moving_shapes
from jepa.evaluation.labelled_clips import (
    read_labelled_clips,
    refuse_shared_recordings,
    split_labelled_clips,
)


def test_the_door_leads_to_clips_that_are_divided_by_recording(tmp_path):
    write_moving_shapes(tmp_path, num_videos=8, num_frames=6, size=40)
    data = read_labelled_clips(
        tmp_path, clip_length_frames=2, image_size=32, num_clips=3, num_views=3, crop="square"
    )
    assert data.classes == ("down", "left", "right", "up")
    assert (data.num_clips, data.num_views) == (3, 3)
    parts = split_labelled_clips(data, {"train": 0.5, "test": 0.5}, seed=1)
    refuse_shared_recordings(parts)
    video = parts["test"][0].video
    assert video.shape == (9, 3, 2, 32, 32) and video.dtype == torch.uint8
    assert sorted(split_labelled_clips(data, seed=1)) == ["test", "train", "validation"]
