"""Frames leave once, in order, with exactly the events of their windows."""

from epvlm_ros.bag import BagReader
from epvlm_ros.bag.offline_sync import guided_frames
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.packet import EventPacket, Events
from epvlm_ros.events.packet_codecs import encode_evt3
from epvlm_ros.events.registration import HomographyRegistration
from epvlm_ros.events.sync.completeness import Missing
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
import numpy as np
import pytest

MS = 1_000_000
START_NS = 1_000_000 * MS  # ROS time at sensor time 0
DELAY_NS = 1 * MS  # of every packet on its way to the host


def packet(seq, times_ms=(), x=0, y=0, ros_start_ns=START_NS, period_ms=4, **changes):
    """Return a packet that spans [seq, seq + 1) periods, with events of one pixel."""
    begin_ns = seq * period_ms * MS
    t_ns = np.array([round(t * MS) for t in times_ms], np.int64)
    size = t_ns.size
    events = Events(np.full(size, x, np.uint16), np.full(size, y, np.uint16),
                    np.ones(size, np.uint8), t_ns)
    fields = {
        'stamp_ns': ros_start_ns + begin_ns + DELAY_NS, 'width': 32, 'height': 24, 'seq': seq,
        'time_base': 0, 'encoding': 'evt3',
        'events': encode_evt3(events, start_ns=begin_ns), **changes}
    return EventPacket(**fields)


def frame(ms, height=24, width=32, ros_start_ns=START_NS, payload=None):
    # The stamps of a camera are true; those of the packets are late by DELAY_NS, and that is
    # what ROS time means for the events.
    return Frame(ros_start_ns + DELAY_NS + round(ms * MS), height, width, payload)


def synchronizer(**values):
    return FrameSynchronizer(EventSyncConfig(**{
        'window_length': 0.010, 'max_wait': 0.1, 'cell_size': 8, **values}))


def test_a_frame_waits_for_the_end_of_its_window_and_gets_its_events_only():
    sync = synchronizer()
    sync.add_frame(frame(20), now_s=0.0)  # window 15 to 25 ms
    for seq in range(4, 6):
        sync.add_packet(packet(seq, [16.5, 18.5] if seq == 4 else [23.5], x=9, y=17), 0.0)
    assert sync.poll(0.01) == []  # events got to 23.5 ms
    sync.add_packet(packet(6, [24.5, 25.5, 27.5], x=9, y=17), 0.0)
    guided, = sync.poll(0.02)
    # Packets 4 and on begin at 16 ms: the first millisecond of the window was not seen.
    assert guided.missing == Missing.WINDOW_START_MISSING
    assert guided.completeness == pytest.approx(0.9)
    expected = np.zeros((3, 4))
    expected[2, 1] = 4  # 16.5, 18.5, 23.5 and 24.5 ms
    np.testing.assert_array_equal(guided.activity.counts, expected)
    assert guided.activity.window_start_ns == guided.frame.stamp_ns - 5 * MS
    assert guided.activity.window_end_ns == guided.frame.stamp_ns + 5 * MS
    assert guided.wait_s == pytest.approx(0.02)
    assert sync.poll(1.0) == []


def test_the_offset_moves_the_window():
    sync = synchronizer(window_offset=0.010)
    sync.add_frame(frame(10), 0.0)  # window 15 to 25 ms
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    assert guided.activity.num_events == 2  # 18 and 22; 14 and 26 are outside


def test_a_frame_without_events_leaves_when_its_patience_is_over():
    sync = synchronizer()
    sync.add_frame(frame(20), now_s=5.0)
    assert sync.poll(5.09) == []
    guided, = sync.poll(5.11)
    assert guided.missing == Missing.NO_EVENT_STREAM
    assert guided.completeness == 0.0 and guided.activity.num_events == 0
    assert guided.activity.counts.shape == (3, 4)


def test_a_late_end_is_told_from_no_stream():
    sync = synchronizer()
    sync.add_frame(frame(20), 0.0)
    for seq in range(6):  # up to 20 ms and a little
        sync.add_packet(packet(seq, [seq * 4]), 0.0)
    guided, = sync.poll(0.1)
    assert guided.missing == Missing.WINDOW_END_MISSING
    assert guided.completeness == pytest.approx(0.5)


