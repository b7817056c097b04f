"""How much memory is taken, and what happens when it does not suffice."""

from __future__ import annotations

from collections.abc import Callable
import gc
import os
from pathlib import Path
from typing import TypeVar

from epvlm_ros.vlm.model_error import ModelError
import torch

Result = TypeVar('Result')
# How torch and its libraries say in a RuntimeError that memory is short.
SHORTAGES = (
    'not enough memory', "can't allocate memory", 'bad_alloc', 'out of memory', 'alloc_failed')


class OutOfMemory(ModelError):
    """There is not enough memory for a question; the text names the remedy."""


def memory_taken(device_name: str) -> int:
    """Return bytes: on a GPU those of all tensors, else those of the process that are resident."""
    if torch.device(device_name).type == 'cuda':
        return torch.cuda.memory_allocated(device_name)
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def within_memory(
    work: Callable[[], Result], forget: Callable[[], None], device_name: str,
) -> Result:
    """
    Do what needs memory; if there is not enough of it, clean up and raise ``OutOfMemory``.

    ``forget`` lets go of what can be computed again. Whatever else ``work`` raises goes through.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        text = ' '.join(str(error).split())
        if not _is_shortage(error, text):
            raise
    # Only out here nothing holds on to what was being computed: the error held its frames.
    forget()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    raise OutOfMemory(
        f'not enough memory on {device_name}: lower keep_ratio, max_pixels or max_new_tokens, '
        f'send smaller images, or ask about fewer moments (reason: {text[:200]})')


def _is_shortage(error: Exception, text: str) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in text.lower() for words in SHORTAGES)
