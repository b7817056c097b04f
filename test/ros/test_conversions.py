"""Guided frames on their way into the engine: what a message may not say."""

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.ros.conversions import to_activity
import numpy as np
import pytest


def make_message():
    message = EventGuidedFrame(cell_size=4, rows=2, cols=3, pixel_density=1.0, coverage=1.0)
    message.image.height, message.image.width = 8, 12
    message.window_end.nanosec = 40_000_000
    message.activity = [0.0, 1.0, 2.0, 3.0, 0.0, 5.5]
    return message


def test_activity_comes_as_it_was_sent():
    activity = to_activity(make_message())
    np.testing.assert_array_equal(activity.counts, [[0.0, 1.0, 2.0], [3.0, 0.0, 5.5]])
    assert (activity.window_start_ns, activity.window_end_ns) == (0, 40_000_000)
    message = make_message()
    message.missing = EventGuidedFrame.NO_EVENT_STREAM
    assert to_activity(message) is None


def test_activity_of_a_window_that_no_events_came_for_says_nothing():
    message = make_message()
    message.missing, message.coverage = EventGuidedFrame.WINDOW_END_MISSING, 0.0
    assert to_activity(message) is None
    message.coverage = 0.01
    assert to_activity(message) is not None


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -1.0])
def test_activity_that_is_no_number_of_events_is_refused(value):
    message = make_message()
    message.activity[4] = value
    with pytest.raises(ValueError, match=f'a cell is {value}: give finite numbers from 0 on'):
        to_activity(message)


@pytest.mark.parametrize('name, value, words', [
    ('rows', 3, '6 activity values as 3 x 3 cells'), ('cell_size', 0, 'cells of 0 px'),
    ('pixel_density', 0.0, 'pixel_density is 0.0'),
    ('pixel_density', float('inf'), 'pixel_density is inf')])
def test_grids_that_do_not_fit_are_refused(name, value, words):
    message = make_message()
    setattr(message, name, value)
    with pytest.raises(ValueError, match=words):
        to_activity(message)
