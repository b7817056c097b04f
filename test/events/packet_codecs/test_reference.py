"""The fast decoders against obvious ones in plain Python, on random streams of every format."""

from collections import Counter

from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet_codecs import ENCODINGS, make_decoder
from epvlm_ros.events.registration import HomographyRegistration, make_cell_lookup
import numpy as np
import pytest
from random_packets import HEIGHT, random_packets, WIDTH
from reference_decoder import REFERENCES

pytestmark = pytest.mark.long

NUM_PACKETS = 10_000  # of every format
TALLIES = ('num_unknown_words', 'num_out_of_range', 'num_invalid', 'num_before_time')


def event_tuples(events):
    return list(zip(events.x.tolist(), events.y.tolist(), events.polarity.tolist(),
                    events.t_ns.tolist()))


def trigger_tuples(triggers):
    return list(zip(triggers.t_ns.tolist(), triggers.edge.tolist(), triggers.index.tolist()))


@pytest.mark.long
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_decode_equals_the_reference(encoding):
    decoder = make_decoder(encoding, WIDTH, HEIGHT)
    reference = REFERENCES[encoding](WIDTH, HEIGHT)
    totals = Counter()
    for packet in random_packets(encoding, NUM_PACKETS, seed=1, max_words=30):
        expected = reference.decode(packet.events.tobytes(), packet.time_base)
        events, triggers = decoder.decode(packet)
        assert event_tuples(events) == expected.events
        assert trigger_tuples(triggers) == expected.triggers
        add_totals(totals, encoding, packet, expected)
    check_counters(decoder, totals, NUM_PACKETS)
    # The random streams have to reach what they are for.
    reached = {
        'evt2': ('num_events', 'num_triggers', 'num_out_of_range', 'num_before_time',
                 'num_unknown_words', 'num_truncated_bytes'),
        'evt21': ('num_events', 'num_triggers', 'num_out_of_range', 'num_before_time',
                  'num_unknown_words', 'num_truncated_bytes'),
        'evt3': ('num_events', 'num_triggers', 'num_out_of_range', 'num_before_time',
                 'num_unknown_words', 'num_truncated_bytes'),
        'libcaer_cmp': ('num_events', 'num_out_of_range', 'num_before_time',
                        'num_unknown_words'),
        'libcaer': ('num_events', 'num_out_of_range', 'num_invalid'),
        'mono': ('num_events', 'num_out_of_range'), 'trigger': ('num_triggers',)}[encoding]
    assert all(totals[name] > 0 for name in reached), totals


def add_totals(totals, encoding, packet, expected):
    totals.update(expected.tally)
    totals['num_events'] += len(expected.events)
    totals['num_triggers'] += len(expected.triggers)
    word_size = {'evt2': 4, 'evt3': 2, 'libcaer_cmp': 2}.get(encoding, 8)
    totals['num_truncated_bytes'] += packet.events.size % word_size


def check_counters(decoder, totals, num_packets):
    for name in (*TALLIES, 'num_events', 'num_triggers', 'num_truncated_bytes'):
        assert getattr(decoder.counters, name) == totals[name], name
    assert decoder.counters.num_packets == num_packets


REGISTRATIONS = {  # homography, image size and whether the sensor is scaled to it
    'identity': ([1, 0, 0, 0, 1, 0, 0, 0, 1], (HEIGHT, WIDTH), False),
    'larger': ([1, 0, 0, 0, 1, 0, 0, 0, 1], (61, 83), True),
    'smaller': ([1, 0, 0, 0, 1, 0, 0, 0, 1], (17, 21), True),
    'shifted': ([1, 0, -9, 0, 1, 7, 0, 0, 1], (HEIGHT, WIDTH), False),
    'turned': ([-1, 0, 39, 0, -1, 29, 0, 0, 1], (HEIGHT, WIDTH), False),
    'homography': ([0.9, 0.1, 4, -0.1, 1.1, 0, 1e-3, 2e-3, 1], (61, 83), True),
    'elsewhere': ([1, 0, 900, 0, 1, 0, 0, 0, 1], (HEIGHT, WIDTH), False)}
BIN_NS, NUM_BINS = 700_000, 3000  # all that a dense stream of the test needs


class _Nothing:
    """A filter that removes no event, and makes the decoder go through runs."""

    def apply(self, runs):
        return 0