def test_packets_before_the_first_frame_count():
    sync = synchronizer()
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    sync.add_frame(frame(20), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    assert guided.activity.num_events == 2


def test_a_lost_packet_is_named():
    sync = synchronizer()
    sync.add_frame(frame(20), 0.0)
    for seq in (2, 3, 5, 6, 7):  # 16 to 20 ms is lost
        sync.add_packet(packet(seq, [seq * 4, seq * 4 + 3.999]), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.PACKETS_LOST
    assert guided.completeness == pytest.approx(0.6, abs=0.001)
    assert sync.counters.num_lost_packets == 1


def test_every_frame_leaves_once_in_order_though_a_bag_loops():
    sync = synchronizer(max_wait=0.05)
    left = []
    now_s = 0.0
    for _ in range(3):
        for step in range(100):  # 4 ms of replay
            now_s += 0.004
            if step % 8 == 4:
                sync.add_frame(frame(step * 4, payload=(step,)), now_s)
            sync.add_packet(packet(step, [step * 4 + 2]), now_s)
            left += sync.poll(now_s)
    left += sync.poll(now_s + 1.0)
    assert [guided.frame.payload[0] for guided in left] == list(range(4, 100, 8)) * 3
    # Inside the loop nothing is missing; windows are 10 ms, one event each 4 ms.
    assert all(guided.missing == Missing.COMPLETE for guided in left)
    assert all(guided.activity.num_events in (2, 3) for guided in left)
    assert sync.counters.num_resets == 2


@pytest.mark.parametrize('frame_first', [True, False])
def test_a_loop_is_noticed_by_whichever_stream_comes_first(frame_first):
    sync = synchronizer()
    sync.add_frame(frame(0), 0.0)
    for seq in range(500):  # 2 s: the first events are forgotten
        sync.add_packet(packet(seq, [seq * 4]), 0.0)
    sync.add_frame(frame(1900), 0.0)
    assert len(sync.poll(0.5)) == 2
    steps = [lambda: sync.add_frame(frame(6, payload='second'), 1.0),
             lambda: [sync.add_packet(packet(seq, [seq * 4 + 1], x=31), 1.0)
                      for seq in range(8)]]
    for step in steps if frame_first else reversed(steps):
        step()
    guided, = sync.poll(1.0)
    assert guided.frame.payload == 'second'
    assert guided.missing == Missing.COMPLETE
    # Events at 1, 5 and 9 ms of the new round in the last column, nothing of the old round.
    expected = np.zeros((3, 4))
    expected[0, 3] = 3
    np.testing.assert_array_equal(guided.activity.counts, expected)


def test_a_frame_of_the_old_round_leaves_with_the_events_of_the_old_round():
    sync = synchronizer()
    sync.add_frame(frame(0), 0.0)
    for seq in range(500):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    sync.poll(0.5)
    sync.add_frame(frame(1998, payload='old'), 0.5)  # window up to 2003 ms
    sync.add_packet(packet(0, [1]), 0.0)
    guided, = sync.poll(0.0)
    assert guided.frame.payload == 'old'
    assert guided.missing == Missing.WINDOW_END_MISSING
    assert guided.activity.num_events == 1.0 + 1.0  # 1994 and 1998 ms


def test_a_driver_that_restarts_its_sensor_time_is_followed():
    sync = synchronizer()
    sync.add_frame(frame(0), 0.0)
    for seq in range(100):
        sync.add_packet(packet(seq, [seq * 4]), 0.0)
    sync.poll(0.0)
    # Three seconds later in ROS time the sensor counts from 0 again.
    later = START_NS + 3000 * MS
    for seq in range(10):
        sync.add_packet(packet(seq, [seq * 4 + 2], ros_start_ns=later), 0.0)
    sync.add_frame(frame(20, ros_start_ns=later), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    assert guided.activity.num_events == 2


def test_a_bad_packet_is_counted_and_loses_nothing_else():
    sync = synchronizer()
    sync.add_frame(frame(20), 0.0)
    for seq in range(4):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    with pytest.raises(ValueError, match="encoding 'evt9'"):
        sync.add_packet(packet(4, encoding='evt9'), 0.0)
    for seq in range(4, 8):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    assert sync.counters.num_bad_packets == 1


def test_waiting_frames_are_bounded():
    sync = synchronizer(max_pending_frames=3)
    for index in range(10):
        sync.add_frame(frame(20 + index, payload=index), 0.0)
    assert [guided.frame.payload for guided in sync.poll(0.0)] == list(range(7))
    assert [guided.frame.payload for guided in sync.poll(1.0)] == [7, 8, 9]


def test_a_new_image_size_makes_a_new_grid_and_keeps_the_waiting_frames():
    sync = synchronizer()
    sync.add_frame(frame(20, payload='small'), 0.0)
    sync.add_packet(packet(4, [17]), 0.0)
    sync.add_frame(frame(24, height=48, width=64, payload='large'), 0.0)
    left = sync.poll(1.0)
    assert [guided.frame.payload for guided in left] == ['small', 'large']
    assert [guided.activity.counts.shape for guided in left] == [(3, 4), (6, 8)]


def test_frames_of_another_size_leave_in_turn_and_cost_the_others_nothing():
    sync = synchronizer()
    sizes = [(24, 32)] * 8 + [(48, 64)] * 7 + [(24, 32), (1, 1), (24, 32), (48, 64), (24, 32)]
    for seq in range(4 * len(sizes)):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    left = []
    for number, size in enumerate(sizes):
        # Whatever the stamps of the foreign ones are, time was not set back.
        ms = 16 * number + 6 if size == (24, 32) else (10 ** 6, -10 ** 6)[number % 2]
        sync.add_frame(frame(ms, *size, payload=number), 0.0)
        left += sync.poll(0.0) if number > 3 else []
    assert [guided.frame.payload for guided in left] == list(range(len(sizes)))
    for guided, size in zip(left, sizes):
        assert guided.activity.image_height == size[0]
        if size == (24, 32):
            assert guided.missing == Missing.COMPLETE and guided.activity.num_events in (2, 3)
        else:
            assert guided.missing == Missing.NO_EVENT_STREAM and guided.completeness == 0.0
            assert guided.reason == (
                f'the frame is {size[1]} x {size[0]} px, those before are 32 x 24 px: '
                'let each camera have its own topic')
    assert sync.counters.num_frames == len(sizes)
    assert sync.counters.num_incomplete_frames == 9 and sync.counters.num_late_frames == 0


def test_a_camera_that_changes_its_resolution_gets_its_events_again():
    sync = synchronizer()
    left = []
    for seq in range(160):
        sync.add_packet(packet(seq, [seq * 4 + 2]), seq * 0.004)
        if seq % 4 == 3:  # a frame every 16 ms, 20 of each size
            size = (24, 32) if seq < 80 else (48, 64)
            sync.add_frame(frame(seq * 4 - 8, *size), seq * 0.004)
        left += sync.poll(seq * 0.004)
    assert len(left) == 40
    # The eighth is taken, but has no events yet; those of the next one begin inside its window.
    assert [guided.missing == Missing.COMPLETE for guided in left] == \
        [False] + [True] * 19 + [False] * 9 + [True] * 11


def test_a_foreign_frame_that_comes_first_costs_one_frame():
    sync = synchronizer()
    sync.add_frame(frame(0, 1, 1), 0.0)
    left = sync.poll(1.0)
    for seq in range(40):
        sync.add_packet(packet(seq, [seq * 4 + 2]), seq * 0.004)
        if seq % 4 == 3:
            sync.add_frame(frame(seq * 4 - 6), seq * 0.004)
        left += sync.poll(seq * 0.004)
    assert [guided.missing == Missing.COMPLETE for guided in left] == [False] * 2 + [True] * 9


def test_a_frame_without_pixels_is_refused():
    with pytest.raises(ValueError, match='0 x 24 pixels'):
        synchronizer().add_frame(Frame(0, 24, 0), 0.0)


@pytest.mark.parametrize('stamped_at, centre_ms', [('start', 24), ('middle', 20), ('end', 16)])
def test_the_window_is_centred_on_the_middle_of_the_exposure(stamped_at, centre_ms):
    sync = synchronizer(exposure_time=0.008, stamped_at=stamped_at, window_length=0.004)
    sync.add_frame(frame(20), 0.0)
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + ms for ms in (0, 1, 2, 3)]), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    assert guided.activity.window_start_ns - guided.frame.stamp_ns == (centre_ms - 2 - 20) * MS
    assert guided.activity.window_end_ns - guided.frame.stamp_ns == (centre_ms + 2 - 20) * MS
    assert guided.activity.num_events == 4


def test_a_window_of_so_many_events_ends_where_one_of_time_does():
    sync = synchronizer(window_mode='count', window_events=3, max_window_length=0.02)
    sync.add_frame(frame(20), 0.0)  # ends at 25 ms
    for seq, times in enumerate([[1], [], [9], [13, 14], [], [], [24, 25], [28]]):
        sync.add_packet(packet(seq, times), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    # Back from 25 ms (excluded): 24, 14 and 13 ms.
    assert guided.activity.num_events == 3
    stamp_ns = guided.frame.stamp_ns
    assert guided.activity.window_start_ns - stamp_ns == pytest.approx((13 - 20) * MS, abs=2)
    assert guided.activity.window_end_ns - stamp_ns == pytest.approx((25 - 20) * MS, abs=2)


def test_a_window_of_so_many_events_says_that_the_stream_began_inside_it():
    sync = synchronizer(window_mode='count', window_events=100, max_window_length=0.05)
    sync.add_frame(frame(20), 0.0)
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.WINDOW_START_MISSING
    assert guided.completeness == pytest.approx(0.5)  # from 0 of -25 to 25 ms
    assert guided.activity.num_events == 6


def test_a_window_of_enough_activity():
    # 2 of 12 cells.
    sync = synchronizer(window_mode='activity', window_activity=0.17, max_window_length=0.02)
    sync.add_frame(frame(20), 0.0)
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + 2.5], x=9 if seq == 3 else 0), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    # 22.5 and 18.5 ms are in one cell, 14.5 ms is in another.
    assert np.count_nonzero(guided.activity.counts) == 2 and guided.activity.num_events == 3
    assert guided.activity.window_start_ns - guided.frame.stamp_ns == \
        pytest.approx((14 - 20) * MS, abs=2)


