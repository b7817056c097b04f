"""Activity of regions: what is counted, in which unit, and against what."""

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.watches import RateReader, Region
import numpy as np
import pytest

# 8 x 12 cells of 4 px; the last row has cells of 2 px height.
HEIGHT, WIDTH, CELL = 30, 48, 4
MS = 10 ** 6


def make_activity(counts, pixel_density=1.0):
    return ActivityGrid(
        np.asarray(counts, np.float32), CELL, HEIGHT, WIDTH, 0, 40 * MS, pixel_density)


def make_change(scores, epoch=1):
    return ChangeScore(np.asarray(scores, np.uint16), CELL, HEIGHT, WIDTH, epoch)


def read(counts, change=None, pixel_density=1.0):
    """Return rates of a frame that comes 50 ms after one without any change."""
    reader = RateReader()
    if change is not None:
        reader.read(make_activity(np.zeros((8, 12))), make_change(np.zeros((8, 12))), 0)
        change = make_change(change)
    return reader.read(make_activity(counts, pixel_density), change, 50 * MS)


def test_the_whole_image_has_its_mean_in_events_per_sensor_pixel_and_second():
    counts = np.zeros((8, 12))
    counts[2, 3] = 72.0
    # 72 events of 30 x 48 pixels in 0.04 s; with two sensor pixels in each, half as many.
    assert read(counts).find_activity(Region()) == pytest.approx(72 / 1440 / 0.04)
    assert read(counts, pixel_density=2.0).find_activity(Region()) == pytest.approx(36 / 57.6)


def test_a_region_cuts_through_cells():
    counts = np.zeros((8, 12))
    counts[0, 0] = 16.0  # one a pixel: 25 per pixel and second
    rates = read(counts)
    assert rates.find_activity(Region(0, 0, 4, 4)) == pytest.approx(25.0)
    assert rates.find_activity(Region(2, 2, 4, 4)) == pytest.approx(25.0 / 4)
    assert rates.find_activity(Region(4, 0, 8, 8)) == pytest.approx(0.0)
    counts[7, 11] = 8.0  # of the last row, which is half as high
    assert read(counts).find_activity(Region(44, 28, 4, 2)) == pytest.approx(25.0)


def test_what_comes_everywhere_is_no_activity_of_a_region():
    pixels = np.full((8, 12), 16.0)
    pixels[7] = 8.0
    even = 0.4 * pixels  # 10 per pixel and second, as when the camera moves
    region = Region(16, 8, 8, 8)
    assert read(even).find_activity(region) == pytest.approx(0.0, abs=1e-4)
    assert read(even).find_activity(Region()) == pytest.approx(10.0)
    more = even.copy()
    more[2:4, 4:6] *= 3.0
    assert read(more).find_activity(region) == pytest.approx(20.0)
    # Something that moves in less than a quarter of the image elsewhere hides nothing.
    elsewhere = more.copy()
    elsewhere[4:, 9:] *= 50.0
    assert read(elsewhere).find_activity(region) == pytest.approx(20.0)
    # A region of nearly all of the image has nothing to be compared with.
    assert read(even).find_activity(Region(0, 0, 48, 29)) == pytest.approx(10.0)


def test_noise_is_no_activity_and_a_late_sum_is_no_burst():
    noise, nothing = np.full((8, 12), 2.0), np.zeros((8, 12))
    assert read(noise).find_activity(Region()) > 1.0
    assert read(noise, change=nothing).find_activity(Region()) == 0.0
    assert read(nothing, change=np.full((8, 12), 9)).find_activity(Region()) == 0.0
    both = read(np.full((8, 12), 4.0), change=np.full((8, 12), 2))
    assert both.find_activity(Region()) == pytest.approx(2 * 96 / 1440 / 0.05)


def test_windows_count_above_the_noise_that_they_have_while_nothing_changes():
    reader, scores = RateReader(), np.zeros((8, 12))
    noise = 1440 * 0.5 / 96  # in each cell, so that the image has 12.5 per pixel and second
    for number in range(1, 5):
        rates = reader.read(make_activity(np.full((8, 12), noise)), make_change(scores),
                            number * 50 * MS)
    assert rates.find_activity(Region()) == 0.0
    scores = scores + 500
    late = reader.read(make_activity(np.full((8, 12), noise)), make_change(scores), 250 * MS)
    assert late.find_activity(Region()) == pytest.approx(0.0, abs=1e-4)
    scores = scores + 500
    now = reader.read(make_activity(np.full((8, 12), 3 * noise)), make_change(scores), 300 * MS)
    # Not exactly twice the noise: cells of the last row are half as large.
    assert now.find_activity(Region()) == pytest.approx(25.0, rel=1e-3)


def test_what_is_not_known_is_none():
    reader, nothing = RateReader(), np.zeros((8, 12))
    activity = make_activity(nothing)
    assert reader.read(activity, make_change(nothing), 100 * MS) is None  # the first
    assert reader.read(activity, make_change(nothing), 150 * MS) is not None
    assert reader.read(activity, make_change(nothing), 140 * MS) is None  # a loop
    assert reader.read(activity, make_change(nothing), 190 * MS) is not None
    assert reader.read(activity, make_change(nothing, epoch=2), 240 * MS) is None
    assert reader.read(None, make_change(nothing, epoch=2), 290 * MS) is None  # no events came
    assert reader.read(activity, None, 340 * MS) is not None  # of a maker without scores


def test_a_region_outside_of_the_image_is_refused_with_both():
    rates = read(np.ones((8, 12)))
    for region in (Region(40, 0, 9, 4), Region(0, 28, 4, 3), Region(480, 300, 20, 20)):
        with pytest.raises(ValueError, match=r'at \(\d+, \d+\) is not inside .* 48 x 30'):
            rates.find_activity(region)
