"""Compilation of the loops over events by numba, with a cache on disk where there is one."""

import logging
from typing import Any, Callable, TypeVar

import numba

Function = TypeVar('Function', bound=Callable[..., Any])

_logger = logging.getLogger(__name__)
_warned = False


def compiled(function: Function) -> Function:
    """
    Compile ``function`` at its first call and keep the machine code on disk.

    The function runs without the interpreter's lock. Where neither the package's folder nor the
    user's cache folder can be written, the function is compiled anew in every process.

    Parameters
    ----------
    function : callable
        A function in numba's subset of Python.

    Returns
    -------
    callable
        The compiled function, with the same arguments.

    """
    global _warned
    try:
        return numba.njit(cache=True, nogil=True)(function)  # type: ignore
    except RuntimeError as error:  # numba found no folder that it may write
        if not _warned:
            _logger.warning(
                'compiled code cannot be kept (%s): every start takes some seconds longer. Set '
                'NUMBA_CACHE_DIR to a folder that can be written.', error)
            _warned = True
        return numba.njit(nogil=True)(function)  # type: ignore
