"""How a node of this package runs and ends."""

from __future__ import annotations

import sys
from typing import Callable

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node


def run_node(make_node: Callable[[], Node], args: list[str] | None = None) -> None:
    """
    Spin a node until SIGINT or SIGTERM, then destroy it.

    A value that the node refuses at its start ends the process with one line and status 1.
    """
    rclpy.init(args=args)
    node = None
    try:
        node = make_node()
        rclpy.spin(node)
    except ValueError as error:
        if node is not None:
            raise
        rclpy.logging.get_logger('epvlm_ros').fatal(str(error))
        sys.exit(1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
