import numpy as np

from planning.rendered_labels import View

# Looks straight down from 4 metres; 1 metre at the floor is 10 pixels.
AXES = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
ABOVE = View(np.array([0.0, 0, 4]), AXES, focal_length=40.0, image_size=40)


def test_projecting_and_unprojecting_are_inverse():
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    pixels, depths = ABOVE.project(points)
    np.testing.assert_allclose(ABOVE.unproject(pixels, depths), points, atol=1e-12)


def test_a_metre_to_the_right_is_ten_pixels_and_what_is_up_in_the_world_is_up_in_the_picture():
    pixels, depths = ABOVE.project(np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 2], [0, 0, 5]]))
    np.testing.assert_allclose(pixels[:3], [[30, 20], [20, 10], [20, 20]])
    np.testing.assert_allclose(depths, [4, 4, 2, -1])  # the last is behind the camera
