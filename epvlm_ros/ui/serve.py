"""Runs the page: a node on a thread of its own and a web server, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal

from epvlm_ros.ros.spinning_node import SpinningNode
from epvlm_ros.ui.access import Access
from epvlm_ros.ui.pages import Pages
from epvlm_ros.ui.ros_robot import RosRobot
from epvlm_ros.ui.server import make_app, start_server
from rclpy.exceptions import InvalidNamespaceException, InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

NODE_NAME = 'epvlm_ui'


def serve(access: Access, port: int, namespace: str, frames_topic: str, max_rate: float) -> None:
    """
    Serve the page until a signal; print its address.

    Raises ValueError if an address, a port or a name cannot be had.
    """
    try:
        validate_topic_name(frames_topic)
        node = SpinningNode(
            NODE_NAME, namespace=namespace, start_parameter_services=False, enable_rosout=False)
    except (InvalidNamespaceException, InvalidTopicNameException) as error:
        raise ValueError(' '.join(str(error).split())) from None
    with node:
        asyncio.run(_serve(node, access, port, frames_topic, max_rate))


async def _serve(
    spinning: SpinningNode, access: Access, port: int, frames_topic: str, max_rate: float,
) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, ended.set)
    robot = RosRobot(spinning.node, loop, frames_topic, max_rate)
    pages = Pages(robot, spinning.node.get_namespace())
    robot.start(pages)
    runner, port = await start_server(make_app(pages, access), access.address, port)
    print(describe_address(access, port), flush=True)
    try:
        await ended.wait()
    finally:
        await runner.cleanup()


def describe_address(access: Access, port: int) -> str:
    """Return the line that tells where the page is; never the token."""
    if access.is_loopback:
        name = f'[{access.address}]' if ':' in access.address else access.address
        return f'The page is at http://{name}:{port}/'
    return (f'The page is on port {port} of this machine, at {access.address}; it asks for the '
            'token. What is sent is not encrypted: see docs/operator.md')
