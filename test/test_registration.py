"""Event pixels land in the cells in which geometry puts their centres."""

from epvlm_ros.core.registration import find_pixel_density, make_cell_lookup
import numpy as np
import pytest


def naive_lookup(sensor_size, image_size, cell_size, homography, scale):
    """Map pixel by pixel, in homogeneous coordinates."""
    num_cols = -(-image_size[1] // cell_size)
    lookup = np.full(sensor_size, -1)
    for y in range(sensor_size[0]):
        for x in range(sensor_size[1]):
            point = np.array([x, y, 1.0])
            if scale:
                point[0] = (x + 0.5) * image_size[1] / sensor_size[1] - 0.5
                point[1] = (y + 0.5) * image_size[0] / sensor_size[0] - 0.5
            u, v, w = np.asarray(homography).reshape(3, 3) @ point
            if w <= 0:
                continue
            col, row = (u / w + 0.5) // cell_size, (v / w + 0.5) // cell_size
            inside = 0 <= u / w + 0.5 < image_size[1] and 0 <= v / w + 0.5 < image_size[0]
            if inside:
                lookup[y, x] = row * num_cols + col
    return lookup


def test_identity():
    lookup = make_cell_lookup((4, 5), (4, 5), 2)
    np.testing.assert_array_equal(lookup, [
        [0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5], [3, 3, 4, 4, 5]])
    assert lookup.dtype == np.int32


def test_a_smaller_sensor_is_spread_over_the_image():
    # Centres 0, 1, 2 map to 0.5, 2.5, 4.5: cells of one pixel 1 (edge at 1.0), 3 and 5.
    np.testing.assert_array_equal(make_cell_lookup((1, 3), (1, 6), 1), [[1, 3, 5]])
    np.testing.assert_array_equal(make_cell_lookup((1, 3), (1, 6), 2), [[0, 1, 2]])


def test_a_larger_sensor_keeps_its_symmetry():
    lookup = make_cell_lookup((1, 1280), (1, 640), 4)
    np.testing.assert_array_equal(lookup[0], np.arange(1280) // 8)


def test_without_scaling_what_is_outside_sees_nothing():
    lookup = make_cell_lookup((3, 3), (2, 2), 1, scale_to_image=False)
    np.testing.assert_array_equal(lookup, [[0, 1, -1], [2, 3, -1], [-1, -1, -1]])


def test_a_shift():
    lookup = make_cell_lookup((1, 4), (1, 4), 1, [1, 0, 1, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(lookup, [[1, 2, 3, -1]])
    # Half a pixel to the left, the first pixel's centre is just on the edge of the image.
    lookup = make_cell_lookup((1, 4), (1, 4), 1, [1, 0, -0.5, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(lookup, [[0, 1, 2, 3]])
    lookup = make_cell_lookup((1, 4), (1, 4), 1, [1, 0, -0.51, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(lookup, [[-1, 0, 1, 2]])


@pytest.mark.parametrize('scale', [True, False])
@pytest.mark.parametrize('seed', range(4))
def test_random_homographies(seed, scale):
    random = np.random.default_rng(seed)
    homography = np.eye(3) + random.normal(0, [[0.1, 0.1, 5], [0.1, 0.1, 5], [2e-3, 2e-3, 0]])
    for cell_size in (1, 3, 7):
        args = (23, 31), (40, 51), cell_size, homography, scale
        lookup = make_cell_lookup(*args)
        np.testing.assert_array_equal(lookup, naive_lookup(*args))
        assert (lookup >= 0).sum() > 50


def test_a_homography_has_no_sign_and_no_scale():
    homography = np.array([[0.9, 0.1, 2], [-0.1, 1.0, 1], [1e-3, 2e-3, 1]])
    expected = make_cell_lookup((20, 30), (20, 30), 4, homography)
    for factor in (-1, 5, -0.01):
        lookup = make_cell_lookup((20, 30), (20, 30), 4, homography * factor)
        np.testing.assert_array_equal(lookup, expected)


def test_pixels_behind_the_horizon_see_nothing():
    # Depth 1 - x / 8: positive up to x = 7, the sum over the sensor is positive.
    homography = [1, 0, 0, 0, 1, 0, -1 / 8, 0, 1]
    lookup = make_cell_lookup((1, 10), (1, 100), 1, homography, scale_to_image=False)
    # x / (1 - x / 8), rounded: 0, 1.14, 2.67, 4.8, 8, 13.3, 24, 56; then the horizon.
    np.testing.assert_array_equal(lookup, [[0, 1, 3, 5, 8, 13, 24, 56, -1, -1]])


def test_an_empty_sensor():
    assert make_cell_lookup((0, 5), (4, 4), 2).shape == (0, 5)
    assert make_cell_lookup((0, 0), (4, 4), 2).size == 0


@pytest.mark.parametrize(('change', 'message'), [
    ({'homography': np.zeros((3, 3))}, 'not invertible'),
    ({'homography': [1, 0, 0, 0, 1, 0, 0, 0, np.nan]}, 'not invertible'),
    ({'homography': [1, 2, 3]}, '3 numbers'),
    ({'cell_size_px': 0}, 'sizes of 1 or more'),
    ({'image_size': (0, 4)}, 'sizes of 1 or more'),
    ({'sensor_size': (-1, 4)}, 'give 0 or more')])
def test_mistakes_of_the_caller(change, message):
    arguments = {'sensor_size': (4, 4), 'image_size': (4, 4), 'cell_size_px': 2, **change}
    with pytest.raises(ValueError, match=message):
        make_cell_lookup(**arguments)


@pytest.mark.parametrize('sensor_size, image_size, homography, scale, density', [
    ((240, 320), (480, 640), None, True, 0.25),
    ((240, 320), (480, 640), None, False, 1.0),
    ((720, 1280), (360, 1280), None, True, 2.0),
    ((100, 100), (100, 100), [0, -2, 0, 2, 0, 0, 0, 0, 1], True, 0.25),
    ((0, 0), (10, 10), None, True, 1.0),
])
def test_the_density_is_the_ratio_of_the_areas(
        sensor_size, image_size, homography, scale, density):
    assert find_pixel_density(sensor_size, image_size, homography, scale) == \
        pytest.approx(density)


def test_the_density_of_a_perspective_view_is_that_of_its_middle():
    homography = np.array([[1.0, 0.1, 3.0], [0.05, 0.9, -2.0], [0.001, 0.002, 1.0]])

    def to_image(x, y):
        u, v, depth = homography @ (x, y, 1.0)
        return np.array([u, v]) / depth

    step = 1e-3
    along_x = (to_image(50 + step, 40) - to_image(50 - step, 40)) / (2 * step)
    along_y = (to_image(50, 40 + step) - to_image(50, 40 - step)) / (2 * step)
    area = abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])
    assert find_pixel_density((80, 100), (80, 100), homography) == pytest.approx(1 / area)
