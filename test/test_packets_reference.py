"""The fast decoders against obvious ones in plain Python, on random streams of every format."""

from collections import Counter

from epvlm_ros.core.activity import ActivityBins
from epvlm_ros.core.packets import ENCODINGS, make_decoder
from epvlm_ros.core.registration import make_cell_lookup
import numpy as np
import pytest
from random_packets import HEIGHT, random_packets, WIDTH
from reference_decoder import REFERENCES

NUM_PACKETS = 1000
TALLIES = ('num_unknown_words', 'num_out_of_range', 'num_invalid', 'num_before_time')


def event_tuples(events):
    return list(zip(events.x.tolist(), events.y.tolist(), events.polarity.tolist(),
                    events.t_ns.tolist()))


def trigger_tuples(triggers):
    return list(zip(triggers.t_ns.tolist(), triggers.edge.tolist(), triggers.index.tolist()))


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_decode_equals_the_reference(encoding):
    decoder = make_decoder(encoding, WIDTH, HEIGHT)
    reference = REFERENCES[encoding](WIDTH, HEIGHT)
    totals = Counter()
    for packet in random_packets(encoding, NUM_PACKETS, seed=1):
        expected = reference.decode(packet.events.tobytes(), packet.time_base)
        events, triggers = decoder.decode(packet)
        assert event_tuples(events) == expected.events
        assert trigger_tuples(triggers) == expected.triggers
        totals.update(expected.tally)
        totals['num_events'] += len(expected.events)
        totals['num_triggers'] += len(expected.triggers)
        word_size = 2 if encoding in ('evt3', 'libcaer_cmp') else 8
        totals['num_truncated_bytes'] += packet.events.size % word_size
    for name in (*TALLIES, 'num_events', 'num_triggers', 'num_truncated_bytes'):
        assert getattr(decoder.counters, name) == totals[name], name
    assert decoder.counters.num_packets == NUM_PACKETS
    # The random streams have to reach what they are for.
    reached = {
        'evt3': ('num_events', 'num_triggers', 'num_out_of_range', 'num_before_time',
                 'num_unknown_words', 'num_truncated_bytes'),
        'libcaer_cmp': ('num_events', 'num_out_of_range', 'num_before_time',
                        'num_unknown_words'),
        'libcaer': ('num_events', 'num_out_of_range', 'num_invalid'),
        'mono': ('num_events', 'num_out_of_range'), 'trigger': ('num_triggers',)}[encoding]
    assert all(totals[name] > 0 for name in reached), totals


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


@pytest.mark.parametrize('is_dense', [True, False])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_accumulate_equals_decoding_and_counting_one_by_one(encoding, is_dense):
    image_size, cell_size, bin_ns, num_bins = (61, 83), 7, 900_000, 21
    lookup = make_cell_lookup(
        (HEIGHT, WIDTH), image_size, cell_size, [0.9, 0.1, 4, -0.1, 1.1, 0, 0, 0, 1])
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
