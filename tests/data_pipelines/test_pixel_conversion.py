import av
import numpy as np
import pytest

from data_pipelines import pixel_conversion
from data_pipelines.pixel_conversion import one_thread


def test_this_pyav_takes_the_arguments_and_gives_the_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
    as_it_comes, alone = (frame.to_ndarray(format="rgb24", **way) for way in ({}, one_thread()))
    np.testing.assert_array_equal(as_it_comes, alone)


@pytest.mark.parametrize(
    ("version", "expected"), [("14.2.0", {}), ("16.1.0", {}), ("17.0.0", {"threads": 1})]
)
def test_versions_that_do_not_know_threads_are_not_told_of_them(monkeypatch, version, expected):
    monkeypatch.setattr(pixel_conversion, "version", lambda _: version)
    assert one_thread() == expected
