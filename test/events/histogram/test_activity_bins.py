"""Time bins: windows, disorder, age, gaps and limits, with counts worked out by hand."""

from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet.pixel_runs import PixelRuns, RUN_DTYPE
from epvlm_ros.events.packet_codecs import encode_evt3, make_decoder
from epvlm_ros.events.registration import HomographyRegistration, make_cell_lookup
import numpy as np
import pytest

MS = 1_000_000


def make_bins(history_ms=10, height=4, width=6, cell_size=2, **options):
    lookup = make_cell_lookup(
        HomographyRegistration(), (height, width), (height, width), cell_size)
    return ActivityBins(
        height, width, cell_size, **{'bin_length_ns': MS, 'history_length_ns': history_ms * MS,
                                     'cell_lookup': lookup, **options})


def add(bins, *events):
    """Add events (t_ns, x, y) in the order given."""
    records = np.zeros(len(events), RUN_DTYPE)
    for record, (t_ns, x, y) in zip(records, events):
        record['t_ns'], record['x'], record['y'], record['mask'] = t_ns, x, y, 1
    bins.add_runs(PixelRuns(records, len(events), False))


def test_an_event_lands_in_its_cell_and_time():
    bins = make_bins()
    add(bins, (5 * MS, 5, 3), (5 * MS + 1, 4, 2), (7 * MS, 0, 1))
    np.testing.assert_array_equal(bins.window(5 * MS, 6 * MS).counts, [[0, 0, 0], [0, 0, 2]])
    np.testing.assert_array_equal(bins.window(6 * MS, 8 * MS).counts, [[1, 0, 0], [0, 0, 0]])
    window = bins.window(5 * MS, 8 * MS)
    assert window.num_events == 3.0
    assert window.counts.dtype == np.float32
    assert (window.window_start_ns, window.window_end_ns) == (5 * MS, 8 * MS)
    assert (window.cell_size_px, window.image_height, window.image_width) == (2, 4, 6)
    assert (bins.oldest_ns, bins.latest_ns) == (5 * MS, 7 * MS)


@pytest.mark.parametrize(('start_ns', 'end_ns', 'expected'), [
    (5_250_000, 6_000_000, 3.0),  # three quarters of a bin with 4
    (5_000_000, 6_500_000, 4 + 4.0),  # and half of a bin with 8
    (5_250_000, 6_500_000, 3 + 4.0),
    (5_250_000, 5_750_000, 2.0),
    (4_000_000, 9_000_000, 12.0),
    (5_500_000, 5_500_000, 0.0),
    (0, 5_000_000, 0.0),
    (8_000_000, 90_000_000, 0.0),
    (-50_000_000, 50_000_000, 12.0)])
def test_bins_at_the_border_count_by_their_share(start_ns, end_ns, expected):
    bins = make_bins()
    add(bins, *[(5 * MS + 10, 0, 0)] * 4, *[(6 * MS + 10, 0, 0)] * 8)
    assert bins.window(start_ns, end_ns).counts[0, 0] == pytest.approx(expected)


def test_disorder_within_the_history_and_beyond():
    bins = make_bins(history_ms=3)  # four bins: that of the newest event and three before
    add(bins, (10 * MS, 0, 0), (7 * MS, 0, 0), (8 * MS, 0, 0), (7 * MS - 1, 0, 0))
    assert [bins.window(t * MS, (t + 1) * MS).num_events for t in range(6, 12)] == [
        0, 1, 1, 0, 1, 0]
    assert bins.num_too_old == 1
    assert bins.oldest_ns == 7 * MS
    assert bins.latest_ns == 10 * MS


def test_old_bins_are_cleared_when_their_place_is_used_again():
    bins = make_bins(history_ms=3)
    add(bins, *[(t * MS, 0, 0) for t in range(4)])
    assert bins.window(0, 4 * MS).num_events == 4
    bins.advance(5 * MS)
    assert bins.window(0, 9 * MS).num_events == 2  # 2 and 3
    assert bins.oldest_ns == 2 * MS
    bins.advance(1 * MS)  # past: nothing happens
    assert bins.latest_ns == 5 * MS
    assert bins.window(0, 9 * MS).num_events == 2
    bins.advance(1000 * MS)  # further than the ring is long
    assert bins.window(0, 2000 * MS).num_events == 0
    assert bins.oldest_ns == 997 * MS


