"""Functions that are recorded once, in a CUDA graph, and from then on only replayed."""

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
    is as large as the largest one needs, whichever are recorded, given up and recorded again.

    Parameters
    ----------
    device : torch.device
        On a CPU nothing is recorded.
    max_functions : int
        Most of them, at least 1; the one that was not used for longest is given up for a new one.

    """

    def __init__(self, device: torch.device, max_functions: int) -> None:
        self.device = device
        self._max_functions = max_functions
        self._functions: OrderedDict[Hashable, FixedFunction] = OrderedDict()
        self._handle: Any = None

    @property
    def num_recordings(self) -> int:
        """How many functions are replayed."""
        return sum(function.is_recorded for function in self._functions.values())

    def find(self, name: Hashable, make: Callable[[], FixedFunction]) -> FixedFunction:
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

    def record(self, run: Callable[[], None], name: Hashable) -> Any:
        """Return a graph of what ``run`` launches, which is not yet computed."""
        if self._handle is None:
            self._handle = torch.cuda.graph_pool_handle()
        torch.cuda.empty_cache()  # as recording does too, which must not count as less
        before = torch.cuda.memory_reserved(self.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._handle, capture_error_mode='thread_local'):
            run()
        more = (torch.cuda.memory_reserved(self.device) - before) / _MEGABYTE
        _log.info('recorded %s: %.0f MB more, %d before it', name, more, self.num_recordings)
        return graph


class FixedFunction:
    """
    A function of fixed shapes; from its second call on it is a single launch.

    The first call runs it as it is, which also makes the libraries load and plan; the second
    records it. So what comes only once is never recorded, and recording has no effects.

    Parameters
    ----------
    run : callable
        Takes and returns nothing, reads from and writes to memory that stays where it is, and
        waits for nothing.
    buffers : object
        Where callers set what it reads, and find what it writes.

    """

    pool: GraphPool
    name: Hashable

    def __init__(self, run: Callable[[], None], buffers: Any = None) -> None:
        self.buffers = buffers
        self._run = run
        self._graph: Any = None
        self._num_calls = 0

    @property
    def is_recorded(self) -> bool:
        """Whether the next call is a single launch."""
        return self._graph is not None

    def __call__(self) -> None:
        """Run it, or replay what it did."""
        if self.pool.device.type != 'cuda':
            self._run()
            return
        self._num_calls += 1
        with torch.cuda.device(self.pool.device):  # where kernels and recordings are launched
            if self._graph is None and self._num_calls == 2:
                self._record()
            if self._graph is None:
                self._run()
            else:
                self._graph.replay()

    def _record(self) -> None:
        try:
            self._graph = self.pool.record(self._run, self.name)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _log.warning('%s cannot be recorded and stays slow: %s', self.name, error)
