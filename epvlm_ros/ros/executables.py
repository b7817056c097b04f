"""
How the executables start, run and end.

Nothing heavy is imported before the guard of `run_node` is up, so that Ctrl-C ends a node
quietly at any moment, also while it loads its libraries and its model.
"""

from __future__ import annotations

from importlib import import_module
import signal
import sys

WAKE_PERIOD_S = 0.1
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
    signals = _Signals()
    try:
        signals.install()
        _spin(name, args, signals)
    except _Interrupted:
        pass


class _Interrupted(BaseException):
    """
    Ends the loading of libraries and model.

    Not a KeyboardInterrupt: Python ends by SIGINT in the end, whoever catches it, when one of
    those passes through ``exec`` of a string, as in the making of a dataclass or a named tuple.
    """


class _Signals:
    """
    What SIGINT and SIGTERM do.

    While libraries and model are loaded they interrupt at once. From then on they only ask for
    the end, which comes between two callbacks: rclpy's own handlers pull the context away from
    under whatever is running, and the node ends in a crash every few times.
    """

    def __init__(self) -> None:
        self.is_loading = True
        self.stop_is_asked = False

    def install(self) -> None:
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, signal_number: int, frame: object) -> None:
        self.stop_is_asked = True
        if self.is_loading:
            raise _Interrupted


def _spin(name: str, args: list[str] | None, signals: _Signals) -> None:
    import rclpy
    from rclpy.clock import Clock, ClockType
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    module, class_name = EXECUTABLES[name]
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = getattr(import_module(module), class_name)()
        signals.is_loading = False
        # Python sees a signal only when the executor comes back from waiting.
        node.create_timer(
            WAKE_PERIOD_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not signals.stop_is_asked:
            executor.spin_once()
    except ValueError as error:
        if node is not None:
            raise
        rclpy.logging.get_logger(name).fatal(str(error))
        sys.exit(1)
    except ExternalShutdownException:
        pass
    finally:
        signals.is_loading = False
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    run_node(sys.argv.pop(1))
