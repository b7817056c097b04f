"""Guided frames on their way into the engine: what a message may not say."""

from epvlm_interfaces.msg import EventGuidedFrame
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.events.sync.completeness import Missing
from epvlm_ros.events.sync.guided_frame import Frame, GuidedFrame
from epvlm_ros.ros.conversions import (
    to_activity, to_change_score, to_guided_frame_message)
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image


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


def test_a_change_score_comes_as_it_was_sent():
    scores = np.array([[0, 1, 65535], [7, 300, 2]], np.uint16)
    activity = ActivityGrid(np.ones((2, 3), np.float32), 4, 8, 12, 0, 40)
    image = Image(height=8, width=12)
    for change, num_doubts in ((ChangeScore(scores, 4, 8, 12, 2 ** 64 - 1, 5), 5),
                               (ChangeScore(scores, 4, 8, 12, 0, 2 ** 32 + 9), 9), (None, 0)):
        guided = GuidedFrame(
            Frame(0, 8, 12, image), activity, Missing.COMPLETE, 1.0, 0.0, change=change)
        sent = serialize_message(to_guided_frame_message(guided))
        found = to_change_score(deserialize_message(sent, EventGuidedFrame))
        if change is None:
            assert found is None
            continue
        np.testing.assert_array_equal(found.scores, scores)
        assert (found.epoch, found.num_doubts) == (change.epoch, num_doubts)
        assert (found.cell_size_px, found.image_height, found.image_width) == (4, 8, 12)


@pytest.mark.parametrize('name, value, words', [
    ('cell_size', 0, '6 change scores do not fit an image of 12 x 8 in cells of 0 px: let '),
    ('cell_size', 3, '6 change scores do not fit .* in cells of 3 px'),
    ('change_scores', [1] * 5, '5 change scores do not fit an image of 12 x 8 in cells of 4 px')])
def test_change_scores_that_do_not_fit_are_refused(name, value, words):
    message = make_message()
    message.change_scores = [1] * 6
    assert to_change_score(message).scores.shape == (2, 3)
    setattr(message, name, value)
    with pytest.raises(ValueError, match=words):
        to_change_score(message)
