"""What all filters have in common: order, sizes, empty input, garbage, nothing but their job."""

from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters import (
    BackgroundFilter, FlickerFilter, HotPixelFilter, make_filters, RateLimit)
from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet import EventPacket
from epvlm_ros.events.packet.pixel_runs import RUN_DTYPE
from epvlm_ros.events.packet_codecs import ENCODINGS, make_decoder
from filter_runs import make_runs, pixel_runs, random_runs, transposed
import numpy as np
import pytest
from random_packets import HEIGHT, random_packets, WIDTH

ALL_ON = FilterConfig(
    hot_pixel_filter=True, flicker_filter=True, background_filter=True, max_pixel_rate=100.0)
CLASSES = [HotPixelFilter, FlickerFilter, BackgroundFilter, RateLimit]


def test_filters_are_made_in_their_order():
    assert make_filters(FilterConfig(), 640, 480) == ()
    assert [type(item) for item in make_filters(ALL_ON, 640, 480)] == CLASSES
    assert [item.name for item in make_filters(ALL_ON, 640, 480)] == [
        'hot_pixels', 'flicker', 'background', 'rate_limit']
    one = make_filters(FilterConfig(flicker_filter=True), 640, 480)
    assert [type(item) for item in one] == [FlickerFilter]
    # The filter of ego motion works on the grid, not on events.
    assert make_filters(FilterConfig(ego_motion_filter=True), 640, 480) == ()


@pytest.mark.parametrize('size', [(-1, 5), (5, -1)])
def test_a_negative_size_is_refused(size):
    with pytest.raises(ValueError, match=f'sensor size is {size[0]} x {size[1]}'):
        make_filters(ALL_ON, *size)


@pytest.mark.parametrize('size', [(0, 0), (0, 5), (5, 0), (1, 1), (32, 1), (1, 33)])
@pytest.mark.parametrize('is_vertical', [False, True])
def test_small_sensors(size, is_vertical):
    for event_filter in make_filters(ALL_ON, *size):
        assert event_filter.apply(make_runs([], is_vertical)) == 0
        if size[0] and size[1]:
            runs = make_runs(
                [(t_us, size[0] - 1, size[1] - 1, 1) for t_us in range(5)], is_vertical)
            dropped = event_filter.apply(runs)
            assert dropped == 5 - runs.records['mask'].sum()
        event_filter.reset()


@pytest.mark.parametrize('make', CLASSES)
def test_runs_of_no_event_stay_and_change_nothing(make):
    rows = [(t_us, 40 + t_us % 3, 20, t_us % 5 == 0, t_us // 5 % 2) for t_us in range(500)]
    with_empty, without = make(100, 50, ALL_ON), make(100, 50, ALL_ON)
    runs, fewer = make_runs(rows), make_runs([row for row in rows if row[3]])
    assert with_empty.apply(runs) == without.apply(fewer)
    assert runs.records['mask'][[row[3] for row in rows]].tolist() == \
        fewer.records['mask'].tolist()


@pytest.mark.parametrize('make', CLASSES)
def test_nothing_but_the_masks_is_changed(make):
    runs = random_runs(1, 3000, 80, 60, 100)
    before = runs.records.copy()
    dropped = make(80, 60, ALL_ON).apply(runs)
    for name in ('t_ns', 'x', 'y', 'polarity'):
        np.testing.assert_array_equal(runs.records[name], before[name])
    assert not (runs.records['mask'] & ~before['mask']).any()  # no event is added
    assert dropped == runs.num_events - pixel_runs(runs.records).num_events


@pytest.mark.parametrize('make', CLASSES)
@pytest.mark.parametrize('is_vertical', [False, True])
def test_garbage_times_and_places_are_survived(make, is_vertical):
    # Any time, any place, any mask inside the sensor, in any order.
    random = np.random.default_rng(3)
    width, height = 70, 45
    event_filter = make(width, height, ALL_ON)
    for _ in range(20):
        records = np.zeros(500, RUN_DTYPE)
        scale = 10 ** random.integers(1, 19)
        records['t_ns'] = random.integers(0, scale, 500) * random.choice([1, 1, -1], 500)
        records['x'], records['y'] = random.integers(0, width, 500), random.integers(
            0, height, 500)
        room = (height - records['y'] if is_vertical else width - records['x']).astype(int)
        records['mask'] = random.integers(0, 1 << 16, 500) & (1 << np.minimum(room, 16)) - 1
        records['polarity'] = random.integers(0, 2, 500)
        runs = pixel_runs(records, is_vertical)
        dropped = event_filter.apply(runs)
        assert dropped == runs.num_events - pixel_runs(runs.records).num_events
    # It works afterwards as a new one does, from a reset on.
    event_filter.reset()
    runs, same = (random_runs(4, 2000, 70, 45, 100) for _ in range(2))
    if is_vertical:
        runs, same = (transposed(random_runs(4, 2000, 45, 70, 100)) for _ in range(2))
    fresh = make(width, height, ALL_ON)
    if make is HotPixelFilter:  # whose mask stays
        event_filter._forget()
    assert event_filter.apply(runs) == fresh.apply(same)
    np.testing.assert_array_equal(runs.records, same.records)


@pytest.mark.parametrize('make', CLASSES)
def test_runs_that_turn_start_anew(make):
    event_filter, fresh = make(60, 45, ALL_ON), make(60, 45, ALL_ON)
    event_filter.apply(random_runs(4, 2000, 60, 45, 100))
    runs, same = (transposed(random_runs(5, 2000, 45, 60, 100)) for _ in range(2))
    assert event_filter.apply(runs) == fresh.apply(same)
    np.testing.assert_array_equal(runs.records, same.records)


@pytest.mark.parametrize('encoding', [item for item in ENCODINGS if item != 'trigger'])
def test_decoders_count_what_the_filters_leave(encoding):
    packets = random_packets(encoding, 60, seed=1, is_dense=True)
    lookup = np.zeros((HEIGHT, WIDTH), np.int32)
    with_filters = ActivityBins(HEIGHT, WIDTH, 64, 1_000_000, 10 ** 10, lookup)
    decoder, plain = make_decoder(encoding, WIDTH, HEIGHT), make_decoder(encoding, WIDTH, HEIGHT)
    filters = [_Counted(item) for item in make_filters(ALL_ON, WIDTH, HEIGHT)]
    num_events = 0
    for packet in packets:
        assert isinstance(packet, EventPacket)
        times = decoder.accumulate(packet, with_filters, filters)
        num_events += times.num_events
        assert times.num_events == plain.decode(packet).events.t_ns.size
    num_dropped = sum(item.num_dropped for item in filters)
    assert 0 < num_dropped < num_events
    # Up to the end of the bin of the last event, so that no bin is cut.
    kept = with_filters.window(0, (with_filters.latest_ns // 10 ** 6 + 1) * 10 ** 6)
    too_old = with_filters.num_too_old
    assert kept.num_events + too_old == num_events - num_dropped


class _Counted:
    """Remembers how much a filter drops."""

    def __init__(self, event_filter):
        self.event_filter, self.num_dropped = event_filter, 0

    def apply(self, runs):
        dropped = self.event_filter.apply(runs)
        self.num_dropped += dropped
        return dropped
