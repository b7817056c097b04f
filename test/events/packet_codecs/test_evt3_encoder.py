"""The encoder is the inverse of the decoder, and writes no more words than it has to."""

from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3, make_decoder
import numpy as np
import pytest

pytestmark = pytest.mark.long

WIDTH, HEIGHT = 400, 60


def make_events(*rows):
    columns = list(zip(*rows)) if rows else [(), (), (), ()]
    return Events(*(np.array(column, dtype) for column, dtype in zip(
        columns, (np.uint16, np.uint16, np.uint8, np.int64))))


def words_of(events, **options):
    return [hex(word) for word in encode_evt3(events, **options).view('<u2').tolist()]


def decode(decoder, payload):
    return decoder.decode(EventPacket(0, decoder.width, decoder.height, 0, 0, 'evt3', payload))


def random_events(random, num_runs, start_us, length_us):
    """Return runs of neighbours and single events, many of them at equal times."""
    rows = []
    times = np.sort(start_us + random.integers(0, length_us, num_runs))
    for t_us in times.tolist():
        y, polarity = int(random.integers(0, HEIGHT)), int(random.integers(0, 2))
        x = int(random.integers(0, WIDTH))
        for _ in range(int(random.choice([1, 1, 2, 3, 12, 40]))):
            rows.append((x, y, polarity, t_us * 1000 + int(random.integers(0, 1000))))
            x += int(random.choice([1, 1, 1, 2, 13]))
            if x >= WIDTH:
                break
    rows.sort(key=lambda row: row[3] // 1000)
    return make_events(*rows)


def test_packets_decode_to_what_was_encoded():
    random = np.random.default_rng(4)
    decoder = make_decoder('evt3', WIDTH, HEIGHT)
    start_us, num_bytes, num_events = 16_000_000, 0, 0
    for _ in range(300):  # across a wrap of the time
        events = random_events(random, int(random.integers(1, 40)), start_us, 4000)
        payload = encode_evt3(
            Events(*events[:3], t_ns=np.sort(events.t_ns)), start_ns=start_us * 1000)
        assert payload.dtype == np.uint8 and payload[1] >> 4 == 8 and payload[3] >> 4 == 6
        decoded = decode(decoder, payload).events
        for name in ('x', 'y', 'polarity'):
            np.testing.assert_array_equal(getattr(decoded, name), getattr(events, name))
        np.testing.assert_array_equal(decoded.t_ns, np.sort(events.t_ns) // 1000 * 1000)
        assert decoder.counters.num_out_of_range == decoder.counters.num_unknown_words == 0
        num_bytes += payload.size
        num_events += events.x.size
        start_us += 4000
    assert start_us > 2 ** 24  # the time did wrap
    assert num_events > 20_000
    assert num_bytes < 2 * num_events  # less than a word for an event: vectors are used


def test_words_written_by_hand():
    t_ns = (5 * 4096 + 6) * 1000
    assert words_of(make_events((7, 3, 1, t_ns))) == ['0x8005', '0x6006', '0x3', '0x2807']
    assert words_of(make_events((7, 3, 1, t_ns)), start_ns=t_ns - 7000) == [
        '0x8004', '0x6fff', '0x8005', '0x6006', '0x3', '0x2807']
    # Two neighbours are cheaper one by one, three make a vector; a second vector goes on.
    pair = [(x, 0, 0, 0) for x in (0, 2)]
    assert words_of(make_events(*pair)) == ['0x8000', '0x6000', '0x0', '0x2000', '0x2002']
    row = [(x, 0, 0, 0) for x in (0, 2, 11, 12)]
    assert words_of(make_events(*row)) == ['0x8000', '0x6000', '0x0', '0x3000', '0x4805', '0x5001']


def test_the_order_of_simultaneous_events_is_kept():
    for row in ([5, 5, 5, 5], [8, 7, 6, 5], [1, 2, 3, 3, 2, 4, 5, 6], [0, 1, 2, 11, 0, 12]):
        events = make_events(*[(x, 1, 1, 0) for x in row])
        decoded = decode(make_decoder('evt3', WIDTH, HEIGHT), encode_evt3(events)).events
        assert decoded.x.tolist() == row


def test_a_packet_without_events_still_tells_the_time():
    assert words_of(make_events(), start_ns=(2 ** 24 + 4096 + 9) * 1000) == ['0x8001', '0x6009']
    with pytest.raises(ValueError, match='give start_ns'):
        encode_evt3(make_events())


def test_long_silence_inside_a_packet_does_not_lose_a_wrap():
    events = make_events((1, 1, 1, 5_000), (2, 1, 1, 100_000_000_000))
    decoded = decode(make_decoder('evt3', WIDTH, HEIGHT), encode_evt3(events)).events
    np.testing.assert_array_equal(decoded.t_ns, events.t_ns)


@pytest.mark.parametrize(('events', 'message'), [
    (make_events((0, 0, 0, 2000), (0, 0, 0, 1000)), 'sort'),
    (make_events((0, 0, 0, -1)), 'give a time of 0 or more'),
    (make_events((2048, 0, 0, 0)), 'x is 2048'),
    (make_events((0, 2048, 0, 0)), 'y is 2048'),
    (make_events((0, 0, 2, 0)), 'polarity'),
    (Events(np.zeros(2), np.zeros(2), np.zeros(1), np.zeros(2)), 'equal lengths')])
def test_events_that_do_not_fit_are_refused(events, message):
    with pytest.raises(ValueError, match=message):
        encode_evt3(events)


def test_a_start_after_the_first_event_is_refused():
    with pytest.raises(ValueError, match='start_ns'):
        encode_evt3(make_events((0, 0, 0, 1000)), start_ns=2000)


def test_times_below_a_microsecond_are_equal():
    events = make_events(*[(x, 0, 1, 100 + x) for x in range(12)])
    assert len(words_of(events)) == 5  # two times, row, base and one vector
