"""The line between receiving and processing: order, room, and what is shed when it fills."""

import threading
import time

from epvlm_ros.core.backlog import Backlog, Kind, PACKET_OVERHEAD
from epvlm_ros.core.packets import EventPacket
import numpy as np
import pytest

SIZE = 1000 - 8  # with the overhead, a packet takes a round number of bytes
TAKEN = SIZE + PACKET_OVERHEAD


def packet(seq, size=SIZE):
    return EventPacket(seq, 8, 8, seq, 0, 'evt3', np.zeros(size, np.uint8))


def fill(backlog, count, first=0):
    for seq in range(first, first + count):
        backlog.put_packet(packet(seq), 0.0)


def take_all(backlog):
    turns = []
    while (turn := backlog.get(0.0)) is not None:
        turns.append(turn)
    return turns


def test_everything_comes_out_in_order_and_nothing_is_shed_while_there_is_room():
    backlog = Backlog(100 * TAKEN, 4)
    called = []
    backlog.put_packet(packet(0), 1.0)
    backlog.put_frame('frame', 2.0)
    backlog.put_call(lambda: called.append(1))
    backlog.put_packet(packet(1), 3.0)
    turns = take_all(backlog)
    assert [turn.kind for turn in turns] == [
        Kind.PACKET, Kind.FRAME, Kind.CALL, Kind.PACKET]
    assert [turn.arrival_s for turn in turns[:2]] == [1.0, 2.0]
    assert turns[1].item == 'frame' and turns[3].item.seq == 1
    turns[2].item()
    assert called == [1]
    assert not any(turn.shed for turn in turns)
    assert backlog.num_bytes == 0 and backlog.get(0.0) is None


def test_the_fuller_the_line_the_fewer_packets_count():
    backlog = Backlog(160 * TAKEN, 4)
    fill(backlog, 160)
    shed = [turn.shed for turn in take_all(backlog)]
    # Behind it wait 159 to 80: all shed; 79 to 40: one of four counts; 39 to 20: every second.
    assert all(shed[:80])
    assert shed[80:120].count(False) == 10
    assert shed[120:140].count(False) == 10
    assert not any(shed[140:])
    assert backlog.counters.num_dropped_packets == 0


def test_a_full_line_drops_the_packets_that_waited_longest_and_no_frame():
    backlog = Backlog(10 * TAKEN, 4)
    backlog.put_frame('frame', 0.0)
    fill(backlog, 25)
    assert backlog.num_bytes == 10 * TAKEN
    assert backlog.counters.num_dropped_packets == 15
    turns = take_all(backlog)
    assert turns[0].item == 'frame'
    assert [turn.item.seq for turn in turns[1:]] == list(range(15, 25))


def test_a_packet_larger_than_the_room_takes_all_of_it():
    backlog = Backlog(TAKEN, 1)
    fill(backlog, 1)
    backlog.put_packet(packet(1, 50 * SIZE), 0.0)
    assert [turn.item.seq for turn in take_all(backlog)] == [1]
    assert backlog.num_bytes == 0


def test_empty_packets_do_not_pile_up_for_ever():
    backlog = Backlog(20 * PACKET_OVERHEAD, 1)
    for seq in range(1000):
        backlog.put_packet(packet(seq, 0), 0.0)
    assert len(take_all(backlog)) == 20


def test_the_oldest_frame_goes_when_too_many_wait():
    backlog = Backlog(TAKEN, 2)
    for number in range(5):
        backlog.put_frame(number, 0.0)
    assert [turn.item for turn in take_all(backlog)] == [3, 4]
    assert backlog.counters.num_dropped_frames == 3


def test_a_packet_on_its_own_is_never_shed():
    backlog = Backlog(TAKEN, 1)
    for seq in range(5):
        backlog.put_packet(packet(seq), 0.0)
        assert not backlog.get(0.0).shed


def test_shedding_ends_when_the_line_is_short_again():
    backlog = Backlog(16 * TAKEN, 1)
    fill(backlog, 16)
    take_all(backlog)
    fill(backlog, 1)
    assert not backlog.get(0.0).shed


def test_a_taker_that_waits_is_woken_and_an_empty_line_ends_the_wait():
    backlog = Backlog(TAKEN, 1)
    begin = time.monotonic()
    assert backlog.get(0.05) is None
    assert time.monotonic() - begin >= 0.05
    threading.Timer(0.05, lambda: backlog.put_frame('late', 0.0)).start()
    assert backlog.get(30.0).item == 'late'


@pytest.mark.parametrize('max_bytes, max_frames', [(0, 1), (1, 0)])
def test_no_room_is_refused(max_bytes, max_frames):
    with pytest.raises(ValueError, match='give 1 or more'):
        Backlog(max_bytes, max_frames)