def test_a_frame_says_that_events_of_its_window_were_shed():
    sync = synchronizer()
    sync.add_frame(frame(20), 0.0)  # 15 to 25 ms
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4, seq * 4 + 3.999]), 0.0, shed=seq == 4)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.EVENTS_SHED
    assert guided.completeness == pytest.approx(0.6, abs=0.001)  # all but 16 to 20 ms
    assert guided.activity.num_events == pytest.approx(1 + 2 + 1)
    assert sync.counters.num_shed_packets == 1 and sync.counters.num_late_frames == 0


def test_a_frame_that_went_without_its_events_is_counted_as_late():
    sync = synchronizer()
    sync.add_frame(frame(20), 0.0)
    sync.add_packet(packet(0, [1]), 0.0)
    assert len(sync.poll(0.2)) == 1
    assert sync.counters.num_late_frames == sync.counters.num_incomplete_frames == 1
    sync.add_frame(frame(24), 0.2)
    for seq in range(1, 9):
        sync.add_packet(packet(seq, [seq * 4]), 0.2)
    assert len(sync.poll(0.2)) == 1
    assert sync.counters.num_late_frames == 1


def test_without_trigger_edges_a_frame_is_placed_by_its_stamp_and_says_so():
    sync = synchronizer(sync_mode='hardware_trigger')
    sync.add_frame(frame(20), 0.0)
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.NOT_TRIGGERED
    assert guided.activity.num_events == 2 and guided.completeness == 1.0
    assert guided.sync_error_ns is None and sync.sync_error_ns is None
    assert sync.counters.num_unmatched_frames == 1


