"""Lanes take turns."""

from epvlm_ros.ros.fair_queue import FairQueue
import pytest


def fill(*items):
    queue = FairQueue()
    for item in items:
        queue.append(item, item[0])
    return queue


def test_a_long_lane_does_not_keep_a_short_one_waiting():
    queue = fill('a1', 'a2', 'a3', 'b1', 'c1', 'c2')
    assert len(queue) == 6 and queue.length_of('a') == 3 and queue.length_of('d') == 0
    assert [queue.popleft() for _ in range(4)] == ['a1', 'b1', 'c1', 'a2']
    queue.append('b2', 'b')  # its lane was served before those that wait since
    assert queue.drain() == ['c2', 'a3', 'b2']
    assert not queue
    with pytest.raises(IndexError, match='empty'):
        queue.popleft()


def test_a_single_lane_is_a_queue():
    assert fill('a1', 'a2', 'a3').drain() == ['a1', 'a2', 'a3']


def test_an_item_can_be_taken_out():
    first, same = ['x'], ['x']
    queue = FairQueue()
    queue.append(first, 'a')
    queue.append(same, 'b')
    assert queue.remove(same) and not queue.remove(same)
    assert queue.length_of('b') == 0 and queue.popleft() is first
