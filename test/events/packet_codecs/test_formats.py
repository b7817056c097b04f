"""Every format word by word, with expected values worked out by hand."""

import array
import copy
import struct

from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet import EventPacket, packet_from_message
from epvlm_ros.events.packet_codecs import ENCODINGS, make_decoder
from epvlm_ros.events.registration import HomographyRegistration, make_cell_lookup
import numpy as np
import pytest

US = 1000


def packet(encoding, payload, time_base=0, width=640, height=480, **fields):
    return EventPacket(0, width, height, 0, time_base, encoding, payload, **fields)


def evt3_packet(*words, **fields):
    return packet('evt3', struct.pack(f'<{len(words)}H', *words), **fields)


def cmp_packet(*words, time_base=0, **fields):
    return packet('libcaer_cmp', struct.pack(f'<{len(words)}H', *words), time_base, **fields)


def tuples(decoded):
    return list(zip(*(values.tolist() for values in decoded.events)))


def test_evt3_single_events_and_vectors():
    decoder = make_decoder('evt3', 640, 480)
    decoded = decoder.decode(evt3_packet(
        0x8001, 0x6002,  # time 1 << 12 | 2 = 4098 us
        0x0010,  # y 16
        0x2805, 0x2006,  # on at x 5, off at x 6
        0x3864,  # vectors from x 100, on
        0x4801, 0x5081,  # 100 and 111, then 112 and 119
        0x5001,  # the base moved on by 12 and by 8: 120
        0x6003, 0x07FF, 0x2007))  # later, but row 2047 is outside
    assert tuples(decoded) == [
        (5, 16, 1, 4098 * US), (6, 16, 0, 4098 * US), (100, 16, 1, 4098 * US),
        (111, 16, 1, 4098 * US), (112, 16, 1, 4098 * US), (119, 16, 1, 4098 * US),
        (120, 16, 1, 4098 * US)]
    assert [values.dtype for values in decoded.events] == [
        np.uint16, np.uint16, np.uint8, np.int64]
    assert decoder.counters.num_out_of_range == 1
    assert (decoder.first_time_ns, decoder.last_time_ns) == (4098 * US, 4099 * US)


def test_evt3_state_survives_packets():
    decoder = make_decoder('evt3', 640, 480)
    decoder.decode(evt3_packet(0x8000, 0x6001, 0x0003, 0x3807, 0x5001))
    assert tuples(decoder.decode(evt3_packet(0x2009))) == [(9, 3, 0, 1 * US)]
    assert tuples(decoder.decode(evt3_packet(0x5001))) == [(15, 3, 1, 1 * US)]
    decoder.reset()
    assert tuples(decoder.decode(evt3_packet(0x2009, 0x5001))) == []
    assert decoder.counters.num_before_time == 2
    assert decoder.first_time_ns is None


def test_evt3_events_before_the_first_complete_time_stamp_are_dropped():
    decoder = make_decoder('evt3', 640, 480)
    decoded = decoder.decode(evt3_packet(
        0x0001, 0x2001, 0xA001,  # row, event and trigger without any time
        0x6005, 0x2002,  # the low half alone tells nothing
        0x8002, 0x2003,  # nor does the high half, without a low one after it
        0x6007, 0x2004, 0xA001))
    assert tuples(decoded) == [(4, 1, 0, (2 * 4096 + 7) * US)]
    assert decoded.triggers.t_ns.tolist() == [(2 * 4096 + 7) * US]
    assert decoder.counters.num_before_time == 4


def test_evt3_events_before_the_first_row_have_no_place():
    decoder = make_decoder('evt3', 640, 480)
    assert tuples(decoder.decode(evt3_packet(0x8000, 0x6000, 0x2001, 0x0002, 0x5001))) == []
    assert decoder.counters.num_before_time == 2


