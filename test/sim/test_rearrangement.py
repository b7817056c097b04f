"""Streams of a scene that is rearranged."""

from epvlm_ros.sim.rearrangement import simulate_stream, StreamConfig
import numpy as np
import pytest

SMALL = StreamConfig(
    num_updates=2, image_height=112, image_width=160, sensor_height=56, sensor_width=80)


@pytest.fixture(scope='module', name='frames')
def frames_fixture():
    return list(simulate_stream('test', 3, SMALL))


def test_frames_come_in_their_times_with_the_events_before_them(frames):
    assert [frame.time_ns for frame in frames] == [0, 400_000_000, 800_000_000]
    for before, frame in zip(frames, frames[1:]):
        times = frame.events.t_ns
        assert len(times) > 20
        assert before.time_ns <= times.min() and times.max() <= frame.time_ns


def test_events_lie_where_pictures_differ(frames):
    for before, frame in zip(frames, frames[1:]):
        differs = np.abs(frame.rgb.astype(int) - before.rgb).max(axis=2) > 30
        counts = np.zeros((56, 80))
        np.add.at(counts, (frame.events.y, frame.events.x), 1)
        differs = differs.reshape(56, 2, 80, 2).any(axis=(1, 3))
        assert counts[differs].mean() > 3 * counts[~differs].mean()


def test_equal_arguments_give_equal_streams(frames):
    again = list(simulate_stream('test', 3, SMALL))
    assert all(np.array_equal(one.rgb, other.rgb) for one, other in zip(frames, again))
    assert all(np.array_equal(one.events.t_ns, other.events.t_ns)
               for one, other in zip(frames, again))
