"""One stream of packets: what is counted, what is known of time, and what survives faults."""

from dataclasses import replace

from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.events.registration import HomographyRegistration
from epvlm_ros.events.sync.completeness import Missing
from epvlm_ros.events.sync.event_stream import EventStream
from epvlm_ros.events.sync.packet_order import StreamCounters
import numpy as np
import pytest

MS = 1_000_000
SECOND = 1000 * MS
EPOCH = 1_700_000_000 * SECOND  # ROS time of sensor time 0
SIZE = (8, 8)


def evt3_packet(seq, begin_ms, times_ms=(), x=0, y=0, **changes):
    t_ns = np.array([round(ms * MS) for ms in times_ms], np.int64)
    events = Events(np.full(t_ns.size, x, np.uint16), np.full(t_ns.size, y, np.uint16),
                    np.ones(t_ns.size, np.uint8), t_ns)
    return EventPacket(**{
        'stamp_ns': EPOCH + begin_ms * MS, 'width': SIZE[1], 'height': SIZE[0], 'seq': seq,
        'time_base': 0, 'encoding': 'evt3',
        'events': encode_evt3(events, start_ns=begin_ms * MS), **changes})


def libcaer_packet(seq, times_ms, stamp_ms=None, time_base=0):
    words = np.zeros((len(times_ms), 2), '<u4')
    words[:, 0] = 1  # valid, at (0, 0)
    words[:, 1] = [ms * 1000 for ms in times_ms]
    stamp_ms = times_ms[0] if stamp_ms is None else stamp_ms
    return EventPacket(EPOCH + stamp_ms * MS, SIZE[1], SIZE[0], seq, time_base, 'libcaer',
                       words.view(np.uint8).ravel())


def words_packet(encoding, seq, corrupt=None):
    """Return 4 ms of a stream with an event in each, the one of index ``corrupt`` far ahead."""
    words, time_column, far = {
        'libcaer': (np.array([[1, ms * 1000] for ms in range(4)], '<u4'), 1, 1 << 30),
        'libcaer_cmp': (np.array(
            [[0, 0x1000 | ms * 1000, 0x2000, 0x3000] for ms in range(4)], '<u2'), 0, 0x0FFF),
        'mono': (np.array([[ms * MS, 0] for ms in range(4)], '<u4'), 0, 0xFFFFFFFF)}[encoding]
    if corrupt is not None:
        words[corrupt, time_column] = far
    begin_ns = 4 * seq * MS
    return EventPacket(EPOCH + begin_ns, SIZE[1], SIZE[0], seq, begin_ns, encoding,
                       words.view(np.uint8).ravel())


def make_stream(filters=FilterConfig(), image_size=SIZE, registration=HomographyRegistration(),
                **values):
    config = EventSyncConfig(**{'cell_size': 1, **values})
    stream = EventStream(config, filters, registration, StreamCounters())
    if image_size is not None:
        stream.set_image_size(image_size)
    return stream


def num_events(stream, start_ms, end_ms):
    return stream.window(start_ms * MS, end_ms * MS).num_events


def test_events_of_shed_packets_are_left_out_and_their_time_is_remembered():
    stream = make_stream()
    for seq in range(6):
        stream.add(evt3_packet(seq, 4 * seq, [4 * seq + 1, 4 * seq + 3.999]), shed=seq in (2, 3))
    assert stream.counters.num_shed_packets == 2
    assert stream.counters.num_events == 8 and num_events(stream, 0, 24) == 8
    assert stream.judge(0, 7 * MS) == (Missing.COMPLETE, 1.0)
    missing, completeness = stream.judge(4 * MS, 20 * MS)
    assert missing == Missing.EVENTS_SHED and completeness == pytest.approx(0.5, abs=0.001)
    assert stream.latest_ns == 23_999_000
    assert stream.clock.offset_ns == EPOCH


def test_a_stream_of_which_all_is_shed_still_has_a_time():
    stream = make_stream()
    for seq in range(3):
        stream.add(evt3_packet(seq, 4 * seq, [4 * seq + 3]), shed=True)
    assert stream.has_time and stream.latest_ns == 11 * MS
    assert stream.judge(0, 11 * MS) == (Missing.EVENTS_SHED, 0.0)


def test_packets_wait_for_the_size_of_the_image_and_for_registration():
    stream = make_stream(image_size=None, registration=None)
    for seq in range(3):
        stream.add(evt3_packet(seq, 4 * seq, [4 * seq + 1]), shed=seq == 1)
    stream.set_image_size(SIZE)
    assert not stream.has_time
    stream.set_registration(HomographyRegistration())
    assert stream.has_time and num_events(stream, 0, 12) == 2
    assert stream.judge(0, 9 * MS)[0] == Missing.EVENTS_SHED


