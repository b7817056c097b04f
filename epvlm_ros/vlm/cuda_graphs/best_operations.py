"""Fused kernels where they run with a model, else plain torch."""

from __future__ import annotations

import logging

from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights

_log = logging.getLogger(__name__)


def find_operations(weights: DecoderWeights) -> Operations:
    """Return fused kernels after their self-check, or plain torch with a warning on a GPU."""
    if not weights.like.is_cuda:
        return Operations()
    try:
        from epvlm_ros.vlm.cuda_graphs.kernels import self_checked
        return self_checked(weights)
    except (ImportError, RuntimeError) as error:
        _log.warning('no fused kernels, plain torch instead: %s', error)
    except (OSError, ValueError, EOFError) as error:  # what a file that was cut off raises
        _log.warning(
            'no fused kernels, plain torch instead: %s (%s). If the power failed, remove the '
            'cache of Triton, ~/.triton/cache or TRITON_CACHE_DIR: it is made anew.',
            type(error).__name__, error)
    return Operations()
