"""Event pixels land in the cells in which geometry puts their centres."""

from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.registration import (
    CameraModel, CameraRegistration, find_pixel_density, HomographyFile, HomographyRegistration,
    load_registration, make_cell_lookup, make_registration, save_registration)
import numpy as np
import pytest

IDENTITY = HomographyRegistration()
UNSCALED = HomographyRegistration(scale_to_image=False)


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
    lookup = make_cell_lookup(IDENTITY, (4, 5), (4, 5), 2)
    np.testing.assert_array_equal(lookup, [
        [0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5], [3, 3, 4, 4, 5]])
    assert lookup.dtype == np.int32


def test_a_smaller_sensor_is_spread_over_the_image():
    # Centres 0, 1, 2 map to 0.5, 2.5, 4.5: cells of one pixel 1 (edge at 1.0), 3 and 5.
    np.testing.assert_array_equal(make_cell_lookup(IDENTITY, (1, 3), (1, 6), 1), [[1, 3, 5]])
    np.testing.assert_array_equal(make_cell_lookup(IDENTITY, (1, 3), (1, 6), 2), [[0, 1, 2]])


def test_a_larger_sensor_keeps_its_symmetry():
    lookup = make_cell_lookup(IDENTITY, (1, 1280), (1, 640), 4)
    np.testing.assert_array_equal(lookup[0], np.arange(1280) // 8)


def test_without_scaling_what_is_outside_sees_nothing():
    lookup = make_cell_lookup(UNSCALED, (3, 3), (2, 2), 1)
    np.testing.assert_array_equal(lookup, [[0, 1, -1], [2, 3, -1], [-1, -1, -1]])


def test_a_shift():
    lookup = make_cell_lookup(
        HomographyRegistration([1, 0, 1, 0, 1, 0, 0, 0, 1]), (1, 4), (1, 4), 1)
    np.testing.assert_array_equal(lookup, [[1, 2, 3, -1]])
    # Half a pixel to the left, the first pixel's centre is just on the edge of the image.
    lookup = make_cell_lookup(
        HomographyRegistration([1, 0, -0.5, 0, 1, 0, 0, 0, 1]), (1, 4), (1, 4), 1)
    np.testing.assert_array_equal(lookup, [[0, 1, 2, 3]])
    lookup = make_cell_lookup(
        HomographyRegistration([1, 0, -0.51, 0, 1, 0, 0, 0, 1]), (1, 4), (1, 4), 1)
    np.testing.assert_array_equal(lookup, [[-1, 0, 1, 2]])


@pytest.mark.parametrize('scale', [True, False])
@pytest.mark.parametrize('seed', range(4))
def test_random_homographies(seed, scale):
    random = np.random.default_rng(seed)
    homography = np.eye(3) + random.normal(0, [[0.1, 0.1, 5], [0.1, 0.1, 5], [2e-3, 2e-3, 0]])
    for cell_size in (1, 3, 7):
        sizes = (23, 31), (40, 51), cell_size
        lookup = make_cell_lookup(HomographyRegistration(homography, scale), *sizes)
        np.testing.assert_array_equal(lookup, naive_lookup(*sizes, homography, scale))
        assert (lookup >= 0).sum() > 50


def test_a_homography_has_no_sign_and_no_scale():
    homography = np.array([[0.9, 0.1, 2], [-0.1, 1.0, 1], [1e-3, 2e-3, 1]])
    expected = make_cell_lookup(HomographyRegistration(homography), (20, 30), (20, 30), 4)
    for factor in (-1, 5, -0.01):
        registration = HomographyRegistration(homography * factor)
        lookup = make_cell_lookup(registration, (20, 30), (20, 30), 4)
        np.testing.assert_array_equal(lookup, expected)


def test_pixels_behind_the_horizon_see_nothing():
    # Depth 1 - x / 8: positive up to x = 7, the sum over the sensor is positive.
    registration = HomographyRegistration([1, 0, 0, 0, 1, 0, -1 / 8, 0, 1], scale_to_image=False)
    lookup = make_cell_lookup(registration, (1, 10), (1, 100), 1)
    # x / (1 - x / 8), rounded: 0, 1.14, 2.67, 4.8, 8, 13.3, 24, 56; then the horizon.
    np.testing.assert_array_equal(lookup, [[0, 1, 3, 5, 8, 13, 24, 56, -1, -1]])


def test_an_empty_sensor():
    assert make_cell_lookup(IDENTITY, (0, 5), (4, 4), 2).shape == (0, 5)
    assert make_cell_lookup(IDENTITY, (0, 0), (4, 4), 2).size == 0


@pytest.mark.parametrize(('change', 'message'), [
    ({'cell_size_px': 0}, 'sizes of 1 or more'),
    ({'image_size': (0, 4)}, 'sizes of 1 or more'),
    ({'sensor_size': (-1, 4)}, 'give 0 or more')])
def test_mistakes_of_the_caller(change, message):
    arguments = {'sensor_size': (4, 4), 'image_size': (4, 4), 'cell_size_px': 2, **change}
    with pytest.raises(ValueError, match=message):
        make_cell_lookup(IDENTITY, **arguments)


@pytest.mark.parametrize(('homography', 'message'), [
    (np.zeros((3, 3)), 'not invertible'),
    ([1, 0, 0, 0, 1, 0, 0, 0, np.nan], 'not invertible'),
    ([1, 0, np.inf, 0, 1, 0, 0, 0, 1], 'not invertible'),
    ([1, 2, 3, 2, 4, 6, 0, 0, 1], 'not invertible'),
    ([1, 2, 3], '3 numbers')])
def test_unusable_homographies(homography, message):
    with pytest.raises(ValueError, match=message):
        HomographyRegistration(homography)


@pytest.mark.parametrize('sensor_size, image_size, homography, scale, density', [
    ((240, 320), (480, 640), None, True, 0.25),
    ((240, 320), (480, 640), None, False, 1.0),
    ((720, 1280), (360, 1280), None, True, 2.0),
    ((100, 100), (100, 100), [0, -2, 0, 2, 0, 0, 0, 0, 1], True, 0.25),
    ((0, 0), (10, 10), None, True, 1.0),
])
def test_the_density_is_the_ratio_of_the_areas(
        sensor_size, image_size, homography, scale, density):
    registration = HomographyRegistration(homography or IDENTITY.homography, scale)
    assert find_pixel_density(registration, sensor_size, image_size) == pytest.approx(density)


def test_the_density_of_a_perspective_view_is_that_of_its_middle():
    homography = np.array([[1.0, 0.1, 3.0], [0.05, 0.9, -2.0], [0.001, 0.002, 1.0]])

    def to_image(x, y):
        u, v, depth = homography @ (x, y, 1.0)
        return np.array([u, v]) / depth

    step = 1e-3
    along_x = (to_image(49.5 + step, 39.5) - to_image(49.5 - step, 39.5)) / (2 * step)
    along_y = (to_image(49.5, 39.5 + step) - to_image(49.5, 39.5 - step)) / (2 * step)
    area = abs(along_x[0] * along_y[1] - along_x[1] * along_y[0])
    registration = HomographyRegistration(homography)
    assert find_pixel_density(registration, (80, 100), (80, 100)) == pytest.approx(1 / area)


SMALL_K = [[100.0, 0.0, 50.0], [0.0, 100.0, 40.0], [0.0, 0.0, 1.0]]
LARGE_K = [[300.0, 0.0, 160.0], [0.0, 300.0, 120.0], [0.0, 0.0, 1.0]]


def pose(axis=2, angle=0.0, shift=(0.0, 0.0, 0.0)):
    matrix = np.eye(4)
    first, second = [index for index in range(3) if index != axis]
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    matrix[:3, 3] = shift
    return matrix


def test_two_cameras_side_by_side_by_hand():
    registration = CameraRegistration(
        CameraModel(80, 100, SMALL_K), CameraModel(240, 320, LARGE_K),
        pose(shift=(0.1, 0.0, 0.0)), 2.0)
    # Pixel (70, 30) looks along (0.2, -0.1, 1); at 2 m that is (0.4, -0.2, 2), and 0.1 m more to
    # the right for the other camera: 160 + 300 * 0.5 / 2 and 120 - 300 * 0.2 / 2.
    u, v = registration.map_pixels(np.array([[70.0]]), np.array([[30.0]]), (80, 100), (240, 320))
    assert u.shape == v.shape == (1, 1)
    assert (u.item(), v.item()) == pytest.approx((235.0, 90.0))
    nothing = registration.map_pixels(np.empty((0, 4)), np.empty((0, 4)), (80, 100), (240, 320))
    assert nothing[0].shape == (0, 4)


def test_depth_is_along_the_axis_of_the_image_camera():
    # The event camera sits 1 m ahead: what is 3 m from the image camera is 2 m from it.
    registration = CameraRegistration(
        CameraModel(80, 100, SMALL_K), CameraModel(240, 320, LARGE_K),
        pose(shift=(0.0, 0.0, 1.0)), 3.0)
    u, v = registration.map_pixels(np.array([70.0]), np.array([40.0]), (80, 100), (240, 320))
    assert (u.item(), v.item()) == pytest.approx((160 + 300 * 0.2 * 2 / 3, 120.0))
    # Nearer than the event camera itself nothing can be seen by it.
    registration = CameraRegistration(
        CameraModel(80, 100, SMALL_K), CameraModel(240, 320, LARGE_K),
        pose(shift=(0.0, 0.0, 1.0)), 0.5)
    u, _ = registration.map_pixels(np.array([70.0]), np.array([40.0]), (80, 100), (240, 320))
    assert np.isnan(u.item())


def test_a_rotation_alone_is_a_homography_whatever_the_depth():
    rotation = pose(axis=1, angle=0.1)
    homography = np.array(LARGE_K) @ rotation[:3, :3] @ np.linalg.inv(SMALL_K)
    expected = make_cell_lookup(
        HomographyRegistration(homography, scale_to_image=False), (80, 100), (240, 320), 4)
    for depth_m in (0.5, 20.0):
        registration = CameraRegistration(
            CameraModel(80, 100, SMALL_K), CameraModel(240, 320, LARGE_K), rotation, depth_m)
        lookup = make_cell_lookup(registration, (80, 100), (240, 320), 4)
        np.testing.assert_array_equal(lookup, expected)
        assert find_pixel_density(registration, (80, 100), (240, 320)) == pytest.approx(
            find_pixel_density(
                HomographyRegistration(homography, scale_to_image=False), (80, 100), (240, 320)),
            rel=1e-3)
    assert (expected >= 0).sum() > 1000


def test_distortion_of_both_lenses_pixel_by_pixel():
    event_camera = CameraModel(80, 100, SMALL_K, (0.05, -0.02, 0.004, -0.001), 'equidistant')
    image_camera = CameraModel(240, 320, LARGE_K, (-0.2, 0.05, 1e-3, -2e-3, 0.0), 'plumb_bob')
    transform = pose(axis=0, angle=0.05, shift=(0.05, -0.02, 0.03))
    registration = CameraRegistration(event_camera, image_camera, transform, 1.5)
    for x, y in ((10.0, 20.0), (50.0, 40.0), (88.0, 71.0)):
        ray = np.array([*(part.item() for part in event_camera.to_rays(
            np.array([x]), np.array([y]))), 1.0])
        direction, origin = transform[:3, :3] @ ray, transform[:3, 3]
        point = origin + direction * (1.5 - origin[2]) / direction[2]
        assert point[2] == pytest.approx(1.5)
        expected = [part.item() for part in image_camera.to_pixels(
            point[:1] / point[2], point[1:2] / point[2])]
        found = registration.map_pixels(np.array([x]), np.array([y]), (80, 100), (240, 320))
        assert [part.item() for part in found] == pytest.approx(expected, abs=1e-9)


def test_cameras_that_look_away_from_each_other_share_nothing():
    registration = CameraRegistration(
        CameraModel(80, 100, SMALL_K), CameraModel(240, 320, LARGE_K), pose(axis=1, angle=np.pi),
        2.0)
    lookup = make_cell_lookup(registration, (80, 100), (240, 320), 4)
    assert (lookup == -1).all()
    assert find_pixel_density(registration, (80, 100), (240, 320)) == 1.0


def test_the_density_is_taken_where_something_is_seen():
    # Turned by 80 degrees, only one side of the sensor looks ahead of the image camera.
    registration = CameraRegistration(
        CameraModel(80, 100, SMALL_K), CameraModel(240, 320, LARGE_K),
        pose(axis=1, angle=np.radians(95)), 2.0)
    u, _ = registration.map_pixels(np.array([49.5]), np.array([39.5]), (80, 100), (240, 320))
    assert np.isnan(u.item())
    assert 0 < find_pixel_density(registration, (80, 100), (240, 320)) < 1


def test_streams_of_half_the_size_are_scaled_and_cut_ones_refused():
    registration = CameraRegistration(
        CameraModel(80, 100, SMALL_K), CameraModel(240, 320, LARGE_K),
        pose(shift=(0.1, 0.0, 0.0)), 2.0)
    # The same point as by hand above, in pixels of twice the side.
    u, v = registration.map_pixels(
        np.array([34.75]), np.array([14.75]), (40, 50), (120, 160))
    assert (u.item(), v.item()) == pytest.approx((117.25, 44.75))
    with pytest.raises(ValueError, match='320 x 240 px, the stream has 320 x 180'):
        registration.map_pixels(np.zeros(1), np.zeros(1), (80, 100), (180, 320))


@pytest.mark.parametrize(('transform', 'depth_m', 'message'), [
    (np.eye(4), 0.0, 'depth is 0.0 m'),
    (np.eye(4), np.nan, 'depth is nan m'),
    (np.eye(3), 1.0, '4 x 4'),
    (np.full((4, 4), np.inf), 1.0, '4 x 4 finite'),
    (np.diag([2.0, 2.0, 2.0, 1.0]), 1.0, 'not a rotation'),
    (np.diag([1.0, 1.0, -1.0, 1.0]), 1.0, 'not a rotation')])
def test_unusable_transforms(transform, depth_m, message):
    camera = CameraModel(80, 100, SMALL_K)
    with pytest.raises(ValueError, match=message):
        CameraRegistration(camera, camera, transform, depth_m)


def measured(**change):
    return HomographyFile(**{
        'homography': np.array([[2.0, 0.1, 3.0], [-0.1, 2.1, 4.0], [1e-4, 2e-4, 1.0]]),
        'sensor_size': (80, 100), 'image_size': (160, 200), 'residual_px': 0.4,
        'num_frames': 20, 'window_offset_s': 0.008, **change})


def test_a_file_gives_back_what_was_measured(tmp_path):
    path = tmp_path / 'registration.yaml'
    save_registration(path, measured())
    config = EventSyncConfig(registration='file', registration_file=str(path))
    for registration in (load_registration(path), make_registration(config)):
        x, y = np.array([10.0, 90.0]), np.array([70.0, 5.0])
        expected = HomographyRegistration(measured().homography, scale_to_image=False).map_pixels(
            x, y, (80, 100), (160, 200))
        found = registration.map_pixels(x, y, (80, 100), (160, 200))
        np.testing.assert_array_equal(found, expected)


def test_a_file_for_other_sizes_is_scaled_or_refused(tmp_path):
    path = tmp_path / 'registration.yaml'
    save_registration(path, measured(homography=np.array(
        [[2.0, 0.0, 3.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])))
    registration = load_registration(path)
    # Pixel 0 of a sensor of half the size is the middle of 0 and 1, 0.5: 2 * 0.5 + 3.5 = 4.5, at
    # the edge of 4 and 5; in an image of half the size (4.5 + 0.5) / 2 - 0.5.
    u, v = registration.map_pixels(np.zeros(1), np.zeros(1), (40, 50), (80, 100))
    assert (u.item(), v.item()) == pytest.approx((2.0, 0.5))
    with pytest.raises(ValueError, match='event sensor of 100 x 80 px, the stream has 100 x 60'):
        make_cell_lookup(registration, (60, 100), (160, 200), 4)
    with pytest.raises(ValueError, match='image of 200 x 160 px, the stream has 160 x 160'):
        find_pixel_density(registration, (80, 100), (160, 160))


def test_what_the_configuration_asks_for():
    assert make_registration(EventSyncConfig(registration='camera_info')) is None
    registration = make_registration(
        EventSyncConfig(homography=(1, 0, 5, 0, 1, 0, 0, 0, 1), scale_to_image=False))
    assert registration.map_pixels(np.ones(1), np.ones(1), (9, 9), (99, 99))[0].item() == 6.0
    with pytest.raises(ValueError, match='registration_file is empty'):
        make_registration(EventSyncConfig(registration='file'))
    with pytest.raises(ValueError, match='not invertible'):
        make_registration(EventSyncConfig(homography=(0.0,) * 9))
