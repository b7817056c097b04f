"""Responses leave a few at a time."""

import time

from epvlm_ros.ros import response_pacer
from epvlm_ros.ros.response_pacer import ResponsePacer
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from ros_graph import wait_until


@pytest.fixture
def pacer(context):
    yield from make_pacer(context)


def make_pacer(context):
    node = rclpy.create_node('some_node', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    pacer = ResponsePacer(node)
    yield pacer, executor
    pacer.destroy()
    executor.shutdown()
    node.destroy_node()


def pass_through(pacer, executor, count):
    """Return the list that the numbers and times of responses go to as they leave."""
    left = []

    async def respond(number):
        await pacer.wait_turn()
        left.append((number, time.monotonic()))
    for number in range(count):
        executor.create_task(respond, number)
    return left


def spin_until(executor, condition):
    def spin():
        executor.spin_once(timeout_sec=0.02)
        return condition()
    wait_until(spin, 10, 'the responses')


def test_four_leave_at_once_and_the_others_later_in_order(pacer):
    pacer, executor = pacer
    left = pass_through(pacer, executor, 10)
    spin_until(executor, lambda: len(left) == 10)
    numbers, times = zip(*left)
    assert numbers == tuple(range(10))
    # The first four begin a period of 0.2 s.
    assert times[4] - times[0] > 0.19 and times[8] - times[0] > 0.39
    # The next one after a pause leaves at once, that is before a period has passed.
    spin_until(executor, lambda: pacer._timer.is_canceled())
    late = pass_through(pacer, executor, 4)
    executor.spin_once(timeout_sec=0.0)
    spin_until(executor, lambda: len(late) == 4)


def test_at_the_end_all_leave(context, monkeypatch):
    monkeypatch.setattr(response_pacer, 'PERIOD_S', 1000.0)
    with_pacer = make_pacer(context)
    pacer, executor = next(with_pacer)
    left = pass_through(pacer, executor, 20)

    def all_left():
        pacer.hurry()
        return len(left) == 20
    spin_until(executor, all_left)
    next(with_pacer, None)
