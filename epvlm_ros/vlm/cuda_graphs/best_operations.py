"""Fused kernels where they run with a model, else plain torch."""

from __future__ import annotations

import logging

from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights

_log = logging.getLogger(__name__)


def find_operations(weights: DecoderWeights) -> Operations:
    """Return fused kernels after their self-check, or plain torch with a warning on a GPU."""
    if not weights.embedding.is_cuda:
        return Operations()
    try:
        from epvlm_ros.vlm.cuda_graphs.kernels import self_checked
        return self_checked(weights)
    except (ImportError, RuntimeError) as error:
        _log.warning('no fused kernels, plain torch instead: %s', error)
        return Operations()
