"""
How the executables start, run and end.

Nothing heavy is imported before the signal handlers are up, so that Ctrl-C ends an executable
quietly at any moment, also while it loads its libraries and its model.
"""

from __future__ import annotations

from enum import auto, Enum
from importlib import import_module
import os
import signal
import sys
import threading
from typing import Any

WAKE_PERIOD_S = 0.1
SIGNAL_STATUS = 128  # and the signal's number: the status of what a signal ended, as in shells
NODES = {
    'event_sync_node': ('epvlm_ros.ros.event_sync_node', 'EventSyncNode'),
    'vlm_node': ('epvlm_ros.ros.vlm_node', 'VlmNode'),
}


def event_sync_node() -> None:
    """Run the node that gives every camera frame the events around it."""
    run_node('event_sync_node')


def vlm_node() -> None:
    """Run the node that answers questions about the latest guided frame."""
    run_node('vlm_node')


def bag_player() -> None:
    """Replay a recording until its end, SIGINT or SIGTERM."""
    with _Signals() as signals:
        from epvlm_ros.ros.bag_player import main
        signals.phase = _Phase.RUNNING
        main(should_stop=signals.stop_is_asked)


def run_node(name: str, args: list[str] | None = None) -> None:
    """
    Spin one of ``NODES`` until SIGINT or SIGTERM, then destroy it.

    A value that the node refuses at its start ends the process with one line and status 1.
    """
    with _Signals() as signals:
        module, class_name = NODES[name]
        node_class = getattr(import_module(module), class_name)
        signals.phase = _Phase.STARTING
        _spin(name, node_class, args, signals)


class _Phase(Enum):
    LOADING = auto()  # of libraries: nothing is open yet
    STARTING = auto()  # the node is made and loads its model
    RUNNING = auto()


class _Signals:
    """
    What SIGINT and SIGTERM do.

    Never an exception: it would come out of whatever runs at that moment, and some C++ libraries
    then end the process in a crash, others swallow it or make an error of their own of it. While
    libraries are loaded there is nothing to close, and the process ends at once. From then on a
    signal asks for the end, which comes between two callbacks: rclpy's own handlers pull the
    context away from under whatever is running. A start can take minutes: whoever asks again
    while it lasts ends it at once. Behind it, a context manager, nobody is asked any more.
    """

    def __init__(self) -> None:
        self.phase = _Phase.LOADING
        self._stop_is_asked = False

    def __enter__(self) -> _Signals:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        # The interpreter takes handlers back while it ends, and the default is a violent death.
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)

    def stop_is_asked(self) -> bool:
        return self._stop_is_asked

    def _handle(self, signal_number: int, frame: object) -> None:
        if self.phase is _Phase.LOADING:
            os._exit(0)
        if self.phase is _Phase.STARTING and self._stop_is_asked:
            os._exit(SIGNAL_STATUS + signal_number)
        self._stop_is_asked = True


def _spin(name: str, node_class: Any, args: list[str] | None, signals: _Signals) -> None:
    import rclpy
    from rclpy.clock import Clock, ClockType
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = node_class(should_stop=signals.stop_is_asked)
        signals.phase = _Phase.RUNNING
        # Python sees a signal only when the executor comes back from waiting.
        node.create_timer(
            WAKE_PERIOD_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not signals.stop_is_asked():
            executor.spin_once()
    except ValueError as error:
        if node is not None:
            raise
        rclpy.logging.get_logger(name).fatal(str(error))
        sys.exit(1)
    except ExternalShutdownException:
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    if threading.active_count() > 1:
        # A thread that is in C++ when the interpreter goes would end the process in a crash.
        sys.stdout.flush()
        os._exit(0)


if __name__ == '__main__':
    {'bag_player': bag_player, 'event_sync_node': event_sync_node,
     'vlm_node': vlm_node}[sys.argv.pop(1)]()
