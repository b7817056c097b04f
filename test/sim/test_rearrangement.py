"""Streams of a scene that is rearranged."""

from dataclasses import replace

from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.sim.motion_questions import find_changes, STILL
from epvlm_ros.sim.rearrangement import simulate_stream, StreamConfig
import numpy as np
import pytest

SMALL = StreamConfig(
    num_updates=2, image_height=112, image_width=160, sensor_height=56, sensor_width=80,
    changed_share=0.2)
QUIET = EventCameraConfig(shot_noise_rate_hz=0.0, leak_rate_hz=0.0)


def frames_of(index=3, camera=None, **changes):
    seen_by = replace(SMALL.camera, **(camera or {}))
    return list(simulate_stream('test', index, replace(SMALL, camera=seen_by, **changes)))


def share_of_cells(before, after):
    """Return in which share of squares of 9 pixels two pictures differ visibly."""
    differs = np.abs(after.picture.astype(int) - before.picture).max(axis=2) > 8
    return differs[:108, :153].reshape(12, 9, 17, 9).any(axis=(1, 3)).mean()


@pytest.fixture(scope='module', name='frames')
def frames_fixture():
    return frames_of()


def test_frames_come_in_their_times_with_the_events_before_them(frames):
    assert [frame.time_ns for frame in frames] == [0, 400_000_000, 800_000_000]
    for before, frame in zip(frames, frames[1:]):
        times = frame.events.t_ns
        assert len(times) > 20
        assert before.time_ns <= times.min() and times.max() <= frame.time_ns
        assert (np.diff(times) >= 0).all()


def test_events_lie_where_pictures_differ(frames):
    for before, frame in zip(frames, frames[1:]):
        differs = np.abs(frame.picture.astype(int) - before.picture).max(axis=2) > 30
        counts = np.zeros((56, 80))
        np.add.at(counts, (frame.events.y, frame.events.x), 1)
        differs = differs.reshape(56, 2, 80, 2).any(axis=(1, 3))
        # the way of what moved lies between
        assert counts[differs].mean() > 2 * counts[~differs].mean()


def test_equal_arguments_give_equal_streams(frames):
    again = frames_of()
    assert all(np.array_equal(one.rgb, other.rgb) for one, other in zip(frames, again))
    assert all(np.array_equal(one.events.t_ns, other.events.t_ns)
               for one, other in zip(frames, again))


@pytest.mark.long
@pytest.mark.parametrize('share', [0.05, 0.2])
def test_as_much_changes_on_average_as_is_asked_for(share):
    frames = frames_of(num_updates=10, changed_share=share, events=QUIET)
    changed = [share_of_cells(*pair) for pair in zip(frames, frames[1:])]
    assert np.mean(changed) == pytest.approx(share, rel=0.3)


def test_what_is_covered_is_neither_seen_nor_told(monkeypatch):
    def cover_or_uncover_the_first(now, random):
        return replace(now, is_covered=(np.arange(6) == 0) & ~now.is_covered)

    monkeypatch.setattr(
        'epvlm_ros.sim.rearrangement.rearrange', cover_or_uncover_the_first)
    first, covered, *later = frames_of(changed_share=0.03, num_updates=4)
    np.testing.assert_array_equal(covered.view.shape, first.view.shape[1:])
    np.testing.assert_array_equal(covered.view.centres, first.view.centres[1:])
    row, col = np.round(first.view.centres[0] * 112).astype(int)
    assert np.ptp(covered.picture[row - 3:row + 4, col - 3:col + 4], axis=(0, 1)).max() == 0
    assert np.ptp(first.picture[row - 3:row + 4, col - 3:col + 4], axis=(0, 1)).max() > 10
    uncovered = next(frame for frame in later if len(frame.view.shape) == len(first.view.shape))
    np.testing.assert_array_equal(uncovered.picture, first.picture)
    np.testing.assert_array_equal(uncovered.view.shape, first.view.shape)


def test_frames_get_brighter_and_darker_by_their_exposures():
    frames = frames_of(camera={'exposures': (1.0, 0.5), 'read_noise': 0.0})
    plain = frames_of(camera={'read_noise': 0.0})
    np.testing.assert_array_equal(frames[2].rgb, plain[2].rgb)
    assert np.abs(frames[1].rgb - plain[1].rgb / 2.0).max() <= 1.0
    np.testing.assert_array_equal(frames[1].picture, plain[1].picture)
    np.testing.assert_array_equal(frames[1].events.t_ns, plain[1].events.t_ns)


def test_noise_is_that_of_the_frame_alone():
    frames = frames_of(camera={'read_noise': 12 / 255})
    noise = frames[1].rgb.astype(float) - frames[1].picture
    inside = (frames[1].picture > 60) & (frames[1].picture < 195)  # nothing is cut off
    assert noise[inside].std() == pytest.approx(12.0, rel=0.05)


