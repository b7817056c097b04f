"""The line between receiving and processing: order, room, and what is shed when it fills."""

import threading
import time

from epvlm_ros.events.packet import EventPacket
from epvlm_ros.events.sync import input_queue as input_queue_module
from epvlm_ros.events.sync.input_queue import InputQueue, Kind, PACKET_OVERHEAD
import numpy as np
import pytest

SIZE = 1000 - 8  # with the overhead, a packet takes a round number of bytes
TAKEN = SIZE + PACKET_OVERHEAD


def packet(seq, size=SIZE):
    return EventPacket(seq, 8, 8, seq, 0, 'evt3', np.zeros(size, np.uint8))


def fill(queue, count, first=0):
    for seq in range(first, first + count):
        queue.put_packet(packet(seq), time.monotonic())


def take_all(queue):
    items = []
    while (item := queue.get(0.0)) is not None:
        items.append(item)
    return items


def test_everything_comes_out_in_order_and_nothing_is_shed_while_there_is_room():
    queue = InputQueue(10.0, 100 * TAKEN, 4)
    called = []
    begin_s = time.monotonic()
    queue.put_packet(packet(0), begin_s)
    queue.put_frame('frame', begin_s + 1.0)
    queue.put_call(lambda: called.append(1))
    queue.put_packet(packet(1), begin_s)
    items = take_all(queue)
    assert [item.kind for item in items] == [
        Kind.PACKET, Kind.FRAME, Kind.CALL, Kind.PACKET]
    assert [item.arrival_s for item in items[:2]] == [begin_s, begin_s + 1.0]
    assert items[1].item == 'frame' and items[3].item.seq == 1
    items[2].item()
    assert called == [1]
    assert not any(item.shed for item in items)
    assert queue.num_bytes == 0 and queue.get(0.0) is None


@pytest.fixture
def clock(monkeypatch):
    """Let a test say what time it is."""
    now = [1000.0]
    monkeypatch.setattr(input_queue_module.time, 'monotonic', lambda: now[0])
    return now


def take_late(queue, clock, delay_s, count):
    """Take packets one a millisecond, each that long after its arrival; tell which are shed."""
    for seq in range(count + 1):
        queue.put_packet(packet(seq), clock[0] + seq * 0.001 - delay_s)
    shed = []
    for _ in range(count):
        shed.append(queue.get(0.0).shed)
        clock[0] += 0.001
    take_all(queue)
    return shed


@pytest.mark.parametrize('delay_s, counted', [
    (0.0, 16), (0.49, 16), (0.51, 8), (0.74, 8), (0.76, 4), (0.99, 4), (1.01, 0), (100.0, 0)])
def test_the_longer_packets_have_waited_the_fewer_of_them_count(clock, delay_s, counted):
    queue = InputQueue(1.0, 1000 * TAKEN, 4)
    shed = take_late(queue, clock, delay_s, 266)
    # For the first quarter of a second nothing is shed, unless it has waited for too long.
    assert not any(shed[:250]) or delay_s > 1.0
    assert shed[250:].count(False) == counted
    assert queue.counters.num_dropped_packets == 0


def test_packets_that_are_held_up_once_are_not_shed(clock):
    queue = InputQueue(1.0, 1000 * TAKEN, 4)
    for _ in range(10):
        assert not any(take_late(queue, clock, 0.6, 200))
        assert not any(take_late(queue, clock, 0.1, 1))


def test_a_full_line_drops_the_packets_that_waited_longest_and_no_frame():
    queue = InputQueue(10.0, 10 * TAKEN, 4)
    queue.put_frame('frame', 0.0)
    fill(queue, 25)
    assert queue.num_bytes == 10 * TAKEN
    assert queue.counters.num_dropped_packets == 15
    items = take_all(queue)
    assert items[0].item == 'frame'
    assert [item.item.seq for item in items[1:]] == list(range(15, 25))


def test_a_packet_larger_than_the_room_takes_all_of_it():
    queue = InputQueue(10.0, TAKEN, 1)
    fill(queue, 1)
    queue.put_packet(packet(1, 50 * SIZE), 0.0)
    assert [item.item.seq for item in take_all(queue)] == [1]
    assert queue.num_bytes == 0


def test_empty_packets_do_not_pile_up_for_ever():
    queue = InputQueue(10.0, 20 * PACKET_OVERHEAD, 1)
    for seq in range(1000):
        queue.put_packet(packet(seq, 0), 0.0)
    assert len(take_all(queue)) == 20


def test_the_oldest_frame_goes_when_too_many_wait():
    queue = InputQueue(10.0, TAKEN, 2)
    for number in range(5):
        queue.put_frame(number, 0.0)
    assert [item.item for item in take_all(queue)] == [3, 4]
    assert queue.counters.num_dropped_frames == 3


def test_a_packet_on_its_own_is_never_shed():
    queue = InputQueue(10.0, TAKEN, 1)
    for seq in range(5):
        queue.put_packet(packet(seq), time.monotonic() - 100.0)
        assert not queue.get(0.0).shed


def test_shedding_ends_with_the_delay(clock):
    queue = InputQueue(1.0, 1000 * TAKEN, 1)
    assert all(take_late(queue, clock, 5.0, 300))
    assert not any(take_late(queue, clock, 0.4, 300))


def test_a_taker_that_waits_is_woken_and_an_empty_line_ends_the_wait():
    queue = InputQueue(10.0, TAKEN, 1)
    begin = time.monotonic()
    assert queue.get(0.05) is None
    assert time.monotonic() - begin >= 0.05
    threading.Timer(0.05, lambda: queue.put_frame('late', 0.0)).start()
    assert queue.get(30.0).item == 'late'


@pytest.mark.parametrize('room', [(0.0, 1, 1), (float('nan'), 1, 1), (1.0, 0, 1), (1.0, 1, 0)])
def test_no_room_is_refused(room):
    with pytest.raises(ValueError, match='give more than 0 s'):
        InputQueue(*room)
