"""
Entry points of the executables.

Heavy imports come after the signal handlers, so that Ctrl-C ends an executable quietly at any
moment, also while it loads its libraries and its model.
"""

from __future__ import annotations

import ctypes
from enum import auto, Enum
from importlib import import_module
import os
import signal
import sys
import threading
from typing import Any

WAKE_PERIOD_S = 0.1
# Of mallopt(3): M_MMAP_THRESHOLD, at most 32 MB, and M_TRIM_THRESHOLD.
_KEPT_MEMORY = {-3: 1 << 25, -1: 1 << 27}
SIGNAL_STATUS = 128  # plus the signal's number: the exit status, as in shells
NODES = {
    'event_sync_node': ('epvlm_ros.ros.event_sync_node', 'EventSyncNode'),
    'vlm_node': ('epvlm_ros.ros.vlm_node', 'VlmNode'),
}


def event_sync_node() -> None:
    """Run event_sync_node."""
    run_node('event_sync_node')


def vlm_node() -> None:
    """Run vlm_node."""
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

    A ValueError of the node's constructor ends the process with one line and status 1.
    """
    with _Signals() as signals:
        keep_freed_memory()
        module, class_name = NODES[name]
        try:
            node_class = getattr(import_module(module), class_name)
        except ValueError as error:  # a library in a version that does not fit
            sys.exit(f'{name}: {error}')
        signals.phase = _Phase.STARTING
        _spin(name, node_class, args, signals)


def keep_freed_memory() -> None:
    """
    Let the C library keep memory that was freed for what is allocated next.

    Else the memory of each frame comes from the kernel page by page and goes back to it, which
    takes several times as long as to copy the frame. Other C libraries than glibc do as they do.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        for parameter, num_bytes in _KEPT_MEMORY.items():
            mallopt(parameter, num_bytes)


class _Phase(Enum):
    LOADING = auto()  # libraries; nothing is open yet
    STARTING = auto()  # the node is constructed and loads its model
    RUNNING = auto()


class _Signals:
    """
    A context manager that handles SIGINT and SIGTERM.

    No exceptions: raised inside of a C++ library they crash the process or are swallowed. While
    libraries load the process ends at once. Later a signal sets a flag that is looked at between
    two callbacks (rclpy's own handlers shut the context down under a running callback). A second
    signal during the start, which can take minutes, ends the process at once.
    """

    def __init__(self) -> None:
        self.phase = _Phase.LOADING
        self._stop_is_asked = False

    def __enter__(self) -> _Signals:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        # The interpreter removes its handlers while it ends; the default would kill the process.
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
    node = executor = None
    try:
        node = node_class(should_stop=signals.stop_is_asked)
        signals.phase = _Phase.RUNNING
        # Python handles signals only when the executor returns from waiting.
        node.create_timer(
            WAKE_PERIOD_S, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not signals.stop_is_asked():
            executor.spin_once()
        finish = getattr(node, 'finish', None)
        if finish is not None:
            finish(executor.spin_once)
    except ValueError as error:
        if node is not None:
            raise
        rclpy.logging.get_logger(name).fatal(str(error))
        sys.exit(1)
    except ExternalShutdownException:
        pass
    finally:
        if executor is not None:
            executor.shutdown()  # or it complains when it is collected after the context
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    if threading.active_count() > 1:
        # A thread inside of C++ code while the interpreter ends would crash the process.
        sys.stdout.flush()
        os._exit(0)


if __name__ == '__main__':
    {'bag_player': bag_player, 'event_sync_node': event_sync_node,
     'vlm_node': vlm_node}[sys.argv.pop(1)]()
