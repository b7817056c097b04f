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


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_accumulate_equals_decoding_and_counting_one_by_one(encoding):
    image_size, cell_size, bin_ns, num_bins = (61, 83), 7, 900_000, 51
    lookup = make_cell_lookup(
        (HEIGHT, WIDTH), image_size, cell_size, [0.9, 0.1, 4, -0.1, 1.1, 0, 0, 0, 1])
    bins = ActivityBins(*image_size, cell_size, bin_ns, (num_bins - 1) * bin_ns, lookup)
    accumulating = make_decoder(encoding, WIDTH, HEIGHT)
    decoding = make_decoder(encoding, WIDTH, HEIGHT)
    naive, newest, latest, num_too_old, num_outside = {}, None, None, 0, 0
    for i, packet in enumerate(random_packets(encoding, NUM_PACKETS // 4, seed=2)):
        if encoding != 'evt3':  # their time starts anew with each packet: keep them together
            packet = type(packet)(**{**vars(packet), 'time_base': i * 1_000_000})
        times = accumulating.accumulate(packet, bins)
        events = event_tuples(decoding.decode(packet).events)
        assert times.num_events == len(events)
        for x, y, _, t_ns in events:
            newest = max(t_ns // bin_ns, t_ns // bin_ns if newest is None else newest)
            latest = max(t_ns, t_ns if latest is None else latest)
            if t_ns // bin_ns <= newest - num_bins:
                num_too_old += 1
            elif lookup[y, x] < 0:
                num_outside += 1
            else:
                key = t_ns // bin_ns, int(lookup[y, x])
                naive[key] = naive.get(key, 0) + 1
        if times.last_ns is not None:
            newest = max(times.last_ns // bin_ns, newest or 0)
            latest = max(times.last_ns, latest or 0)
        if i % 5 or newest is None:
            continue
        start = newest - num_bins + 1
        expected = np.zeros((num_bins, lookup.max() + 1 + 12), np.int64)
        for (time_bin, cell), count in naive.items():
            if time_bin >= start:
                expected[time_bin - start, cell] = count
        for offset in (0, num_bins // 2, num_bins - 1):
            window = bins.window((start + offset) * bin_ns, (start + offset + 1) * bin_ns)
            flat = window.counts.reshape(-1)
            np.testing.assert_array_equal(flat, expected[offset, :flat.size])
        whole = bins.window(start * bin_ns, (newest + 1) * bin_ns)
        np.testing.assert_array_equal(
            whole.counts.reshape(-1), expected.sum(axis=0)[:whole.counts.size])
        assert bins.latest_ns == latest
    assert (bins.num_too_old, bins.num_out_of_image) == (num_too_old, num_outside)
    assert accumulating.counters == decoding.counters
    assert encoding == 'trigger' or len(naive) > 1000 and num_outside


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
