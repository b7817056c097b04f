"""The frame camera by hand: light, gain, exposures, noise, flicker."""

from epvlm_ros.sim.cameras import CameraConfig, event_camera_step_s, FrameCamera
import numpy as np
import pytest


def grey(value, times=1, size=4):
    return np.full((times, size, size, 3), value, np.float32)


def take(config, *pictures, starts_s=None):
    camera = FrameCamera(config, np.random.default_rng(0))
    starts_s = starts_s or [0.1 * number for number in range(len(pictures))]
    return [camera.take(picture, start_s) for picture, start_s in zip(pictures, starts_s)]


def test_a_frame_is_the_mean_of_its_exposure():
    config = CameraConfig(read_noise=0.0)
    moving = np.concatenate([grey(0.0), grey(0.0), grey(0.0), grey(0.5), grey(1.0)])
    frame, = take(config, moving)
    assert frame.dtype == np.uint8 and frame.shape == (4, 4, 3)
    assert (frame == 76).all()  # 0.3 x 255 = 76.5, which is a little less in float32, or even


def test_gain_makes_up_for_little_light_as_far_as_it_goes():
    for light, max_gain, expected in ((0.1, 64.0, 102), (0.1, 5.0, 51), (1.0, 64.0, 102)):
        frame, = take(CameraConfig(light=light, max_gain=max_gain, read_noise=0.0), grey(0.4))
        assert (frame == expected).all()


def test_gain_multiplies_the_read_noise():
    config = CameraConfig(light=0.1, read_noise=0.004)
    frame, = take(config, grey(0.4, size=200))
    assert frame.astype(float).std() == pytest.approx(0.04 * 255, rel=0.02)
    assert frame.mean() == pytest.approx(102, abs=0.3)
    red, green = frame[..., 0].ravel(), frame[..., 1].ravel()
    assert abs(np.corrcoef(red, green)[0, 1]) < 0.03  # each colour has its own


def test_exposures_follow_one_another_and_cut_off_at_white():
    frames = take(CameraConfig(exposures=(1.0, 0.5, 3.0), read_noise=0.0), *[grey(0.4)] * 4)
    assert [int(frame[0, 0, 0]) for frame in frames] == [102, 51, 255, 102]


def test_automatic_gain_goes_by_steps_up_and_down():
    # Steps of a factor of 2. A frame of 0.1 is two steps below 0.4, one of 0.8 is one above.
    config = CameraConfig(gain_step=1.0, read_noise=0.0)
    frames = take(config, *[grey(0.1)] * 4, grey(0.25), grey(0.25))
    assert [int(frame[0, 0, 0]) for frame in frames] == [26, 51, 102, 102, 255, 128]
    held = take(CameraConfig(gain_step=1.0, max_gain=2.0, read_noise=0.0), *[grey(0.1)] * 4)
    assert [int(frame[0, 0, 0]) for frame in held] == [26, 51, 51, 51]


def test_a_lamp_flickers_over_the_exposure():
    # 100 Hz: a quarter of a period is 2.5 ms, where the lamp is brightest; a whole one evens out.
    lamp = {'flicker_hz': 100.0, 'flicker_depth': 0.5, 'read_noise': 0.0}
    short = CameraConfig(exposure_s=1e-6, **lamp)
    frames = take(short, *[grey(0.4)] * 3, starts_s=[0.0, 0.0025, 0.0075])
    assert [int(frame[0, 0, 0]) for frame in frames] == [102, 153, 51]
    frame, = take(CameraConfig(exposure_s=0.01, **lamp), grey(0.4))
    assert (frame == 102).all()
    np.testing.assert_allclose(
        CameraConfig(light=0.2, **lamp).light_at(np.array([0.0, 0.0025])), [0.2, 0.3])


def test_the_event_camera_looks_often_enough():
    # 10 units of 240 px a second: a pixel in 1/2400 s; a lamp of 100 Hz: a tenth of its period
    assert event_camera_step_s(10.0, 240, 320) == pytest.approx(1 / 2400)
    assert event_camera_step_s(0.0, 240, 320) == 0.002
    assert event_camera_step_s(0.0, 240, 320, 100.0) == pytest.approx(0.001)


@pytest.mark.parametrize('settings', [
    {'light': 0.0}, {'max_gain': 0.0}, {'exposure_s': -1.0}, {'read_noise': -0.1},
    {'gain_step': -1.0}, {'exposures': ()}, {'exposures': (1.0, 0.0)}])
def test_impossible_cameras_are_refused(settings):
    with pytest.raises(ValueError, match=f'{next(iter(settings))} is .*: give'):
        CameraConfig(**settings)
