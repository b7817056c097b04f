"""Compilation of the loops over events by numba, with a cache on disk where there is one."""

import logging
import os
from typing import Any, Callable, cast, TypeVar

from llvmlite import ir
import numba
from numba.core.caching import FunctionCache
from numba.extending import intrinsic
import numpy as np

Function = TypeVar('Function', bound=Callable[..., Any])

_logger = logging.getLogger(__name__)
_warned: set[str] = set()


class _RepairingCache(FunctionCache):  # type: ignore[misc]
    """
    Numba's cache of one function, which compiles again what it finds damaged on disk.

    Numba replaces files but does not wait until they are on the disk: after a power loss they may
    be empty or cut off.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code of a signature, None if there is none that can be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # noqa: B902  half of a pickle raises anything
            _warn_once('damaged', (
                f'compiled code in {self.cache_path} is damaged ({type(error).__name__}): it is '
                'compiled again, which takes some seconds'))
        try:
            self.flush()
        except OSError:  # the folder is not ours to write to
            self.disable()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code, if the disk takes it."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_once('unsaved', (
                f'compiled code cannot be kept ({error}): every start takes some seconds longer. '
                'Set NUMBA_CACHE_DIR to a folder that can be written.'))


def compiled(function: Function) -> Function:
    """
    Compile ``function``, in numba's subset of Python, at its first call; keep the code on disk.

    The function runs without the interpreter's lock. Where neither the package's folder nor the
    user's cache folder can be written, it is compiled again in every process.
    """
    dispatcher: Any = numba.njit(nogil=True)(function)
    try:
        dispatcher._cache = _RepairingCache(function)
    except RuntimeError as error:  # numba found no folder that it may write
        _warn_once('unsaved', (
            f'compiled code cannot be kept ({error}): every start takes some seconds longer. '
            'Set NUMBA_CACHE_DIR to a folder that can be written.'))
        return cast(Function, dispatcher)
    # Numba looks at the age of the function's own file alone, and would go on with the old code
    # of what it calls in other files.
    cache_file: Any = getattr(dispatcher._cache, '_cache_file', None)
    if hasattr(cache_file, '_source_stamp'):
        stats = [os.stat(source) for source in sorted(_find_sources(function) | {__file__})]
        cache_file._source_stamp = [(stat.st_mtime, stat.st_size) for stat in stats]
    return cast(Function, dispatcher)


def read_only(array: np.ndarray) -> np.ndarray:
    """
    Return the array, contiguous and not writable; what was given is not changed.

    Numba compiles a function anew for arrays that can be written, or are not contiguous.
    """
    array = np.ascontiguousarray(array).view()
    array.setflags(write=False)
    return array


def _warn_once(kind: str, text: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        _logger.warning('%s', text)


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