def test_another_registration_starts_new_counts_and_keeps_the_time():
    stream = make_stream()
    stream.add(evt3_packet(0, 0, [1], x=2))
    shift = [1, 0, 3, 0, 1, 0, 0, 0, 1]
    stream.set_registration(HomographyRegistration(shift))
    assert not stream.has_time and stream.clock.offset_ns == EPOCH
    # The decoder's state is kept: a packet of no time stamp of its own goes on.
    stream.add(evt3_packet(1, 4, [5], x=2))
    counts = stream.window(0, 8 * MS).counts
    assert counts[0, 5] == counts.sum() == 1
    assert stream.counters.num_resets == 0


def test_a_sensor_of_a_senseless_size_is_refused_and_the_next_packet_taken():
    stream = make_stream()
    packet = evt3_packet(0, 0, [1])
    for size in ((65535, 65535), (4097, 1), (1, 2 ** 32 - 1)):
        with pytest.raises(ValueError, match=f'sensor size is {size[0]} x {size[1]}: give'):
            stream.add(replace(packet, width=size[0], height=size[1]))
    assert stream.counters.num_bad_packets == 3
    stream.add(evt3_packet(1, 4, [5]))
    assert stream.counters.num_events == 1


def test_a_registration_for_another_size_is_an_error_of_the_packet_not_of_the_frame():
    made_for = ((480, 640), (480, 640))  # 4 : 3, not square
    stream = make_stream(image_size=None, registration=HomographyRegistration(
        scale_to_image=False, made_for=made_for))
    stream.add(evt3_packet(0, 0, [1]))
    stream.set_image_size(SIZE)
    assert stream.counters.num_bad_packets == 1
    with pytest.raises(ValueError, match='calibrate again'):
        stream.add(evt3_packet(1, 4, [5]))
    assert stream.counters.num_bad_packets == 2 and not stream.has_time


def change_camera(stream, packet):
    """Let packets of another camera come until they are taken."""
    for _ in range(8):
        with pytest.raises(ValueError, match='let each event camera have its own topic'):
            stream.add(packet)
    stream.add(packet)


def test_counters_go_on_when_the_decoder_is_replaced():
    stream = make_stream(FilterConfig(max_pixel_rate=1.0))
    stream.add(evt3_packet(0, 0, [1, 2]))
    change_camera(stream, libcaer_packet(1, [5, 6, 7]))
    assert stream.decoder.encoding == 'libcaer'
    assert stream.decoder_counters is stream.decoder.counters
    assert stream.decoder_counters.num_packets == 2
    assert stream.decoder_counters.num_events == stream.counters.num_events == 5
    assert stream.filters[0].num_removed == 1 + 2  # all but one of each
    change_camera(stream, evt3_packet(0, 0, [1, 2], width=9))
    assert stream.decoder_counters.num_packets == 3


def test_lost_and_late_packets_by_their_numbers():
    stream = make_stream()
    for seq in (0, 1, 4, 3, 5):
        stream.add(evt3_packet(seq, 4 * seq, [4 * seq + 1]))
    assert stream.counters.num_lost_packets == 2  # 2 and 3, of which 3 came late
    assert stream.counters.num_reordered_packets == 1
    assert stream.counters.num_resets == 0


def test_numbers_that_start_again_are_a_driver_that_started_again():
    stream = make_stream()
    for seq in range(100):
        stream.add(evt3_packet(seq, 4 * seq, [4 * seq + 1]))
    # 200 ms later, sensor time begins at 50 ms: neither jump is large.
    for seq in range(3):
        begin_ms = 50 + 4 * seq
        stream.add(evt3_packet(seq, begin_ms, [begin_ms + 1], stamp_ns=EPOCH + (
            600 + 4 * seq) * MS))
    assert stream.counters.num_resets == 1 and stream.counters.num_lost_packets == 0
    assert stream.clock.offset_ns == EPOCH + 550 * MS
    assert num_events(stream, 0, 1000) == 3
    assert stream.judge(40 * MS, 60 * MS) == (Missing.WINDOW_START_MISSING | (
        Missing.WINDOW_END_MISSING), pytest.approx(0.45))