def test_frames_on_the_clock_of_the_sensor():
    # Stamps of the camera are sensor time plus 100 s; those of packets are of no use.
    sync = synchronizer(sync_mode='common_clock', clock_offset=100.0)
    sync.add_frame(Frame(100_020 * MS, 24, 32), 0.0)
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + 2], stamp_ns=seq * 977 * MS), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    assert guided.activity.num_events == 2  # 18 and 22 ms
    assert guided.activity.window_start_ns == 100_015 * MS


@pytest.mark.parametrize('window_mode', ['time', 'count', 'activity'])
@pytest.mark.parametrize('clock_offset', [-4e9, 4e9])
@pytest.mark.parametrize('stamp_s', [-2 ** 31, 2 ** 31 - 1])
def test_frames_on_a_clock_that_is_as_far_off_as_may_be(window_mode, clock_offset, stamp_s):
    sync = synchronizer(
        sync_mode='common_clock', clock_offset=clock_offset, window_mode=window_mode)
    sync.add_frame(Frame(stamp_s * 1000 * MS, 24, 32), 0.0)
    sync.add_packet(packet(0, [1]), 0.0)
    guided, = sync.poll(1.0)
    assert guided.missing == (
        Missing.WINDOW_END_MISSING if clock_offset < 0 else Missing.WINDOW_START_MISSING)
    assert guided.completeness == 0.0 and guided.activity.num_events == 0


