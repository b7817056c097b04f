"""The event simulator against a real recording: the same visual tokens are active."""

import cv2
from epvlm_ros.eval.still_image_events import activity_of_events
from epvlm_ros.events.packet import Events
from epvlm_ros.sim.event_simulator import EventSimulator
from epvlm_ros.vlm.patch_grid import PatchGeometry, token_activity
import numpy as np
import pytest
from slider_depth_bag import HEIGHT, load_events, WIDTH

FRAME_OFFSET_NS = 8_000_000  # from the stamp of a frame to the middle of its exposure
GRID = PatchGeometry(14, 2, 9 * 11 * 28 * 28, 155_000).grid(HEIGHT, WIDTH)  # of the embedded model


def rank(values):
    """Return the ranks of values, equal ones at their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[which]


def correlate_ranks(first, second):
    """Return Spearman's rank correlation."""
    return float(np.corrcoef(rank(first.ravel()), rank(second.ravel()))[0, 1])


def count_events(events, window_s):
    size = (HEIGHT, WIDTH)
    return token_activity(activity_of_events(events, size, size, window_s), GRID)


def test_rank_correlation_by_hand():
    assert rank(np.array([7, 3, 7, 9])).tolist() == [2.5, 1, 2.5, 4]
    # ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15)
    assert correlate_ranks(np.array([1, 2, 3, 9]), np.array([5, 1, 8, 6])) == pytest.approx(0.6)


@pytest.fixture(scope='module')
def activities(shared_data):
    """Return simulated and real events per visual token between consecutive frames."""
    source = shared_data / 'slider_depth'
    events = load_events(source)
    frames = [line.split() for line in (source / 'images.txt').read_text().splitlines()]
    times_ns = [round(float(seconds) * 1e9) for seconds, _ in frames]
    bounds = np.searchsorted(events.t_ns, np.array(times_ns) + FRAME_OFFSET_NS)
    sensor = EventSimulator(HEIGHT, WIDTH)
    simulated, real = [], []
    for number, (_, name) in enumerate(frames):
        picture = cv2.imread(str(source / name), cv2.IMREAD_GRAYSCALE) / 255.0
        made = sensor.step(picture, times_ns[number])
        if number:
            between = slice(bounds[number - 1], bounds[number])
            window_s = (times_ns[number] - times_ns[number - 1]) * 1e-9
            simulated.append(count_events(made, window_s))
            real.append(count_events(Events(*(part[between] for part in events)), window_s))
    return np.array(simulated), np.array(real)


def test_tokens_are_as_active_as_those_of_the_real_sensor(activities):
    simulated, real = activities
    assert simulated.shape == real.shape == (86, 9, 12)
    found = np.array([correlate_ranks(*pair) for pair in zip(simulated, real)])
    print(f'\nrank correlation: mean {found.mean():.3f}, median {np.median(found):.3f}, '
          f'least {found.min():.3f}; events a frame: {simulated.sum((1, 2)).mean():.0f} '
          f'simulated, {real.sum((1, 2)).mean():.0f} real')
    assert found.mean() >= 0.6
    # The scene moves on: what is active one second later is something else.
    later = np.array([correlate_ranks(*pair) for pair in zip(simulated[:-26], real[26:])])
    print(f'with the real events of one second later: {later.mean():.3f}')
    assert later.mean() < found.mean() - 0.3
