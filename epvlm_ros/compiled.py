"""Compilation of the loops over events by numba, with a cache on disk where there is one."""

import logging
import os
from typing import Any, Callable, TypeVar

from llvmlite import ir
import numba
from numba.extending import intrinsic

Function = TypeVar('Function', bound=Callable[..., Any])

_logger = logging.getLogger(__name__)
_warned = False


def compiled(function: Function) -> Function:
    """
    Compile ``function``, in numba's subset of Python, at its first call; keep the code on disk.

    The function runs without the interpreter's lock. Where neither the package's folder nor the
    user's cache folder can be written, it is compiled again in every process.
    """
    global _warned
    try:
        dispatcher = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError as error:  # numba found no folder that it may write
        if not _warned:
            _logger.warning(
                'compiled code cannot be kept (%s): every start takes some seconds longer. Set '
                'NUMBA_CACHE_DIR to a folder that can be written.', error)
            _warned = True
        return numba.njit(nogil=True)(function)  # type: ignore
    # Numba looks at the age of the function's own file alone, and would go on with the old code
    # of what it calls in other files.
    cache_file: Any = getattr(getattr(dispatcher, '_cache', None), '_cache_file', None)
    if hasattr(cache_file, '_source_stamp'):
        stats = [os.stat(source) for source in sorted(_find_sources(function) | {__file__})]
        cache_file._source_stamp = [(stat.st_mtime, stat.st_size) for stat in stats]
    return dispatcher  # type: ignore


def _find_sources(function: Callable[..., Any]) -> set[str]:
    """Return the files of a function and of all compiled functions that it calls."""
    seen = {function}
    waiting = [function]
    while waiting:
        caller = waiting.pop()
        for name in caller.__code__.co_names:
            called = getattr(caller.__globals__.get(name), 'py_func', None)
            if called is not None and called not in seen:
                seen.add(called)
                waiting.append(called)
    return {one.__code__.co_filename for one in seen}


def _define_count_bits(_: Any, value: Any) -> Any:
    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return value(value), generate


# In compiled code only: the number of set bits of an integer, in its type. One instruction.
count_bits: Any = intrinsic(_define_count_bits)