@pytest.mark.long
@pytest.mark.parametrize('name', REGISTRATIONS)
@pytest.mark.parametrize('encoding', ['evt3', 'libcaer_cmp', 'libcaer', 'mono'])
def test_counts_of_every_bin_and_cell_equal_the_reference(encoding, name):
    homography, image_size, is_scaled = REGISTRATIONS[name]
    registration = HomographyRegistration(homography, scale_to_image=is_scaled)
    num_per_size = -(-NUM_PACKETS // (32 * len(REGISTRATIONS)))
    num_counted = 0
    for cell_size in range(1, 33):
        lookup = make_cell_lookup(registration, (HEIGHT, WIDTH), image_size, cell_size)
        ways = [(ActivityBins(*image_size, cell_size, BIN_NS, NUM_BINS * BIN_NS, lookup),
                 make_decoder(encoding, WIDTH, HEIGHT), filters) for filters in ((), [_Nothing()])]
        reference = REFERENCES[encoding](WIDTH, HEIGHT)
        expected, totals = Counter(), Counter()
        for packet in random_packets(
                encoding, num_per_size, cell_size, is_dense=True, max_words=30):
            decoded = reference.decode(packet.events.tobytes(), packet.time_base)
            add_totals(totals, encoding, packet, decoded)
            expected.update(
                (t_ns // BIN_NS, int(lookup[y, x])) for x, y, _, t_ns in decoded.events)
            for bins, decoder, filters in ways:
                times = decoder.accumulate(packet, bins, filters)
                assert times.num_events == len(decoded.events)
                assert trigger_tuples(times.triggers) == decoded.triggers
        num_outside = sum(count for (_, cell), count in expected.items() if cell < 0)
        for bins, decoder, _ in ways:
            check_counters(decoder, totals, num_per_size)
            assert bins.num_out_of_image == num_outside
            assert bins.num_too_old == bins.num_saturated == 0
            check_bins(bins, {at: count for at, count in expected.items() if at[1] >= 0})
        num_counted += totals['num_events'] - num_outside
    assert (num_counted > 1000) != (name == 'elsewhere')


def check_bins(bins, expected):
    """Compare each bin, and all of them."""
    grids = {}
    for (time_bin, cell), count in expected.items():
        grids.setdefault(time_bin, np.zeros(bins.shape).reshape(-1))[cell] = count
    for time_bin, grid in grids.items():
        counts = bins.window(time_bin * BIN_NS, (time_bin + 1) * BIN_NS).counts
        np.testing.assert_array_equal(counts.reshape(-1), grid)
    whole = bins.window(0, (bins.latest_ns // BIN_NS + 1) * BIN_NS)
    assert whole.num_events == sum(expected.values())


class NaiveBins:
    """Event counts in a dictionary, by time bin and cell, of the newest bins only."""

    def __init__(self, lookup, bin_ns, num_bins):
        self.lookup, self.bin_ns, self.num_bins = lookup, bin_ns, num_bins
        self.counts = Counter()
        self.latest_ns = None
        self.num_too_old = self.num_out_of_image = 0

    def advance(self, t_ns):
        if t_ns is not None:
            self.latest_ns = t_ns if self.latest_ns is None else max(self.latest_ns, t_ns)

    def oldest_bin(self):
        return self.latest_ns // self.bin_ns - self.num_bins + 1

    def add(self, x, y, t_ns):
        self.advance(t_ns)
        if t_ns // self.bin_ns < self.oldest_bin():
            self.num_too_old += 1
        elif self.lookup[y, x] < 0:
            self.num_out_of_image += 1
        else:
            self.counts[t_ns // self.bin_ns, self.lookup[y, x]] += 1

    def grid(self, first_bin, last_bin, num_cells):
        grid = np.zeros(num_cells)
        for (time_bin, cell), count in self.counts.items():
            if max(first_bin, self.oldest_bin()) <= time_bin <= last_bin:
                grid[cell] += count
        return grid


@pytest.mark.long
@pytest.mark.parametrize('is_dense', [True, False])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_accumulate_equals_decoding_and_counting_one_by_one(encoding, is_dense):
    image_size, cell_size, bin_ns, num_bins = (61, 83), 7, 900_000, 21
    registration = HomographyRegistration([0.9, 0.1, 4, -0.1, 1.1, 0, 0, 0, 1])
    lookup = make_cell_lookup(registration, (HEIGHT, WIDTH), image_size, cell_size)
    bins = ActivityBins(*image_size, cell_size, bin_ns, (num_bins - 1) * bin_ns, lookup)
    naive = NaiveBins(lookup, bin_ns, num_bins)
    accumulating = make_decoder(encoding, WIDTH, HEIGHT)
    decoding = make_decoder(encoding, WIDTH, HEIGHT)
    num_compared = 0
    for packet in random_packets(encoding, 200, seed=2, is_dense=is_dense):
        times = accumulating.accumulate(packet, bins)
        events = event_tuples(decoding.decode(packet).events)
        assert times.num_events == len(events)
        naive.advance(times.first_ns)
        for x, y, _, t_ns in events:
            naive.add(x, y, t_ns)
        naive.advance(times.last_ns)
        assert bins.latest_ns == naive.latest_ns
        if naive.latest_ns is None:
            continue
        newest = naive.latest_ns // bin_ns
        for first, last in ((newest, newest), (newest - 7, newest - 3),
                            (newest - num_bins - 5, newest + 5)):
            counts = bins.window(first * bin_ns, (last + 1) * bin_ns).counts.reshape(-1)
            np.testing.assert_array_equal(counts, naive.grid(first, last, counts.size))
            num_compared += counts.sum()
    assert (bins.num_too_old, bins.num_out_of_image) == (
        naive.num_too_old, naive.num_out_of_image)
    assert accumulating.counters == decoding.counters
    assert encoding == 'trigger' or num_compared > (1000 if is_dense else 0)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_big_endian_payloads_hold_the_same_events(encoding):
    little = make_decoder(encoding, WIDTH, HEIGHT)
    big = make_decoder(encoding, WIDTH, HEIGHT)
    pairs = zip(random_packets(encoding, 50, seed=3),
                random_packets(encoding, 50, seed=3, is_bigendian=True))
    for packet, swapped in pairs:
        assert packet.events.size < 8 or packet.events.tobytes() != swapped.events.tobytes()
        expected, got = little.decode(packet), big.decode(swapped)
        assert event_tuples(got.events) == event_tuples(expected.events)
        assert trigger_tuples(got.triggers) == trigger_tuples(expected.triggers)
    assert little.counters == big.counters
    assert little.counters.num_events + little.counters.num_triggers > 500


@pytest.mark.parametrize('is_dense', [True, False])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_a_skim_leaves_the_stream_as_decoding_does(encoding, is_dense):
    random = np.random.default_rng(6)
    num_skimmed, num_triggers = 0, 0
    for seed in range(8):
        decoding = make_decoder(encoding, WIDTH, HEIGHT)
        skimming = make_decoder(encoding, WIDTH, HEIGHT)
        # Long packets too: words are searched in blocks.
        for packet in random_packets(
                encoding, 60, seed, is_dense=is_dense, max_words=400 if seed == 0 else 40):
            expected = decoding.decode(packet)
            if random.random() < 0.5:
                times = skimming.skim(packet)
                assert times.num_events == 0
                assert trigger_tuples(times.triggers) == trigger_tuples(expected.triggers)
                num_skimmed += 1
                num_triggers += times.triggers.edge.size
            else:
                got = skimming.decode(packet)
                assert event_tuples(got.events) == event_tuples(expected.events)
                assert trigger_tuples(got.triggers) == trigger_tuples(expected.triggers)
            assert (skimming.first_time_ns, skimming.last_time_ns) == (
                decoding.first_time_ns, decoding.last_time_ns)
        counters = skimming.counters
        assert counters.num_triggers == decoding.counters.num_triggers
        assert counters.num_truncated_bytes == decoding.counters.num_truncated_bytes
        assert counters.num_packets == 60
    assert counters.num_skimmed_packets > 15 and num_skimmed > 200
    assert (num_triggers > 50) == (encoding in ('evt2', 'evt21', 'evt3', 'trigger'))


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_a_skim_tells_the_times_of_the_packet(encoding):
    lookup = np.zeros((HEIGHT, WIDTH), np.int32)
    bins = ActivityBins(9, 9, 9, BIN_NS, BIN_NS, lookup)
    counting = make_decoder(encoding, WIDTH, HEIGHT)
    skimming = make_decoder(encoding, WIDTH, HEIGHT)
    num_times = 0
    for packet in random_packets(encoding, 400, seed=9, max_words=25):
        expected, times = counting.accumulate(packet, bins), skimming.skim(packet)
        assert times[:2] == expected[:2]
        num_times += times.first_ns is not None
    assert num_times > 200
