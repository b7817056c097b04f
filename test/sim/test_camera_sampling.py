"""Random cameras: each condition as often as it says, and what it says."""

from collections import Counter

from epvlm_ros.sim.camera_sampling import sample_cameras
from epvlm_ros.sim.cameras import FrameCamera
import numpy as np
import pytest

DRAWN = [sample_cameras('randomised', index) for index in range(1000)]


def test_conditions_are_drawn_anew_for_each_scene_and_split():
    counts = Counter(condition for condition, _, _ in DRAWN)
    assert 350 < counts['good light'] < 450
    assert 110 < counts['dark'] < 190 and 110 < counts['wrong exposure'] < 190
    assert all(70 < counts[name] < 130 for name in ('gain step', 'flicker', 'noise events'))
    assert DRAWN[5] == sample_cameras('randomised', 5)
    other = [sample_cameras('randomised_train', index)[0] for index in range(50)]
    assert other != [condition for condition, _, _ in DRAWN[:50]]
    with pytest.raises(ValueError, match="split is 'test': give one of randomised_train"):
        sample_cameras('test', 0)


def frames(camera, value=0.4):
    taken = FrameCamera(camera, np.random.default_rng(0))
    picture = np.full((1, 40, 40, 3), value, np.float32)
    return [taken.take(picture, 0.0).astype(float) for _ in range(2)]


def test_frames_in_the_dark_are_bright_and_noisy():
    for condition, camera, _ in DRAWN[:200]:
        if condition == 'dark':
            first, _ = frames(camera)
            assert 9 < first.std() < 30 and first.mean() == pytest.approx(102, abs=3)
            assert camera.light < 0.16  # which is what the event camera sees


def test_a_wrong_exposure_stays_and_a_gain_step_mends_it():
    for condition, camera, _ in DRAWN[:200]:
        means = [frame.mean() for frame in frames(camera)]
        if condition == 'wrong exposure':
            assert abs(np.log2(means[0] / 102)) > 0.2
            assert means[1] == pytest.approx(means[0], abs=1)
        if condition == 'gain step':
            assert abs(np.log2(means[1] / means[0])) > 0.25 or abs(np.log2(means[0] / 102)) < 0.36


def test_noise_events_are_many_and_lamps_flicker():
    for condition, camera, events in DRAWN:
        assert (events.shot_noise_rate_hz >= 5.0) == (condition == 'noise events')
        assert (camera.flicker_depth >= 0.1) == (condition == 'flicker')