def test_in_the_dark_the_event_camera_sees_less_and_frames_the_same():
    dark, bright = (frames_of(camera={'light': light}, events=QUIET) for light in (0.02, 1.0))
    np.testing.assert_array_equal(dark[1].picture, bright[1].picture)
    # contrast against the dark current of 0.02 is lost
    assert len(dark[1].events.x) < 0.7 * len(bright[1].events.x)


def test_a_lamp_flickers_for_both_cameras():
    still = frames_of(changed_share=0.0, camera={'read_noise': 0.0}, events=QUIET)
    lamp = frames_of(
        changed_share=0.0, events=QUIET, camera={
            'read_noise': 0.0, 'flicker_hz': 98.75, 'flicker_depth': 0.3, 'exposure_s': 1e-6})
    assert len(still[1].events.x) == 0
    times_s = lamp[1].events.t_ns * 1e-9
    rising = np.cos(2 * np.pi * 98.75 * times_s) > 0.5
    falling = np.cos(2 * np.pi * 98.75 * times_s) < -0.5
    assert lamp[1].events.polarity[rising].mean() > 0.7
    assert lamp[1].events.polarity[falling].mean() < 0.3
    # 0.4 s are 39.5 periods: a sine of half a period, 0
    assert np.abs(lamp[1].rgb.astype(int) - still[1].rgb).max() <= 1


def test_the_light_of_a_frame_is_that_of_its_exposure():
    # 0.4 s are 39.25 periods: the lamp is at its brightest
    still = frames_of(changed_share=0.0, camera={'read_noise': 0.0}, events=QUIET)
    lamp = frames_of(
        changed_share=0.0, events=QUIET, camera={
            'read_noise': 0.0, 'flicker_hz': 98.125, 'flicker_depth': 0.3, 'exposure_s': 1e-6})
    grey = (still[1].rgb > 40) & (still[1].rgb < 190)
    ratio = lamp[1].rgb[grey] / still[1].rgb[grey]
    assert np.median(ratio) == pytest.approx(1.3, abs=0.01)
    np.testing.assert_array_equal(lamp[1].picture, still[1].picture)


def test_the_camera_moves_in_bursts():
    frames = frames_of(num_updates=8, frames_between_bursts=3, events=QUIET)
    assert [frame.camera_moves for frame in frames] == [
        False, False, False, False, True, True, False, False, False]
    shares = [share_of_cells(*pair) for pair in zip(frames, frames[1:])]
    assert min(shares[3:5]) > 0.8
    assert max(shares[:3] + shares[5:]) < 0.6
    told = [frame.view.centres for frame in frames]
    assert np.abs(told[4] - told[3]).max() > 0.01  # things are where the camera sees them


def test_the_camera_moves_while_things_change():
    frames = frames_of(num_updates=6, camera_moves=True, events=QUIET)
    assert [frame.camera_moves for frame in frames] == [False] + 6 * [True]
    assert [frame.time_ns for frame in frames] == [400_000_000 * number for number in range(7)]
    for before, frame in zip(frames, frames[1:]):
        assert share_of_cells(before, frame) > 0.5
        # a chord of 1.2 to 2.6 radians
        way = np.linalg.norm(frame.view.camera - before.view.camera)
        assert 0.03 * 2 * np.sin(0.6) < way < 0.03 * 2 * np.sin(1.3)
        time_ns = frame.events.t_ns - before.time_ns
        first, later = ((low < time_ns) & (time_ns <= low + 200_000_000)
                        for low in (0, 200_000_000))
        assert np.count_nonzero(first) > 200 and np.count_nonzero(later) > 200
    told = [change.kind for pair in zip(frames, frames[1:])
            for change in find_changes(pair).values()]
    # a fifth of the picture changes a frame, but not most objects
    assert 0.4 < told.count(STILL) / len(told) < 0.9


def test_what_the_camera_does_is_no_change_of_things():
    for index in (3, 5):
        frames = frames_of(index, num_updates=3, camera_moves=True, changed_share=0.0)
        assert {change.kind for change in find_changes(frames).values()} == {STILL}
        for before, frame in zip(frames, frames[1:]):  # the same, seen from where it says
            way_px = np.round((frame.view.camera - before.view.camera) * 112).astype(int)
            back = np.roll(frame.picture, way_px, axis=(0, 1))
            there, here = (np.abs(picture.astype(int) - before.picture)[8:-8, 8:-8].mean()
                           for picture in (back, frame.picture))
            assert there < 0.5 * here


def test_covers_lie_in_the_world(monkeypatch):
    monkeypatch.setattr('epvlm_ros.sim.rearrangement.rearrange', lambda now, random: replace(
        now, is_covered=np.arange(6) == 0))
    first, *later = frames_of(changed_share=0.03, num_updates=3, camera_moves=True)
    place = first.view.centres[0] + first.view.camera
    middles = []
    for frame in later:
        assert 0 not in frame.items
        row, col = np.round((place - frame.view.camera) * 112).astype(int)
        box = np.nonzero((frame.picture == frame.picture[row, col]).all(axis=2))
        middles.append(np.median(box, axis=1))
        assert np.abs(middles[-1] - (row, col)).max() <= 1.0
    assert np.ptp(middles, axis=0).max() > 2.0