@pytest.mark.parametrize('time_base_ms, is_reset', [(2_147_484, True), (100, False)])
def test_a_jump_of_sensor_time_forgets_what_was_counted(time_base_ms, is_reset):
    stream = make_stream()
    for seq in range(10):
        stream.add(libcaer_packet(seq, [4 * seq + 1, 4 * seq + 3]))
    for seq in range(10, 12):
        stream.add(libcaer_packet(seq, [4 * seq + 1, 4 * seq + 3], time_base=time_base_ms * MS))
    assert stream.counters.num_resets == is_reset
    after_ms = time_base_ms + 40
    # Its time runs from the end of the first packet after the jump.
    assert num_events(stream, after_ms, after_ms + 8) == (2 if is_reset else 4)
    assert num_events(stream, 0, 50) == (0 if is_reset else 20)


@pytest.mark.parametrize('index', range(4))
@pytest.mark.parametrize('sync_mode', ['free_running', 'common_clock'])
@pytest.mark.parametrize('encoding', ['libcaer', 'libcaer_cmp', 'mono'])
def test_after_one_corrupt_time_events_count_from_the_next_packet_but_one(
        encoding, sync_mode, index):
    stream = make_stream(sync_mode=sync_mode)
    for seq in range(20):
        stream.add(words_packet(encoding, seq, index if seq == 10 else None))
    # Where the first time is the corrupt one, it is a jump ahead and one back.
    assert 1 <= stream.counters.num_resets <= 2
    assert num_events(stream, 0, 48) == 0 and num_events(stream, 48, 80) == 8 * 4
    assert stream.judge(48 * MS, 79 * MS) == (Missing.COMPLETE, 1.0)


def test_a_long_packet_that_comes_late_is_no_jump():
    stream = make_stream()
    for seq in (0, 2, 1, 3):  # packet 1 begins 158 ms before the last event of packet 2
        stream.add(libcaer_packet(seq, [80 * seq + 1, 80 * seq + 79]))
    assert stream.counters.num_reordered_packets == 1 and stream.counters.num_resets == 0
    assert num_events(stream, 0, 320) == 8


def test_silence_passes_without_a_complete_time_stamp():
    stream = make_stream()
    stream.add(evt3_packet(0, 0, [1]))
    time_high = np.array([0x8000 | 10], '<u2').view(np.uint8)  # 40.96 ms
    stream.add(evt3_packet(1, 4, events=time_high))
    assert stream.judge(0, 40 * MS) == (Missing.COMPLETE, 1.0)
    time_high = np.array([0x8000 | 20], '<u2').view(np.uint8)  # 81.92 ms
    stream.add(evt3_packet(3, 8, events=time_high))
    missing, completeness = stream.judge(0, 80 * MS)
    assert missing == Missing.PACKETS_LOST and completeness == pytest.approx(0.512)


@pytest.mark.parametrize('shed', [False, True])
def test_triggers_are_taken_from_every_packet(shed):
    stream = make_stream(sync_mode='hardware_trigger')
    stream.add(evt3_packet(0, 0, [1]))
    rising = np.array([0xA001], '<u2').view(np.uint8)
    for seq in range(1, 4):  # the last one without a time stamp of its own
        payload = encode_evt3(Events(*[np.empty(0, np.int64)] * 4), start_ns=10 * seq * MS)
        payload = rising if seq == 3 else np.concatenate([payload, rising])
        stream.add(evt3_packet(seq, 10 * seq, events=payload), shed=shed)
    assert stream.triggers._edges_ns == [10 * MS, 20 * MS, 20 * MS]
    stream.restart()
    assert stream.triggers._edges_ns == []


def test_a_common_clock_is_taken_at_its_word():
    stream = make_stream(sync_mode='common_clock', clock_offset=-0.5)
    stream.add(libcaer_packet(0, [1000, 1003], stamp_ms=0))
    assert stream.to_sensor(2 * SECOND) == 2500 * MS
    assert stream.to_ros(2500 * MS) == 2 * SECOND
    # Stamps of packets may be anything.
    stream.add(libcaer_packet(1, [1004, 1007], stamp_ms=7000))
    assert stream.to_sensor(2 * SECOND) == 2500 * MS
    assert stream.counters.num_resets == 0 and num_events(stream, 1000, 1010) == 4
    # Sensor time that goes back is another matter.
    stream.add(libcaer_packet(2, [4, 5], stamp_ms=7004))
    assert stream.counters.num_resets == 1 and num_events(stream, 1000, 1010) == 0


