"""Change stands out from noise, from packets to the scores of frames; stillness does not."""

from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
import numpy as np
import pytest

SIDE = 84  # pixels of the sensor and of the image: 3 x 3 tokens
TOKEN = 7  # cells along a side
PACKET_NS = 20_000_000
CHANGED = 8.0  # events from which on a token has changed
STILL_S = 60.0


def watch(noise_hz, make_events, frames_s, seed):
    """Return the scores of frames; ``make_events(time_s, random)`` makes x and y of a packet."""
    random = np.random.default_rng(seed)
    sync = FrameSynchronizer(EventSyncConfig(
        sync_mode='common_clock', max_wait=0.0, max_exposure=0.0, cell_size=4))
    sync.add_frame(Frame(0, SIDE, SIDE), 0.0)
    sync.poll(0.0)
    scores = []
    for number in range(round(max(frames_s) * 50) + 2):
        start_ns = number * PACKET_NS
        x, y = make_events(start_ns / 1e9, random)
        num_noise = random.poisson(noise_hz * SIDE ** 2 * PACKET_NS / 1e9)
        x = np.append(x, random.integers(0, SIDE, num_noise)).astype(np.uint16)
        y = np.append(y, random.integers(0, SIDE, num_noise)).astype(np.uint16)
        t_ns = start_ns + np.sort(random.integers(0, PACKET_NS // 1000, x.size)) * 1000
        order = random.permutation(x.size)
        payload = encode_evt3(
            Events(x[order], y[order], np.ones(x.size, np.uint8), t_ns), start_ns=start_ns)
        sync.add_packet(
            EventPacket(start_ns, SIDE, SIDE, number, 0, 'evt3', payload), 0.0)
        if len(scores) < len(frames_s) and start_ns >= frames_s[len(scores)] * 1e9:
            sync.add_frame(Frame(round(frames_s[len(scores)] * 1e9), SIDE, SIDE), 0.0)
            scores.append(sync.poll(0.0)[-1].change)
    return scores


def find_changed(before, after):
    """Return which of the 3 x 3 tokens have changed."""
    assert after.num_doubts == before.num_doubts
    in_tokens = after.since(before).reshape(3, TOKEN, 3, TOKEN).sum(axis=(1, 3))
    return (in_tokens >= CHANGED).tolist()


NOTHING = [[False] * 3] * 3


@pytest.mark.parametrize('noise_hz', [pytest.param(0.3, marks=pytest.mark.slow), 5.0])
def test_a_tenth_of_a_second_after_a_minute_of_stillness(noise_hz):
    def sweep(time_s, random):
        """Move an edge of 16 pixels by two pixels a packet, with two events a pixel."""
        number = round((time_s - STILL_S) * 50)
        if not 0 <= number < 5:
            return np.zeros((2, 0))
        y, x = np.mgrid[34:50, 34 + 2 * number:36 + 2 * number]
        return np.repeat([x.ravel(), y.ravel()], 2, axis=1)

    begin, middle, before, after = watch(
        noise_hz, sweep, [1.0, 30.0, STILL_S - 0.1, STILL_S + 0.2], seed=1)
    assert find_changed(begin, middle) == find_changed(middle, before) == NOTHING
    changed = find_changed(before, after)
    # A block of 16 pixels reaches over the lower and the right edge of the token.
    assert changed[1][1] and changed[0] == [False] * 3
    assert not changed[1][0] and not changed[2][0]
    assert 320 * 0.6 < np.sum(after.since(before)) < 320 * 2.0


@pytest.mark.parametrize('noise_hz, after_s', [
    pytest.param(0.3, 5.0, marks=pytest.mark.slow), pytest.param(2.0, 9.0, marks=pytest.mark.slow),
    (5.0, 34.0)])
def test_an_edge_of_a_pixel_a_second(noise_hz, after_s):
    def creep(time_s, random):
        """Move an edge of 16 pixels by a pixel in a second, with five events a pixel."""
        num_events = random.poisson(16 * 5 * PACKET_NS / 1e9) if time_s >= STILL_S else 0
        return (np.full(num_events, 28 + int(max(time_s - STILL_S, 0.0))),
                random.integers(32, 48, num_events))

    before, after = watch(noise_hz, creep, [STILL_S - 0.1, STILL_S + after_s], seed=2)
    changed = find_changed(before, after)
    assert changed[1][1] and changed[0] == changed[2] == [False] * 3
