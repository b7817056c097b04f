"""Rays and pixels agree with the formulas of the lens models, written out one by one."""

import math
from types import SimpleNamespace

from epvlm_ros.events.registration.camera_model import camera_from_info, CameraModel, fits_aspect
import numpy as np
import pytest

K = np.array([[400.0, 0.0, 330.5], [0.0, 410.0, 240.25], [0.0, 0.0, 1.0]])
PLUMB_BOB = (-0.28, 0.07, 0.0006, -0.0009, -0.01)
RATIONAL = (0.4, -0.12, 0.0004, -0.0003, 0.01, 0.71, -0.02, 0.004)
EQUIDISTANT = (0.02, -0.01, 0.004, -0.001)


def distort_by_polynomial(x, y, d):
    """Follow OpenCV's documentation: k1 k2 p1 p2 k3 k4 k5 k6."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*d, 0.0, 0.0, 0.0, 0.0)[:8]
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2 ** 2 + k3 * r2 ** 3) / (
        1 + k4 * r2 + k5 * r2 ** 2 + k6 * r2 ** 3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y)


def distort_by_angle(x, y, d):
    r = math.hypot(x, y)
    if r == 0:
        return x, y
    angle = math.atan(r)
    bent = angle * (1 + sum(k * angle ** (2 * power + 2) for power, k in enumerate(d)))
    return x * bent / r, y * bent / r


CAMERAS = [
    ('plumb_bob', (), lambda x, y, d: (x, y)),
    ('plumb_bob', PLUMB_BOB, distort_by_polynomial),
    ('rational_polynomial', RATIONAL, distort_by_polynomial),
    ('equidistant', EQUIDISTANT, distort_by_angle),
    ('fisheye', EQUIDISTANT, distort_by_angle),
    ('', PLUMB_BOB[:4], distort_by_polynomial)]


@pytest.mark.parametrize(('model', 'distortion', 'distort'), CAMERAS)
def test_pixels_follow_the_formula_and_rays_lead_back(model, distortion, distort):
    camera = CameraModel(480, 640, K, distortion, model)
    x, y = (grid.ravel() for grid in np.meshgrid(
        np.linspace(-0.6, 0.6, 9), np.linspace(-0.45, 0.45, 7)))
    bent = np.array([distort(*point, distortion) for point in zip(x, y)])
    expected = bent * (400.0, 410.0) + (330.5, 240.25)
    u, v = camera.to_pixels(x, y)
    np.testing.assert_allclose(np.stack([u, v], axis=-1), expected, atol=1e-6)
    np.testing.assert_allclose(camera.to_rays(u, v), (x, y), atol=1e-5)


@pytest.mark.parametrize('distortion', [
    (0.05, 0.01, 0.0, 0.0), (0.1, 0.0, 0.0, 0.0), (0.05, 0.01, -0.003, 0.0)])
def test_a_fisheye_sees_as_far_as_its_polynomial_goes(distortion):
    camera = CameraModel(
        800, 848, [[270.0, 0, 424.0], [0, 270.0, 400.0], [0, 0, 1]], distortion, 'equidistant')
    angles = np.radians([1.0, 40.0, 75.0, 80.0, 84.0, 86.9])
    x, y = np.tan(angles) * 0.6, np.tan(angles) * -0.8
    bent = np.array([distort_by_angle(*point, distortion) for point in zip(x, y)])
    found = camera.to_rays(*(bent * 270.0 + (424.0, 400.0)).T)
    np.testing.assert_allclose(found, (x, y), rtol=1e-6)
    beyond = distort_by_angle(0.0, np.tan(np.radians(88.0)), distortion)[1]
    assert np.isnan(camera.to_rays(np.array([424.0]), np.array([400.0 + 270.0 * beyond]))).all()


def test_the_corners_of_a_strong_distortion_are_seen():
    # r (1 - 0.35 r^2 + 0.15 r^4) grows everywhere
    camera = CameraModel(
        480, 640, [[230.0, 0, 320.0], [0, 230.0, 240.0], [0, 0, 1]], (-0.35, 0.15, 0.0, 0.0))
    v, u = (grid.ravel().astype(float) for grid in np.mgrid[:480:7, :640:7])
    x, y = camera.to_rays(u, v)
    bent = distort_by_polynomial(x, y, (-0.35, 0.15, 0.0, 0.0))
    np.testing.assert_allclose(230.0 * bent[0] + 320.0, u, atol=0.01)
    np.testing.assert_allclose(230.0 * bent[1] + 240.0, v, atol=0.01)


def test_a_point_that_a_polynomial_folds_back_into_the_picture_is_not_seen():
    # r (1 - 0.28 r^2) turns round at r = 1.09: at 1.75 it is back at 0.25, in the picture.
    camera = CameraModel(480, 640, K, (-0.28, 0.0, 0.0, 0.0, 0.0))
    u, v = camera.to_pixels(np.array([0.3, 1.75]), np.zeros(2))
    assert u[0] == pytest.approx(330.5 + 400 * 0.3 * (1 - 0.28 * 0.09))
    assert np.isnan(u[1]) and np.isnan(v[1])
    # The same radius 0.73 is the farthest that any ray is seen at.
    x, _ = camera.to_rays(np.array([330.5 + 400 * 0.70, 330.5 + 400 * 0.75]), np.full(2, 240.25))
    assert x[0] * (1 - 0.28 * x[0] ** 2) == pytest.approx(0.70, abs=1e-4)
    assert np.isnan(x[1])


def test_a_pixel_that_no_ray_reaches_sees_nothing():
    # The corner is 1.0 from the middle, in focal lengths. The polynomial is largest at r = 1.06:
    # 1.06 (1 - 0.221 r^2 + 0.05 r^4 - 0.059 r^6) = 0.77.
    camera = CameraModel(
        480, 640, [[400.0, 0, 320.0], [0, 400.0, 240.0], [0, 0, 1]],
        (-0.221, 0.05, 0.005, 0.001, -0.059))
    x, y = camera.to_rays(np.array([0.0, 200.0]), np.array([0.0, 240.0]))
    assert np.isnan(x[0]) and np.isnan(y[0])
    assert -0.35 < x[1] < -0.3


def test_what_is_not_a_number_stays_so_and_nothing_gives_nothing():
    for model, distortion, _ in CAMERAS:
        camera = CameraModel(480, 640, K, distortion, model)
        u, v = camera.to_pixels(np.array([np.nan, 0.0]), np.zeros(2))
        assert np.isnan(u[0]) and np.isnan(v[0])
        assert (u[1], v[1]) == pytest.approx((330.5, 240.25))
        assert all(part.size == 0 for part in camera.to_rays(np.empty(0), np.empty(0)))
        assert all(part.size == 0 for part in camera.to_pixels(np.empty(0), np.empty(0)))


def test_a_calibration_is_scaled_with_the_pictures():
    # Every pixel of the larger picture is 2 x 2 of the smaller one's: 330.5 is the edge between
    # 330 and 331, which lies at 165.5 - 0.25 in pixels of half the number.
    half = CameraModel(480, 640, K, PLUMB_BOB).scaled_to((240, 320))
    assert (half.height, half.width) == (240, 320)
    np.testing.assert_allclose(half.matrix, [[200, 0, 165.0], [0, 205, 119.875], [0, 0, 1]])
    u, v = CameraModel(480, 640, K, PLUMB_BOB).to_pixels(np.array([0.2]), np.array([-0.3]))
    u_half, v_half = half.to_pixels(np.array([0.2]), np.array([-0.3]))
    np.testing.assert_allclose((u_half, v_half), ((u + 0.5) / 2 - 0.5, (v + 0.5) / 2 - 0.5))


def test_other_sides_are_refused_but_for_rounding():
    camera = CameraModel(480, 640, K)
    assert camera.scaled_to((480, 640)) is camera
    with pytest.raises(ValueError, match='640 x 480 px, the stream has 640 x 360'):
        camera.scaled_to((360, 640))
    assert fits_aspect((260, 346), (130, 173)) and fits_aspect((260, 346), (87, 115))
    assert not fits_aspect((260, 346), (130, 180))


@pytest.mark.parametrize(('change', 'message'), [
    ({'matrix': np.zeros((3, 3))}, 'not calibrated'),
    ({'matrix': [1.0, 2.0]}, '9 finite numbers'),
    ({'matrix': np.full((3, 3), np.nan)}, '9 finite numbers'),
    ({'distortion_model': 'thin_prism'}, "'thin_prism': give one of plumb_bob"),
    ({'distortion': (0.1, 0.2)}, 'give 0 or 4 or 5 finite numbers'),
    ({'distortion': (np.nan,) * 5}, 'finite numbers'),
    ({'distortion': (0.1,) * 5, 'distortion_model': 'equidistant'}, 'give 0 or 4 finite'),
    ({'width': 0}, 'calibrate the camera')])
def test_unusable_calibrations(change, message):
    arguments = {'height': 480, 'width': 640, 'matrix': K, 'distortion': PLUMB_BOB, **change}
    with pytest.raises(ValueError, match=message):
        CameraModel(**arguments)


def info(**change):
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    for name in list(change):
        if name.startswith('roi_'):
            setattr(roi, name[4:], change.pop(name))
    return SimpleNamespace(**{
        'height': 480, 'width': 640, 'k': K.ravel(), 'd': list(PLUMB_BOB),
        'distortion_model': 'plumb_bob', 'binning_x': 0, 'binning_y': 0, 'roi': roi, **change})


def test_a_message_becomes_a_camera():
    camera = camera_from_info(info(binning_x=2, binning_y=2))
    assert (camera.height, camera.width, camera.distortion_model) == (480, 640, 'plumb_bob')
    np.testing.assert_array_equal(camera.matrix, K)
    np.testing.assert_array_equal(camera.distortion, PLUMB_BOB)
    assert camera_from_info(info(roi_width=640, roi_height=480)).width == 640


@pytest.mark.parametrize(('change', 'message'), [
    ({'binning_x': 2}, 'binning is 2 x 1'),
    ({'roi_x_offset': 10, 'roi_width': 100, 'roi_height': 50}, r'100 x 50 px at \(10, 0\)'),
    ({'roi_width': 320, 'roi_height': 240}, 'send whole pictures'),
    ({'k': np.zeros(9)}, 'not calibrated')])
def test_messages_that_are_not_whole_pictures(change, message):
    with pytest.raises(ValueError, match=message):
        camera_from_info(info(**change))
