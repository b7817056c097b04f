"""A scene that repeats itself has rivals at its period, others have none."""

from epvlm_ros.events.calibration.alignment import Alignment
from epvlm_ros.events.calibration.alignment_frame import AlignmentFrame
from epvlm_ros.events.calibration.rivals import find_rival
import numpy as np
import pytest

SIZE = 90, 120


def make_frame(expected):
    """Return a frame whose events are where they are expected, as many as that."""
    pixels = np.repeat(np.arange(expected.size), expected.ravel().astype(int))
    return AlignmentFrame(
        expected.astype(np.float32), np.zeros((*SIZE, 2), np.float32), pixels,
        np.zeros(pixels.size), 100.0, SIZE, 0.02)


def draw_dots(places):
    picture = np.zeros(SIZE)
    for col, row in places:
        picture[row:row + 4, col:col + 4] = 3
    return picture


def test_dots_at_a_distance_of_24_and_20_pixels():
    frame = make_frame(draw_dots([
        (col, row) for col in range(6, 116, 24) for row in range(5, 86, 20)]))
    rival = find_rival([frame], Alignment(np.eye(3), 0.0))
    assert rival.ratio > 0.95
    assert rival.shift != (0, 0)
    assert (rival.shift[0] % 24, rival.shift[1] % 20) == (0, 0)


def test_a_wrong_alignment_is_beaten_by_the_right_one():
    random = np.random.default_rng(5)
    frame = make_frame(random.integers(0, 2, (18, 24)).repeat(5, axis=0).repeat(5, axis=1) * 4)
    off = np.eye(3)
    off[:2, 2] = 12, -7  # the activity lies as much too far left and down
    rival = find_rival([frame], Alignment(off, 0.0))
    assert rival.ratio > 2
    np.testing.assert_allclose(rival.shift, (-12, 7), atol=1)


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_what_does_not_repeat_itself_has_none(seed):
    random = np.random.default_rng(seed)
    places = random.integers(0, (SIZE[1] - 4, SIZE[0] - 4), (30, 2))
    assert find_rival([make_frame(draw_dots(places))], Alignment(np.eye(3), 0.0)) is None