@pytest.mark.parametrize('ahead_ms, missing', [
    (500, Missing.WINDOW_END_MISSING), (-500, Missing.WINDOW_START_MISSING)])
def test_frames_of_a_clock_that_differs_are_told_from_no_stream(ahead_ms, missing):
    sync = synchronizer()
    sync.add_frame(frame(20 + ahead_ms), 0.0)
    for seq in range(30):  # up to 120 ms
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    guided, = sync.poll(0.2)
    assert guided.missing == missing
    assert guided.completeness == 0.0 and guided.activity.num_events == 0


@pytest.mark.parametrize('values', [
    {'window_length': 0.2}, {'window_length': 0.05, 'window_offset': -0.175},
    {'window_mode': 'count', 'max_window_length': 0.2}])
def test_the_longest_window_that_is_allowed_is_whole(values):
    sync = synchronizer(history_length=0.205, **values)  # and as long as a packet
    for seq in range(200):
        if seq == 150:
            sync.add_frame(frame(600), 0.0)
        sync.add_packet(packet(seq, [seq * 4 + 1]), 0.0)
        if guided := sync.poll(0.0):
            break
    assert guided[0].missing == Missing.COMPLETE
    with pytest.raises(ValueError, match='give a longer history_length'):
        synchronizer(history_length=0.199, **values)


def test_frames_wait_for_a_registration_that_comes_later():
    sync = synchronizer(registration='camera_info')
    sync.add_frame(frame(20), 0.0)
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + 2], x=9), 0.0)
    guided, = sync.poll(0.2)
    assert guided.missing == Missing.NO_EVENT_STREAM
    sync.add_frame(frame(20), 0.2)
    sync.set_registration(HomographyRegistration([1, 0, 8, 0, 1, 0, 0, 0, 1]))
    guided, = sync.poll(0.2)
    assert guided.missing == Missing.COMPLETE
    assert guided.activity.counts[0, 2] == guided.activity.num_events == 2  # 8 px to the right


def test_new_settings_hold_from_the_next_frame_on():
    sync = synchronizer()
    for seq in range(8):
        sync.add_packet(packet(seq, [seq * 4 + 2]), 0.0)
    config = EventSyncConfig(window_length=0.004, cell_size=8)
    sync.reconfigure(config, FilterConfig(ego_motion_filter=True))
    sync.add_frame(frame(20), 0.0)
    guided, = sync.poll(0.0)
    assert guided.activity.window_end_ns - guided.activity.window_start_ns == 4 * MS


@pytest.mark.parametrize('is_on', [False, True])
def test_the_activity_of_a_moving_camera_is_taken_off(is_on):
    sync = FrameSynchronizer(
        EventSyncConfig(window_length=0.010, cell_size=1),
        FilterConfig(ego_motion_filter=is_on))
    sync.add_frame(frame(20), 0.0)
    y, x = (part.ravel().astype(np.uint16) for part in np.mgrid[:24, :32])
    everywhere = Events(x, y, np.ones(x.size, np.uint8), np.full(x.size, 18 * MS))
    for seq in range(8):
        payload = encode_evt3(everywhere, start_ns=16 * MS) if seq == 4 else None
        changes = {} if payload is None else {'events': payload}
        sync.add_packet(packet(seq, **changes), 0.0)
    guided, = sync.poll(0.0)
    assert guided.missing == Missing.COMPLETE
    assert guided.activity.num_events == (0 if is_on else 24 * 32)


def test_packets_that_state_a_sensor_without_pixels(shared_cases):
    with BagReader(shared_cases / 'zero_geometry') as bag:
        frames = list(guided_frames(bag, EventSyncConfig()))
    assert len(frames) == 2
    for guided in frames:
        assert guided.completeness == 0.0 and guided.activity.num_events == 0
        assert guided.missing & Missing.EVENTS_DISCARDED
        assert 'outside of the sensor size that their packets state (0 x 0 px)' in guided.reason


def test_a_registration_that_shows_the_sensor_nothing_is_refused():
    sync = synchronizer(homography=(1.0, 0.0, 1e4, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    sync.add_frame(frame(20), 0.0)
    with pytest.raises(ValueError, match='no pixel of the event sensor .* sees the image .*: '
                                         'correct the registration'):
        sync.add_packet(packet(4, [17]), 0.0)
    guided, = sync.poll(1.0)
    assert guided.missing == Missing.NO_EVENT_STREAM
