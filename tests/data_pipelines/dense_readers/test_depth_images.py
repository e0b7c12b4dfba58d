"""Tiny depths as KITTI and NYU Depth v2 have them."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines.dense_readers.base import open_dense
from data_pipelines.dense_readers.depth_images import open_source
from data_pipelines.importers.base import SourceError


@pytest.fixture
def kitti(tmp_path):
    for name, array in (
        ("images/drive/a.png", np.full((2, 3, 3), 90, np.uint8)),
        ("depth/drive/a.png", np.array([[256, 640, 0], [65535, 1, 2560]], dtype=np.uint16)),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(tmp_path / name)
    return tmp_path


def test_values_of_a_16_bit_png_are_256ths_of_a_metre(kitti):
    clip = open_dense(kitti).clip(0)
    assert clip.key == "drive-a" and clip.depth_unit == "metre"
    expected = [[1, 2.5, np.nan], [65535 / 256, 1 / 256, 10]]
    np.testing.assert_allclose(clip.depth[0], expected, rtol=1e-6)


def test_a_file_says_another_scale(kitti):
    (kitti / "depth_scale.txt").write_text("1000\n")
    assert open_dense(kitti).clip(0).depth[0, 1, 2] == pytest.approx(2.56)
    (kitti / "depth_scale.txt").write_text("millimetres")
    with pytest.raises(SourceError, match="must hold one number above 0"):
        open_source(kitti)


def test_a_depth_without_a_picture_is_named(kitti):
    (kitti / "images/drive/a.png").unlink()
    with pytest.raises(SourceError, match=r"a\.png: there is no picture"):
        open_source(kitti).clip(0)


def test_nyu_is_read_in_the_order_of_matlab(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)  # (n, height, width, 3)
    depths = rng.uniform(1, 9, (2, 4, 5)).astype(np.float32)
    with h5py.File(tmp_path / "nyu.mat", "w") as file:
        file["images"] = pictures.transpose(0, 3, 2, 1)
        file["depths"] = depths.transpose(0, 2, 1)
    source = open_dense(tmp_path / "nyu.mat")
    assert source.keys == ("nyu-00000", "nyu-00001")
    np.testing.assert_array_equal(source.clip(1).frames[0], pictures[1])
    np.testing.assert_array_equal(source.clip(1).depth[0], depths[1])


def test_a_single_picture_with_its_depth_is_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "00045.h5", "w") as file:
        file["rgb"] = np.zeros((3, 4, 5), dtype=np.uint8)
        file["depth"] = np.array([[0.0, 2.0, np.inf, 3.0, 4.0]] * 4, dtype=np.float32)
    clip = open_dense(tmp_path / "00045.h5").clip(0)
    np.testing.assert_array_equal(clip.depth[0, 0], [np.nan, 2, np.nan, 3, 4])


def test_another_hdf5_file_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(SourceError, match="no 'images' and 'depths'"):
        open_source(tmp_path / "x.h5")
    with pytest.raises(SourceError, match="no folders images and depth, and no HDF5 file"):
        open_source(tmp_path)