@pytest.mark.parametrize(('before', 'after', 'expected_high'), [
    (100, 99, 99),  # a little step back is noise
    (100, 90, 90),
    (100, 89, 4096 + 89),  # one more is a wrap
    (4095, 0, 4096),
    (5, 4094, 4094)])  # forward, in the first turn of the counter
def test_evt3_time_high_steps_back(before, after, expected_high):
    decoder = make_decoder('evt3', 640, 480)
    decoded = decoder.decode(evt3_packet(
        0x8000 | before, 0x6001, 0x0000, 0x8000 | after, 0x6001, 0x2000))
    assert decoded.events.t_ns.tolist() == [(expected_high * 4096 + 1) * US]


def test_evt3_wraps_add_up_and_the_step_back_across_one_is_undone():
    decoder = make_decoder('evt3', 640, 480)
    words = [0x8FFE, 0x6000, 0x0000]
    for _ in range(3):  # three wraps, with the counter jittering around the last
        words += [0x8800, 0x8FFF, 0x8001]
    words += [0x6000, 0x2000, 0x8FFF, 0x6000, 0x2001, 0x8002, 0x6000, 0x2002]
    decoded = decoder.decode(evt3_packet(*words))
    # 0xFFE to 0x800 is a wrap, 0xFFF to 1 another, and 1 to 0x800 none.
    assert decoded.events.t_ns.tolist() == [
        (4 * 4096 + 1) * 4096 * US, (3 * 4096 + 4095) * 4096 * US, (4 * 4096 + 2) * 4096 * US]


def test_evt3_unknown_words_do_not_end_decoding():
    decoder = make_decoder('evt3', 640, 480)
    decoded = decoder.decode(evt3_packet(
        0x9999, 0x8000, 0x1234, 0x6000, 0xB000, 0x0001, 0xC000, 0xD000,
        0xE123, 0x7456, 0xF789,  # these have a meaning, though not for us
        0x2001))
    assert tuples(decoded) == [(1, 1, 0, 0)]
    assert decoder.counters.num_unknown_words == 5


def test_evt3_triggers():
    decoder = make_decoder('evt3', 640, 480)
    triggers = decoder.decode(evt3_packet(0x8000, 0x6009, 0xA301, 0x600A, 0xAF00)).triggers
    assert triggers.t_ns.tolist() == [9 * US, 10 * US]
    assert triggers.edge.tolist() == [1, 0]
    assert triggers.index.tolist() == [3, 15]


def test_evt3_vectors_are_cut_at_the_edge_of_the_sensor():
    decoder = make_decoder('evt3', 14, 2)
    decoded = decoder.decode(evt3_packet(
        0x8000, 0x6000, 0x0001, 0x300A, 0x4FFF, 0x4001, 0x0002, 0x3000, 0x5003,
        width=14, height=2))
    assert [event[0] for event in tuples(decoded)] == [10, 11, 12, 13]
    assert decoder.counters.num_out_of_range == 8 + 1 + 2


def test_evt3_time_high_alone_tells_that_time_goes_on():
    decoder = make_decoder('evt3', 4, 4)
    lookup = make_cell_lookup(HomographyRegistration(), (4, 4), (4, 4), 1)
    bins = ActivityBins(4, 4, 1, 1_000_000, 10_000_000, lookup)
    times = decoder.accumulate(evt3_packet(0x8000, 0x6FFF, width=4, height=4), bins)
    assert times[:3] == (4095 * US, 4095 * US, 0)
    # Repeated, it is older than the last complete time stamp.
    times = decoder.accumulate(evt3_packet(0x8000, width=4, height=4), bins)
    assert times[:3] == (None, None, 0)
    times = decoder.accumulate(evt3_packet(0x8002, width=4, height=4), bins)
    assert times[:3] == (None, 2 * 4096 * US, 0)
    assert decoder.last_time_ns == bins.latest_ns == 2 * 4096 * US
    assert decoder.first_time_ns == 4095 * US


