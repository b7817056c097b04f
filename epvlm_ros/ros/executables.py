"""
How the executables start, run and end.

Nothing heavy is imported before the guard of `run_node` is up, so that Ctrl-C ends a node
quietly at any moment, also while it loads its libraries and its model.
"""

from __future__ import annotations

from importlib import import_module
import signal
import sys

EXECUTABLES = {
    'event_sync_node': ('epvlm_ros.ros.event_sync_node', 'EventSyncNode'),
    'vlm_node': ('epvlm_ros.ros.vlm_node', 'VlmNode'),
}


def event_sync_node() -> None:
    """Run the node that gives every camera frame the events around it."""
    run_node('event_sync_node')


def vlm_node() -> None:
    """Run the node that answers questions about the latest guided frame."""
    run_node('vlm_node')


def run_node(name: str, args: list[str] | None = None) -> None:
    """
    Spin one of ``EXECUTABLES`` until SIGINT or SIGTERM, then destroy it.

    A value that the node refuses at its start ends the process with one line and status 1.
    """
    try:
        _spin(name, args)
    except KeyboardInterrupt:
        pass


def _spin(name: str, args: list[str] | None) -> None:
    import rclpy
    from rclpy.executors import ExternalShutdownException

    module, class_name = EXECUTABLES[name]
    rclpy.init(args=args)
    node = None
    try:
        node = getattr(import_module(module), class_name)()
        rclpy.spin(node)
    except ValueError as error:
        if node is not None:
            raise
        rclpy.logging.get_logger(name).fatal(str(error))
        sys.exit(1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # The end is under way: a second Ctrl-C must not cut it short half-way.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    run_node(sys.argv.pop(1))
