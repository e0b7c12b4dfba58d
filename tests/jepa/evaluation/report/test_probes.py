import numpy as np
import pytest

from jepa.evaluation.labelled_clips import read_labelled_clips
from jepa.evaluation.report.clips import held_out_clips
from jepa.evaluation.report.probes import probe_section, split_by_recording
from jepa.evaluation.report.section import NotMeasured


def test_no_recording_is_in_two_parts(recordings):
    data = read_labelled_clips(recordings, clip_length_frames=2, image_size=32, crop="whole")
    parts = split_by_recording(data, seed=3)
    names = [set(part.recordings) for part in parts]
    assert all(names) and sum(map(len, names)) == len(set.union(*names)) == 12
    again = split_by_recording(data, seed=3)
    assert [part.keys for part in parts] == [part.keys for part in again]


def test_states_are_read_off_beside_the_baselines(world_subject, world_clips):
    section = probe_section(world_subject, world_clips)
    assert set(section.numbers) == {"trained", "untrained", "pixels", "chance", "gain"}
    value, low, high = section.numbers["gain"]["untrained"]
    assert low <= value <= high and np.isfinite([value, low, high]).all()
    assert len(section.findings) == 2 and "raw pixels" in section.html


def test_a_few_videos_cannot_be_kept_apart(predictor_subject, clip_shards):
    clips = held_out_clips(predictor_subject, clip_shards, num_clips=8)
    with pytest.raises(NotMeasured, match="at least 10 labelled videos"):
        probe_section(predictor_subject, clips)
