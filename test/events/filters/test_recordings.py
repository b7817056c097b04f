"""On real recordings the filters drop noise and leave what moves, by a criterion of hindsight."""

from collections import Counter

from epvlm_ros.bag import BagReader
from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters import make_filters
from epvlm_ros.events.packet import Events
from epvlm_ros.events.packet.pixel_runs import RUN_DTYPE
from epvlm_ros.events.packet_codecs import make_decoder
from filter_runs import pixel_runs, random_runs, single_events
import numpy as np
import pytest

CONFIG = FilterConfig(hot_pixel_filter=True, background_filter=True)
HALF_SPAN_NS = 10_000_000
MIN_AROUND = 5  # other events within 5 x 5 pixels and 20 ms
MIN_CLUSTER = 300  # events


def read(path):
    """Return the size of the sensor and the events of all packets of a recording."""
    with BagReader(path) as bag:
        packets = list(bag.event_packets())
    decoder = make_decoder(packets[0].encoding, packets[0].width, packets[0].height)
    return (decoder.width, decoder.height), [decoder.decode(packet).events for packet in packets]


def filtered(size, packets, config=CONFIG):
    """Tell which events the filters keep, packet by packet."""
    filters = make_filters(config, *size)
    kept = []
    for events in packets:
        records = np.zeros(events.t_ns.size, RUN_DTYPE)
        records['t_ns'], records['x'], records['y'] = events.t_ns, events.x, events.y
        records['polarity'], records['mask'] = events.polarity, 1
        for event_filter in filters:
            event_filter.apply(pixel_runs(records))
        kept.append(records['mask'] > 0)
    return np.concatenate(kept)


def joined(packets):
    return Events(*(np.concatenate([getattr(events, name) for events in packets])
                    for name in ('x', 'y', 'polarity', 't_ns')))


def count_around(size, events):
    """Count for each event the others in the 5 x 5 pixels and 10 ms before and after it."""
    width, height = size
    t_ns = events.t_ns - events.t_ns.min() + HALF_SPAN_NS
    span_ns = int(t_ns.max()) + HALF_SPAN_NS + 1
    x, y = events.x.astype(np.int64), events.y.astype(np.int64)
    keys = np.sort((y * width + x) * span_ns + t_ns)  # by pixel, then by time
    num_around = np.full(t_ns.size, -1)  # less the event itself
    for row in range(-2, 3):
        for col in range(-2, 3):
            inside = (0 <= x + col) & (x + col < width) & (0 <= y + row) & (y + row < height)
            key = ((y + row) * width + x + col) * span_ns + t_ns
            first = np.searchsorted(keys, key - HALF_SPAN_NS, 'left')
            last = np.searchsorted(keys, key + HALF_SPAN_NS, 'right')
            num_around += np.where(inside, last - first, 0)
    return num_around


def find_clusters(boxes):
    """Yield sets of boxes (i, j, k) that touch each other, by corners too."""
    left = set(boxes)
    while left:
        todo = [left.pop()]
        cluster = set(todo)
        while todo:
            i, j, k = todo.pop()
            for near in ((i + a, j + b, k + c)
                         for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)):
                if near in left:
                    left.remove(near)
                    cluster.add(near)
                    todo.append(near)
        yield cluster


def is_on_object(size, events):
    """
    Tell which events are of something that moves, looking at past and future.

    These have at least 5 others in the 5 x 5 pixels and 20 ms around them, and are connected
    (through boxes of 5 x 5 pixels and 10 ms) with at least 300 of their kind.
    """
    is_dense = count_around(size, events) >= MIN_AROUND
    boxes = list(zip(
        (events.t_ns // HALF_SPAN_NS).tolist(), (events.y // 5).tolist(),
        (events.x // 5).tolist()))
    num_dense = Counter(box for box, dense in zip(boxes, is_dense.tolist()) if dense)
    on_object = set()
    for cluster in find_clusters(num_dense):
        if sum(num_dense[box] for box in cluster) >= MIN_CLUSTER:
            on_object |= cluster
    return is_dense & np.array([box in on_object for box in boxes])


def test_the_count_of_events_around_by_hand():
    runs = random_runs(1, 60, 12, 9, 3000)
    rows = np.array(single_events(runs))
    events = Events(rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 0])
    expected = [sum(
        abs(x - a) <= 2 and abs(y - b) <= 2 and abs(t - c) <= 10_000_000
        for c, a, b, _ in rows.tolist()) - 1 for t, x, y, _ in rows.tolist()]
    assert max(expected) > 3
    np.testing.assert_array_equal(count_around((12, 9), events), expected)


def test_noise_goes(shared_data):
    size, packets = read(shared_data / 'evt3_trigger_1280x720')
    kept = filtered(size, packets)
    print(f'nearly empty scene: {1 - kept.mean():.1%} of the events dropped')
    assert kept.mean() < 0.1


@pytest.mark.long
def test_the_moving_object_stays(shared_data):
    size, packets = read(shared_data / 'evt3_640x480')
    events = joined(packets)
    on_object = is_on_object(size, events)
    # In the pictures it is a person in the middle, between these columns all the time.
    in_place = (events.x > 285) & (events.x < 415)
    assert 0.3 < on_object.mean() < 0.6
    assert in_place[on_object].mean() > 0.97
    kept = filtered(size, packets)
    print(f'moving person: {kept[on_object].mean():.1%} of its events kept, '
          f'{1 - kept[~on_object].mean():.1%} of the others dropped')
    assert kept[on_object].mean() > 0.85
    # Of the rest, which is mostly noise, little is left.
    assert kept[~on_object].mean() < 0.2


@pytest.mark.parametrize('start_s', [0.0, 0.5])
def test_injected_hot_pixels_are_masked_within_a_second(shared_data, start_s):
    size, packets = read(shared_data / 'evt3_640x480')
    first_ns = int(packets[0].t_ns[0]) + round(start_s * 1e9)
    # One on the moving object, one in noise, one where hardly anything happens, one in a corner.
    places = [(350, 30), (20, 400), (550, 200), (639, 479)]
    x, y = np.array(places, np.uint16).T
    with_hot = []
    last_ns = first_ns
    for events in packets:
        times_ns = np.arange(last_ns, max(int(events.t_ns[-1]), last_ns), 1_000_000)
        last_ns += 1_000_000 * times_ns.size
        t_ns = np.concatenate([events.t_ns, np.repeat(times_ns, len(places))])
        order = np.argsort(t_ns, kind='stable')
        new = [np.concatenate([old, np.tile(values, times_ns.size)])[order] for old, values in (
            (events.x, x), (events.y, y), (events.polarity, np.ones_like(x)))]
        with_hot.append(Events(*new, t_ns[order]))
    config = FilterConfig(hot_pixel_filter=True)
    events, kept = joined(with_hot), filtered(size, with_hot, config)
    for place in places:
        at_place = (events.x == place[0]) & (events.y == place[1])
        late = events.t_ns > first_ns + 10 ** 9
        assert (at_place & late).sum() >= 500
        assert kept[at_place & late].mean() == 0.0
    assert kept[~np.isin(events.y.astype(int) * 640 + events.x, y.astype(int) * 640 + x)].all()