def test_evt3_last_time_is_that_of_the_last_time_low_or_of_a_later_time_high():
    decoder = make_decoder('evt3', 4, 4)
    bins = ActivityBins(4, 4, 4, 1_000_000, 10_000_000, np.zeros((4, 4), np.int32))
    for words, expected in [
            ((0x8003, 0x6005), 3 * 4096 + 5), ((0x6007, 0x8002), 3 * 4096 + 7),  # a step back
            ((0x8004,), 4 * 4096), ((0x8004, 0x6001), 4 * 4096 + 1),
            ((0x6002, 0x8005, 0x8004), 5 * 4096), ((0x6000, 0x6003, 0x8004), 4 * 4096 + 3)]:
        made = evt3_packet(*words, width=4, height=4)
        skimmed = copy.deepcopy(decoder).skim(made)
        assert decoder.accumulate(made, bins).last_ns == skimmed.last_ns == expected * US


def test_evt3_the_base_of_vectors_survives_a_skim_and_any_number_of_vectors():
    decoder = make_decoder('evt3', 640, 480)
    decoder.decode(evt3_packet(0x8000, 0x6001, 0x0003))
    decoder.skim(evt3_packet(0x3000, 0x380A, 0x4000, 0x5000, 0x0007))
    assert tuples(decoder.decode(evt3_packet(0x5001))) == [(30, 7, 1, US)]
    decoder.skim(evt3_packet(*[0x4FFF] * 60_000))
    decoder.decode(evt3_packet(*[0x4FFF] * 60_000))
    assert tuples(decoder.decode(evt3_packet(0x5001))) == []
    assert decoder.counters.num_out_of_range == 60_000 * 12 + 1  # far outside, not unknown
    assert tuples(decoder.decode(evt3_packet(0x3802, 0x5001))) == [(2, 7, 1, US)]


def test_accumulate_and_skim_report_triggers():
    words = evt3_packet(0x8000, 0x6009, 0x0001, 0x2001, 0xA301, 0x600A, 0xAF00)
    bins = ActivityBins(4, 4, 4, 1_000_000, 10_000_000, np.zeros((480, 640), np.int32))
    decoder = make_decoder('evt3', 640, 480)
    for times, num_events in ((decoder.accumulate(words, bins), 1), (decoder.skim(words), 0)):
        assert times.num_events == num_events
        assert times.triggers.t_ns.tolist() == [9 * US, 10 * US]
        assert times.triggers.edge.tolist() == [1, 0]
        assert times.triggers.index.tolist() == [3, 15]
    assert decoder.counters.num_events == 1
    assert decoder.counters.num_triggers == 4
    assert (decoder.counters.num_packets, decoder.counters.num_skimmed_packets) == (2, 1)
    times = decoder.accumulate(evt3_packet(0x2001), bins)
    assert [values.size for values in times.triggers] == [0, 0, 0]