def test_a_window_of_so_many_events():
    stream = make_stream(window_mode='count', window_events=3, max_window_length=0.02)
    stream.add(evt3_packet(0, 0, [1.5, 10.5, 18.5, 19.5, 21.5]))
    stream.add(evt3_packet(1, 40, [41]))
    # 19.5, 18.5 and 10.5 ms are before 20 ms; the bins are of 1 ms.
    assert stream.find_start(0, 20 * MS) == 10 * MS
    # Before 12 ms there are two.
    assert stream.find_start(5 * MS, 12 * MS) == -8 * MS
    assert stream.find_start(0, 40 * MS) == 20 * MS  # 21.5 only


def test_a_window_of_so_much_activity():
    # 3 of 64 cells.
    stream = make_stream(window_mode='activity', window_activity=3 / 64, max_window_length=0.02)
    for seq, (ms, x) in enumerate([(1, 0), (5, 1), (9, 2), (13, 2), (17, 3)]):
        stream.add(evt3_packet(seq, ms - 1, [ms + 0.5, ms + 0.6], x=x))
    assert stream.find_start(0, 18 * MS) == 5 * MS  # columns 3, 2 and 1
    assert stream.find_start(0, 4 * MS) == -16 * MS


def test_a_window_of_time_is_what_it_is():
    stream = make_stream()
    assert stream.find_start(3, 7) == 3


def test_filters_see_every_packet_and_start_anew_with_time():
    stream = make_stream(FilterConfig(max_pixel_rate=10.0))
    stream.add(evt3_packet(0, 0, [1, 2, 3]))
    assert stream.filters[0].num_removed == 2
    stream.add(evt3_packet(1, 4, [5]))
    assert stream.filters[0].num_removed == 3
    stream.restart()
    stream.add(evt3_packet(2, 4, [5]))
    assert stream.filters[0].num_removed == 3


@pytest.mark.parametrize(('size', 'missing', 'share'), [
    ((0, 0), Missing.EVENTS_DISCARDED, 0.0),  # what some drivers send before they know better
    ((8, 4), Missing.EVENTS_DISCARDED, 0.0),  # 3 of 4 events are at x = 6
    ((8, 8), Missing.COMPLETE, 1.0),
])
def test_events_outside_of_the_sensor_are_no_silence(size, missing, share):
    stream = make_stream()
    events = Events(np.array([6, 1, 6, 6], np.uint16), np.zeros(4, np.uint16),
                    np.ones(4, np.uint8), np.array([1, 2, 3, 4]) * MS)
    stream.add(evt3_packet(0, 0, events=encode_evt3(events, start_ns=0), height=size[0],
                           width=size[1]))
    assert stream.judge(0, 4 * MS) == (missing, share)


def test_a_few_events_outside_of_the_sensor_are_noise():
    stream = make_stream()
    events = Events(np.array([6, 1, 2, 9], np.uint16), np.zeros(4, np.uint16),
                    np.ones(4, np.uint8), np.array([1, 2, 3, 4]) * MS)
    stream.add(evt3_packet(0, 0, events=encode_evt3(events, start_ns=0)))
    assert stream.judge(0, 4 * MS) == (Missing.COMPLETE, 1.0)


def test_packets_of_a_second_camera_are_refused_by_name_and_change_nothing():
    stream = make_stream()
    for seq in range(20):
        stream.add(evt3_packet(seq, 4 * seq, [4 * seq + 1]))
        decoder = stream.decoder
        # Its clock is another one: its stamps are an hour back.
        foreign = evt3_packet(7 * seq, 4 * seq, [4 * seq + 1], width=4096, height=4096)
        foreign = replace(foreign, stamp_ns=foreign.stamp_ns - 3600 * SECOND)
        assert not stream.is_set_back_by(foreign)
        with pytest.raises(ValueError, match='evt3 of 4096 x 4096 px, those before are evt3 of '
                                             '8 x 8 px: let each event camera have its own topic'):
            stream.add(foreign)
        assert stream.decoder is decoder
    assert stream.counters.num_resets == 0 and stream.counters.num_lost_packets == 0
    assert stream.counters.num_bad_packets == 20
    assert num_events(stream, 0, 80) == 20 and stream.judge(0, 77 * MS)[0] == Missing.COMPLETE


def test_another_camera_takes_over_when_its_packets_are_alone():
    stream = make_stream()
    stream.add(evt3_packet(0, 0, [1]))
    change_camera(stream, evt3_packet(8, 32, [33], width=4, height=4))
    assert (stream.decoder.width, num_events(stream, 0, 80)) == (4, 1)
    assert stream.counters.num_bad_packets == 8
