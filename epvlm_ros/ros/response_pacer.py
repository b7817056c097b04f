"""Responses of a service leave a few at a time, so that no client loses its own."""

from __future__ import annotations

from collections import deque

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

# In DDS every client of a service receives the responses to all of them, and by default keeps the
# 10 latest that it has not read.
RESPONSES_AT_ONCE = 4
PERIOD_S = 0.2


class ResponsePacer:
    """Lets ``RESPONSES_AT_ONCE`` responses pass in ``PERIOD_S``; for the executor's thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._waiting: deque[Future] = deque()
        self._num_left = RESPONSES_AT_ONCE
        self._timer = node.create_timer(
            PERIOD_S, self._let_pass, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()

    async def wait_turn(self) -> None:
        """Return at once or, after others, when it is the turn of this response."""
        if self._num_left:
            self._num_left -= 1
            if self._timer.is_canceled():
                self._timer.reset()
        else:
            turn = make_future(self._node)
            self._waiting.append(turn)
            await turn

    def hurry(self) -> None:
        """Let all pass that wait."""
        while self._waiting:
            self._waiting.popleft().set_result(None)

    def destroy(self) -> None:
        """Take the timer away."""
        self._node.destroy_timer(self._timer)

    def _let_pass(self) -> None:
        self._num_left = RESPONSES_AT_ONCE
        if not self._waiting:
            self._timer.cancel()
        while self._waiting and self._num_left:
            self._num_left -= 1
            self._waiting.popleft().set_result(None)


def make_future(node: Node) -> Future:
    """Return what a callback of a node can await."""
    future: Future = Future(executor=node.executor)
    # Setting the result wakes the executor only when there is a callback to run.
    future.add_done_callback(lambda done: None)
    return future
