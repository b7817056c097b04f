"""The search ends near the truth, and tells how a sensor is mounted that it does not search."""

from dataclasses import replace

from epvlm_ros.events.calibration.alignment_frame import make_alignment_frame, WorkingSize
from epvlm_ros.events.calibration.search import find_flip
from moving_texture import IMAGE_SIZE, make_frames, SENSOR_SIZE
import numpy as np
import pytest

HEIGHT, WIDTH = SENSOR_SIZE


@pytest.fixture(scope='module')
def frames():
    return make_frames(6, 0.01)[::2]


# What numpy does to the picture of the sensor (rot90: a quarter turn against the clock).
@pytest.mark.long
@pytest.mark.parametrize(('turn', 'name'), [
    (lambda picture: picture, None),
    (np.flipud, 'mirrored top to bottom'), (np.rot90, 'on its side, turned to the left')])
def test_how_the_sensor_is_mounted(frames, turn, name):
    places = turn(np.arange(HEIGHT * WIDTH).reshape(SENSOR_SIZE))
    place_of = np.empty(places.size, int)
    place_of[places.ravel()] = np.arange(places.size)
    working = WorkingSize.of(places.shape, IMAGE_SIZE)
    views = []
    for frame in frames:
        y, x = np.divmod(place_of[frame.y * WIDTH + frame.x], places.shape[1])
        views.append(make_alignment_frame(replace(frame, x=x, y=y), working, 0.02))
    assert find_flip(views, working) == name
