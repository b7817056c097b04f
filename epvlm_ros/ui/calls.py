"""Calls of ROS services and actions from an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from epvlm_ros.ui.robot import RobotError

CALL_TIMEOUT_S = 5.0


def to_asyncio(future: Any, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """Return a future of ``loop`` that ends with one of rclpy, which ends on any thread."""
    result: asyncio.Future[Any] = loop.create_future()

    def settle() -> None:
        if result.done():
            return
        if future.cancelled():
            result.cancel()
        elif future.exception() is not None:
            result.set_exception(RobotError(str(future.exception())))
        else:
            result.set_result(future.result())

    def finish(done: Any) -> None:
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            pass  # the loop has ended

    future.add_done_callback(finish)
    return result


async def call(client: Any, request: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
    """
    Return the response of a service.

    Raises
    ------
    RobotError
        If the service is not there, or does not respond in time.

    """
    if not client.service_is_ready():
        raise RobotError(f'there is no service {client.srv_name}: is its node running?')
    future = client.call_async(request)
    try:
        return await asyncio.wait_for(
            to_asyncio(future, asyncio.get_running_loop()), timeout_s)
    except asyncio.TimeoutError:
        client.remove_pending_request(future)
        raise RobotError(
            f'{client.srv_name} did not respond within {timeout_s:g} s: is its node busy or '
            'gone?') from None