@pytest.mark.parametrize('encoding', ['evt3', 'mono'])
def test_filters_see_runs_in_turn_before_they_are_counted(encoding):
    class Log:

        def __init__(self, name, keeps):
            self.name, self.keeps = name, keeps

        def apply(self, runs):
            calls.append((self.name, int(runs.num_events), runs.records['mask'].tolist(),
                          bins.latest_ns))
            runs.records['mask'] &= self.keeps
            return 0

    calls = []
    bins = ActivityBins(16, 16, 4, 1_000_000, 10_000_000, make_cell_lookup(
        HomographyRegistration(), (16, 16), (16, 16), 4))
    decoder = make_decoder(encoding, 16, 16)
    if encoding == 'evt3':
        words = np.array([0x8000, 0x6009, 0x0001, 0x3002, 0x5007, 0x600A, 0x2001], '<u2')
        masks, kept = [0b111, 1], [0b110, 0]
    else:
        words = np.array([9 * US | 1 << 32, 10 * US | 5 << 32], '<u8')
        masks, kept = [1, 1], [0, 0]
    made = packet(encoding, words.tobytes(), width=16, height=16)
    times = decoder.accumulate(made, bins, [Log('first', 0b110), Log('second', 0b101)])
    total = sum(bin(mask).count('1') for mask in masks)
    assert times.num_events == decoder.counters.num_events == total
    assert calls == [('first', total, masks, 9 * US), ('second', total, kept, 9 * US)]
    counts = bins.window(0, 1_000_000).counts
    assert counts[0].tolist() == ([0, 1, 0, 0] if encoding == 'evt3' else [0, 0, 0, 0])
    assert counts.sum() == counts[0].sum()
    assert bins.latest_ns == 10 * US


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_aligned_payloads_are_read_in_place_and_others_copied_once(encoding):
    decoder = make_decoder(encoding, 640, 480)
    memory = np.zeros(64, np.uint8)
    aligned = packet(encoding, memory[:32])
    assert np.shares_memory(decoder._words(aligned), memory)
    assert decoder._payload.size == 0
    copies = [decoder._words(packet(encoding, memory[1:33])),
              decoder._words(packet(encoding, memory[:24], is_bigendian=True)),
              decoder._words(packet(encoding, memory[::2]))]
    for words in copies:
        assert not np.shares_memory(words, memory)
        assert np.shares_memory(words, decoder._payload)
        assert words.flags.aligned and not words.flags.writeable


def test_evt2_words():
    event = 1 << 28 | 2 << 22 | 5 << 11 | 6  # on at (5, 6), 2 us after the upper part
    words = [event, 8 << 28 | 3, event, 10 << 28 | 3 << 22 | 4 << 8 | 1, 640 << 11, 14 << 28,
             9 << 28, 8 << 28 | 3]
    decoder = make_decoder('evt2', 640, 480)
    decoded = decoder.decode(packet('evt2', struct.pack('<8I', *words) + b'ab', 2 ** 64 - 1))
    assert tuples(decoded) == [(5, 6, 1, 194 * US)]
    assert [values.tolist() for values in decoded.triggers] == [[195 * US], [1], [4]]
    counters = decoder.counters
    assert (counters.num_before_time, counters.num_out_of_range) == (1, 1)
    assert (counters.num_unknown_words, counters.num_truncated_bytes) == (1, 2)
    # The last event was at 192 us, outside; the time before it is not taken back.
    assert (decoder.first_time_ns, decoder.last_time_ns) == (192 * US, 192 * US)
    # The upper part is kept, and wraps after 2 ** 28.
    later = struct.pack('<4I', event, 8 << 28 | 2 ** 28 - 1, 8 << 28 | 0, event)
    assert [t for *_, t in tuples(decoder.decode(packet('evt2', later)))] == [
        194 * US, (2 ** 34 + 2) * US]
    decoder.reset()
    assert tuples(decoder.decode(packet('evt2', struct.pack('<I', event)))) == []


def test_evt21_words():
    event = (0 << 28 | 2 << 22 | 5 << 11 | 6) << 32 | 1 << 31 | 0b101
    words = [event, (8 << 28 | 3) << 32, event, (10 << 28 | 3 << 22 | 4 << 8 | 1) << 32]
    decoder = make_decoder('evt21', 36, 480)
    decoded = decoder.decode(packet('evt21', struct.pack('<4Q', *words), width=36))
    assert tuples(decoded) == [(5, 6, 0, 194 * US), (7, 6, 0, 194 * US)]
    assert [values.tolist() for values in decoded.triggers] == [[195 * US], [1], [4]]
    assert decoder.counters.num_out_of_range == 1  # column 36
    # Packets of 32 pixels in every word.
    full = struct.pack('<9Q', *[(2 << 22) << 32 | 0xFFFFFFFF] * 9)
    assert len(tuples(decoder.decode(packet('evt21', full, width=36)))) == 9 * 32