def test_negative_times_are_times():
    bins = make_bins()
    add(bins, (-1, 0, 0), (1, 0, 0), (-MS, 0, 0), (-MS - 1, 0, 0))
    assert bins.window(-MS, 0).num_events == 2
    assert bins.window(-2 * MS, -MS).num_events == 1
    assert (bins.oldest_ns, bins.latest_ns) == (-MS - 1, 1)


def test_before_any_event_and_after_a_reset():
    bins = make_bins()
    assert bins.latest_ns is None and bins.oldest_ns is None
    assert bins.window(0, 100 * MS).num_events == 0
    add(bins, (50 * MS, 0, 0))
    bins.reset()
    assert bins.latest_ns is None and bins.oldest_ns is None
    add(bins, (20 * MS, 0, 0))  # earlier than before the reset
    assert bins.window(0, 100 * MS).num_events == 1
    assert bins.num_too_old == 0


def test_counts_saturate():
    bins = make_bins()
    records = np.zeros(70_000, RUN_DTYPE)
    records['mask'] = 1
    bins.add_runs(PixelRuns(records, records.size, False))
    assert bins.window(0, MS).counts[0, 0] == 65535
    assert bins.num_saturated == 70_000 - 65535


@pytest.mark.parametrize('is_turned', [False, True])
@pytest.mark.parametrize('is_vertical', [False, True])
def test_counts_of_runs_saturate_one_by_one(is_vertical, is_turned):
    """A run across three cells, of which the middle one is nearly full."""
    lookup = np.arange(3).repeat(4)[np.newaxis]  # one line of 12 pixels, 4 to a cell
    lookup = lookup[:, ::-1] if is_turned else lookup  # turned, it has no small table
    size = (12, 1) if is_vertical else (1, 12)
    bins = ActivityBins(*size, 4, MS, MS, lookup.T if is_vertical else lookup)
    records = np.zeros(16_384, RUN_DTYPE)
    records['mask'] = 0b1111 << 4
    bins.add_runs(PixelRuns(records[:16_383], 16_383 * 4, is_vertical))
    counts = bins.window(0, MS).counts.reshape(-1)
    assert counts.tolist() == [0, 65532, 0]
    records['mask'] = 0b0111_1111_0001
    bins.add_runs(PixelRuns(records[:2], 16, is_vertical))
    counts = bins.window(0, MS).counts.reshape(-1)
    assert counts.tolist() == ([6, 65535, 2] if is_turned else [2, 65535, 6])
    assert bins.num_saturated == 5
    bins.add_runs(PixelRuns(records, 8 * 16_384, is_vertical))
    bins.add_runs(PixelRuns(records, 8 * 16_384, is_vertical))
    counts = bins.window(0, MS).counts.reshape(-1)
    ones, threes = 2 + 2 * 16_384, 65535
    assert counts.tolist() == ([threes, 65535, ones] if is_turned else [ones, 65535, threes])
    assert bins.num_saturated == 5 + 2 * 16_384 * 4 + (6 + 2 * 16_384 * 3 - 65535)


def test_runs_with_no_events_left_change_no_count():
    bins = make_bins()
    records = np.zeros(2, RUN_DTYPE)
    records['t_ns'] = 3 * MS, 4 * MS
    bins.add_runs(PixelRuns(records, 0, False))
    assert bins.window(0, 9 * MS).num_events == 0
    assert bins.latest_ns == 4 * MS
    bins.add_runs(PixelRuns(records[:0], 0, False))
    assert bins.latest_ns == 4 * MS


def test_latest_time_is_that_of_any_event_in_a_bin():
    bins = make_bins()
    add(bins, (5 * MS, 0, 0), (5 * MS + 7, 0, 0), (5 * MS + 3, 0, 0))
    assert (bins.oldest_ns, bins.latest_ns) == (5 * MS, 5 * MS + 7)
    add(bins, (5 * MS - 2, 0, 0))
    assert (bins.oldest_ns, bins.latest_ns) == (5 * MS - 2, 5 * MS + 7)


