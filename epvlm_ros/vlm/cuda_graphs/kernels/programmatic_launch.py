"""Kernels that start while the one before is still at work (programmatic dependent launch)."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def wait_for_others(PROGRAMMATIC_LAUNCH: tl.constexpr):
    """
    Let the kernel behind this one start, and go on when the ones before it are finished.

    What comes before may only read what no kernel of a step writes, such as weights. Each of
    several kernels in a row that start early has to wait: the one behind it waits for it alone.
    """
    if PROGRAMMATIC_LAUNCH:
        gdc_launch_dependents()
        gdc_wait()