def test_the_format_of_a_driver_with_its_size_is_an_encoding():
    class Message:
        class header:
            class stamp:
                sec, nanosec = 1, 2
        width, height, seq, time_base, is_bigendian = 240, 180, 3, 0, False
        encoding, events = 'evt21;height=180;width=240', b''

    assert packet_from_message(Message).encoding == 'evt21'


def test_libcaer_cmp_words():
    base = 1_700_000_000_000_000_000
    decoder = make_decoder('libcaer_cmp', 640, 480)
    decoded = decoder.decode(cmp_packet(
        0x2005, 0x3806,  # on at (5, 6), at the packet's time base
        0x1007, 0x3008,  # off at (5, 8), 7 us later
        0x0001, 0x4832, 0x5081, 0x6801,  # on from y 50 at 4103 us: 50, 57, then 58 and 69
        0x5001, 0x7000, time_base=base))  # y 70; an unknown word
    late = base + 4103 * US
    assert tuples(decoded) == [
        (5, 6, 1, base), (5, 8, 0, base + 7 * US), (5, 50, 1, late), (5, 57, 1, late),
        (5, 58, 1, late), (5, 69, 1, late), (5, 70, 1, late)]
    assert decoder.counters.num_unknown_words == 1
    assert (decoder.first_time_ns, decoder.last_time_ns) == (base, late)


def test_libcaer_cmp_state_does_not_survive_packets():
    decoder = make_decoder('libcaer_cmp', 640, 480)
    decoder.decode(cmp_packet(0x2005, 0x0001, 0x1002, 0x4801, 0x5001))
    decoded = decoder.decode(cmp_packet(0x3001, 0x5001, 0x2009, 0x3001, time_base=50))
    assert tuples(decoded) == [(9, 1, 0, 50)]
    assert decoder.counters.num_before_time == 2


def test_libcaer_events():
    def event(valid, polarity, y, x, stamp_us):
        return struct.pack('<Ii', x << 17 | y << 2 | polarity << 1 | valid, stamp_us)

    last = 2 ** 31 - 1
    decoder = make_decoder('libcaer', 640, 480)
    decoded = decoder.decode(packet('libcaer', b''.join([
        event(1, 1, 479, 639, last - 5), event(0, 1, 1, 1, last - 4),
        event(1, 0, 2, 3, last - 6),  # disorder, no wrap
        event(1, 0, 2, 640, last), event(1, 1, 0, 0, 2),  # outside; after the wrap
        event(1, 1, 0, 1, -1)]) + b'abc', time_base=1000))
    assert tuples(decoded) == [
        (639, 479, 1, 1000 + (last - 5) * US), (3, 2, 0, 1000 + (last - 6) * US),
        (0, 0, 1, 1000 + (2 ** 31 + 2) * US)]
    counters = decoder.counters
    assert (counters.num_invalid, counters.num_out_of_range) == (2, 1)
    assert counters.num_truncated_bytes == 3
    # Behind the wrap the driver moves the time base: nothing is carried over.
    decoded = decoder.decode(packet('libcaer', event(1, 0, 0, 0, 3), time_base=2 ** 31 * US))
    assert decoded.events.t_ns.tolist() == [(2 ** 31 + 3) * US]


def test_mono_events_and_legacy_triggers():
    payload = struct.pack('<IHH', 1001, 5, 1 << 15 | 6) + struct.pack('<IHH', 2 ** 32 - 1, 7, 8)
    decoded = make_decoder('mono', 640, 480).decode(packet('mono', payload, time_base=10))
    assert tuples(decoded) == [(5, 6, 1, 1011), (7, 8, 0, 2 ** 32 + 9)]
    decoded = make_decoder('trigger', 640, 480).decode(packet('trigger', payload, time_base=10))
    assert tuples(decoded) == []
    assert [values.tolist() for values in decoded.triggers] == [
        [1011, 2 ** 32 + 9], [1, 0], [6, 8]]


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_a_packet_without_payload(encoding):
    decoder = make_decoder(encoding, 640, 480)
    decoded = decoder.decode(packet(encoding, b''))
    assert [values.size for values in (*decoded.events, *decoded.triggers)] == [0] * 7
    assert decoder.counters.num_packets == 1
    assert decoder.last_time_ns is None