def test_runs_that_are_too_old_are_counted_by_their_events():
    bins = make_bins(history_ms=2)
    add(bins, (9 * MS, 0, 0))
    records = np.zeros(2, RUN_DTYPE)
    records['t_ns'], records['mask'] = (5 * MS, 9 * MS), 0b111011
    bins.add_runs(PixelRuns(records, 10, False))
    assert bins.num_too_old == 5
    assert bins.window(0, 20 * MS).num_events == 6


def test_events_that_see_nothing_of_the_image_are_counted():
    lookup = np.array([[0, -1]], np.int32)
    bins = ActivityBins(4, 6, 2, MS, 10 * MS, lookup)
    add(bins, (0, 0, 0), (0, 1, 0), (0, 1, 0))
    assert bins.window(0, MS).num_events == 1
    assert bins.num_out_of_image == 2


def test_silence_inside_a_packet_is_covered():
    """What a packet spans was seen, although its first event came late."""
    bins = make_bins(height=4, width=6)
    events = Events(np.array([1]), np.array([1]), np.array([1]), np.array([30 * MS]))
    payload = encode_evt3(events, start_ns=26 * MS)
    times = make_decoder('evt3', 6, 4).accumulate(
        EventPacket(0, 6, 4, 0, 0, 'evt3', payload), bins)
    assert times[:3] == (26 * MS, 30 * MS, 1)
    assert (bins.oldest_ns, bins.latest_ns) == (26 * MS, 30 * MS)


def test_sizes_that_are_no_multiple_of_the_cell():
    assert grid_shape(5, 9, 4) == (2, 3)
    assert grid_shape(4, 8, 4) == (1, 2)
    bins = make_bins(height=5, width=9, cell_size=4)
    add(bins, (0, 8, 4))
    np.testing.assert_array_equal(bins.window(0, MS).counts, [[0, 0, 0], [0, 0, 1]])


