"""Functions of fixed shapes that are captured once in a CUDA graph and then only replayed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
import logging
from typing import Any

import torch

_log = logging.getLogger(__name__)
_MEGABYTE = 1e6  # bytes


class GraphPool:
    """
    Keeps functions of fixed shapes, each with its buffers, in one pool of memory.

    Nothing in the pool outlives a call, so each function has all of it to itself, and the pool
    is as large as the largest one needs, whichever are captured, evicted and captured again.
    Of more than ``max_functions``, at least 1, the least recently used is evicted. On a CPU
    nothing is captured.
    """

    def __init__(self, device: torch.device, max_functions: int) -> None:
        self.device = device
        self._max_functions = max_functions
        self._functions: OrderedDict[Hashable, FixedShapeFunction] = OrderedDict()
        self._handle: Any = None

    @property
    def num_graphs(self) -> int:
        """How many CUDA graphs are captured."""
        return sum(function.is_captured for function in self._functions.values())

    def find(self, name: Hashable, make: Callable[[], FixedShapeFunction]) -> FixedShapeFunction:
        """Return the function with this name, or what ``make`` makes if there is none."""
        if name in self._functions:
            self._functions.move_to_end(name)
            return self._functions[name]
        while len(self._functions) >= self._max_functions:
            self._functions.popitem(last=False)
        function = make()
        function.pool, function.name = self, name
        self._functions[name] = function
        return function

    def discard(self, owner: object) -> None:
        """Let go of the functions whose names are tuples that begin with ``owner``."""
        for name in list(self._functions):
            if isinstance(name, tuple) and name[0] is owner:
                del self._functions[name]

    def capture(self, run: Callable[[], None], name: Hashable) -> Any:
        """Return a graph of what ``run`` launches, which is not yet computed."""
        if not self.num_graphs:  # torch takes no handle whose graphs are all gone
            self._handle = torch.cuda.graph_pool_handle()
        torch.cuda.empty_cache()  # as capturing does too, which must not count as less
        before = torch.cuda.memory_reserved(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._handle, capture_error_mode='thread_local'):
            run()
        more = (torch.cuda.memory_reserved(self.device) - before) / _MEGABYTE
        _log.info('captured %s: %.0f MB more, %d CUDA graphs before', name, more, self.num_graphs)
        return graph


class FixedShapeFunction:
    """
    A function of fixed shapes; from its second call on it is a single launch.

    The first call runs it as it is, which also makes the libraries load and plan; the second
    captures it. So what comes only once is never captured, and capturing has no effects.
    ``run`` reads from and writes to memory that stays where it is, and waits for nothing.
    ``buffers`` is where callers set what it reads, and find what it writes.
    """

    pool: GraphPool
    name: Hashable

    def __init__(self, run: Callable[[], None], buffers: Any = None) -> None:
        self.buffers = buffers
        self._run = run
        self._graph: Any = None
        self._num_calls = 0

    @property
    def is_captured(self) -> bool:
        """Whether the next call is a single launch."""
        return self._graph is not None

    def __call__(self) -> None:
        """Run it, or replay what it did."""
        if self.pool.device.type != 'cuda':
            self._run()
            return
        self._num_calls += 1
        with torch.cuda.device(self.pool.device):  # where kernels and graphs are launched
            if self._graph is None and self._num_calls == 2:
                self._capture()
            if self._graph is None:
                self._run()
            else:
                self._graph.replay()

    def _capture(self) -> None:
        try:
            self._graph = self.pool.capture(self._run, self.name)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _log.warning(
                '%s cannot be captured in a CUDA graph and stays slow: %s', self.name, error)
