"""A node that spins on a thread of its own: the client of demo, tests and benchmarks."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

JOIN_TIMEOUT_S = 10.0


class SpinningNode:
    """
    A context manager that joins the graph with a node and leaves it again.

    ``node`` is in a context of its own. ``domain_id`` None takes that of the environment,
    ``options`` are those of a node.
    """

    def __init__(self, name: str, domain_id: int | None = None, **options: Any) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self.node = rclpy.create_node(name, context=self._context, **options)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop to spin and leave the graph."""
        self._executor.shutdown()
        self._context.try_shutdown()
        self._thread.join(JOIN_TIMEOUT_S)

    def __enter__(self) -> SpinningNode:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