def test_count_back_to_enough_events():
    bins = make_bins(history_ms=20)
    for t_ms, count in ((3, 2), (5, 4), (6, 1), (9, 8)):
        add(bins, *[(t_ms * MS + 5, 0, 0)] * count)
    assert bins.count_back(10 * MS, 0, num_events=8) == 9 * MS
    assert bins.count_back(10 * MS, 0, num_events=9) == 6 * MS
    assert bins.count_back(10 * MS, 0, num_events=10) == 5 * MS
    assert bins.count_back(10 * MS, 0, num_events=15) == 3 * MS
    assert bins.count_back(10 * MS, 0, num_events=16) == 0  # there are no more
    assert bins.count_back(9 * MS, 0, num_events=1) == 6 * MS  # the end does not belong to it
    # Half of the last bin counts half.
    assert bins.count_back(9 * MS + MS // 2, 0, num_events=4) == 9 * MS
    assert bins.count_back(9 * MS + MS // 2, 0, num_events=5) == 6 * MS
    # Never before the earliest start, whether that is the start of a bin or not.
    assert bins.count_back(10 * MS, 6 * MS, num_events=9) == 6 * MS
    assert bins.count_back(10 * MS, 6 * MS + 1, num_events=9) == 6 * MS + 1
    assert bins.count_back(10 * MS, 7 * MS, num_events=9) == 7 * MS
    assert bins.count_back(90 * MS, 0, num_events=9) == 6 * MS  # an end in the future
    assert bins.count_back(10 * MS, 10 * MS, num_events=9) == 10 * MS


def test_count_back_to_enough_active_cells():
    bins = make_bins(history_ms=20)  # cells of 2 x 2 pixels
    add(bins, (3 * MS, 4, 2), (4 * MS, 2, 0), (6 * MS, 0, 0), (8 * MS, 1, 1), (8 * MS, 0, 1))
    assert bins.count_back(9 * MS, 0, num_active_cells=1) == 8 * MS
    assert bins.count_back(9 * MS, 0, num_active_cells=2) == 4 * MS
    assert bins.count_back(9 * MS, 0, num_active_cells=3) == 3 * MS
    assert bins.count_back(9 * MS, 1 * MS, num_active_cells=4) == 1 * MS
    # Both are wanted.
    assert bins.count_back(9 * MS, 0, num_events=3, num_active_cells=1) == 6 * MS
    assert bins.count_back(9 * MS, 0, num_events=1, num_active_cells=2) == 4 * MS


def test_count_back_where_nothing_is_remembered():
    bins = make_bins(history_ms=3)
    assert bins.count_back(9 * MS, 2 * MS, num_events=1) == 2 * MS
    add(bins, *[(3 * MS, 0, 0)] * 9, (6 * MS, 0, 0))
    assert bins.count_back(9 * MS, 0, num_events=10) == 3 * MS
    bins.advance(9 * MS)  # the bin at 3 ms is used again
    assert bins.count_back(9 * MS, 0, num_events=2) == 0
    assert bins.count_back(9 * MS, 0, num_events=1) == 6 * MS
    bins.reset()
    assert bins.count_back(9 * MS, 0, num_events=1) == 0
    add(bins, (6 * MS, 0, 0))
    assert bins.count_back(9 * MS, 0, num_events=2) == 0


def test_mistakes_of_the_caller():
    with pytest.raises(ValueError, match='before its earliest start'):
        make_bins().count_back(5, 6, num_events=1)
    with pytest.raises(ValueError, match='None events and None active cells are wanted'):
        make_bins().count_back(6, 5)
    with pytest.raises(ValueError, match='1 or more'):
        make_bins().count_back(6, 5, num_events=0)
    with pytest.raises(ValueError, match='history of at least one bin'):
        make_bins(bin_length_ns=0)
    with pytest.raises(ValueError, match='history of at least one bin'):
        make_bins(history_length_ns=MS - 1)
    with pytest.raises(ValueError, match='leaves the grid of 6 cells'):
        make_bins(cell_lookup=np.full((2, 2), 6))
    with pytest.raises(ValueError, match='leaves the grid'):
        make_bins(cell_lookup=np.full((2, 2), -2))
    with pytest.raises(ValueError, match='sizes of 1 or more'):
        grid_shape(0, 5, 4)
    with pytest.raises(ValueError, match='before its start'):
        make_bins().window(5, 4)
    with pytest.raises(ValueError, match=r'\(2, 2\).*make \(2, 3\)'):
        ActivityGrid(np.zeros((2, 2), np.float32), 2, 4, 6, 0, 1)


@pytest.mark.parametrize('num_bins', range(1, 10))
def test_whole_bins_are_summed_whatever_their_number(num_bins):
    random = np.random.default_rng(num_bins)
    bins = make_bins()
    times = np.sort(random.integers(100 * MS, 109 * MS, 300))
    add(bins, *((time, *random.integers(0, (6, 4))) for time in times))
    for first in range(97, 110):
        expected = sum(bins.window(number * MS, (number + 1) * MS).counts
                       for number in range(first, first + num_bins))
        np.testing.assert_array_equal(bins.sum_bins(first, first + num_bins), expected)


def test_sums_of_bins_may_be_larger_than_their_counts():
    bins = make_bins()
    for number, (time_bin, num_events) in enumerate([(3, 65_535), (4, 65_535), (5, 40_000)]):
        add(bins, (time_bin * MS, 0, 0))
        bins._ring.counts[time_bin % bins._ring.totals.size, 0] = num_events  # quicker
        bins._ring.totals[time_bin % bins._ring.totals.size] = num_events + number  # saturated
    assert bins.sum_bins(2, 8).tolist() == [[171_070.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_events_of_closed_bins_are_late_and_counted():
    bins = make_bins()
    add(bins, (5 * MS, 0, 0), (8 * MS, 0, 0))
    bins.close_before(7)
    add(bins, (7 * MS, 0, 0), (8 * MS, 0, 0))
    assert bins.num_late == 0
    add(bins, (7 * MS, 0, 0), (7 * MS - 1, 0, 0), (8 * MS, 0, 0), (5 * MS, 0, 0))
    assert bins.num_late == 2
    assert bins.window(5 * MS, 7 * MS).num_events == 3
    bins.reset()
    add(bins, (5 * MS, 0, 0))
    assert bins.num_late == 2