def test_a_sensor_without_pixels():
    decoder = make_decoder('evt3', 0, 0)
    lookup = make_cell_lookup(HomographyRegistration(), (0, 0), (4, 4), 1)
    bins = ActivityBins(4, 4, 1, 1000, 1000, lookup)
    empty = evt3_packet(0x8000, 0x6000, 0x0000, 0x2000, 0x3000, 0x4FFF, width=0, height=0)
    assert decoder.accumulate(empty, bins).num_events == 0
    assert decoder.counters.num_out_of_range == 13


@pytest.mark.parametrize('encoding', ['libcaer', 'libcaer_cmp', 'mono', 'trigger'])
@pytest.mark.parametrize('time_base', [-1, 2 ** 63, 2 ** 64 - 1])
def test_an_impossible_time_base_drops_the_packet(encoding, time_base):
    decoder = make_decoder(encoding, 640, 480)
    decoded = decoder.decode(packet(encoding, bytes(16), time_base))
    assert decoded.events.x.size == decoded.triggers.edge.size == 0
    assert decoder.counters.num_invalid == (8 if encoding == 'libcaer_cmp' else 2)
    assert decoder.last_time_ns is None


def test_evt3_does_not_use_the_time_base():
    decoder = make_decoder('evt3', 640, 480)
    words = struct.pack('<4H', 0x8000, 0x6001, 0x0000, 0x2000)
    decoded = decoder.decode(packet('evt3', words, time_base=2 ** 64 - 1))
    assert decoded.events.t_ns.tolist() == [US]


def test_mistakes_of_the_caller():
    with pytest.raises(ValueError, match="'evt4' cannot be read, only evt2, evt21, .*convert"):
        make_decoder('evt4', 1, 1)
    with pytest.raises(ValueError, match='-1 x 5'):
        make_decoder('evt3', -1, 5)
    decoder = make_decoder('evt3', 640, 480)
    with pytest.raises(ValueError, match='evt3 of 320 x 480, this decoder'):
        decoder.decode(evt3_packet(width=320))
    with pytest.raises(ValueError, match='mono of 640 x 480'):
        decoder.decode(packet('mono', b''))
    lookup = make_cell_lookup(HomographyRegistration(), (2, 2), (4, 4), 1)
    bins = ActivityBins(4, 4, 1, 1000, 1000, lookup)
    with pytest.raises(ValueError, match=r'\(2, 2\).*\(480, 640\)'):
        decoder.accumulate(evt3_packet(), bins)
    with pytest.raises(ValueError, match='no bytes'):
        packet('evt3', [1, 2])
    with pytest.raises(ValueError, match='int64'):
        packet('evt3', np.zeros(3, np.int64))
    assert decoder.counters.num_packets == 0


@pytest.mark.parametrize('kind', [bytes, bytearray, np.array, memoryview])
def test_payloads_are_read_only_views(kind):
    data = np.arange(4, dtype=np.uint8) if kind is np.array else kind(bytes(range(4)))
    payload = packet('evt3', data).events
    assert payload.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match='read-only'):
        payload[0] = 1


def test_a_packet_from_a_message():
    class Message:
        class header:  # noqa: N801
            class stamp:  # noqa: N801
                sec, nanosec = 3, 4
        height, width, seq, time_base, encoding, is_bigendian = 2, 1, 7, 9, 'mono', True
        events = array.array('B', [1, 2])

    made = packet_from_message(Message())
    assert (made.stamp_ns, made.width, made.height, made.seq, made.time_base, made.encoding,
            made.is_bigendian, made.events.tolist()) == (
                3_000_000_004, 1, 2, 7, 9, 'mono', True, [1, 2])
