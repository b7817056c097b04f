"""Attention of torch: the fastest kernel for a shape, and attention within sequences."""

from __future__ import annotations

from collections.abc import Callable
import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import sdpa_kernel, SDPBackend

_log = logging.getLogger(__name__)
_CANDIDATES = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION)
_NUM_RUNS = 5


class FastestAttention:
    """
    ``scaled_dot_product_attention`` by the kernel that is the fastest for its shape.

    Measured on the first call with a shape. On a CPU and in float32 it is left to torch.
    """

    def __init__(self) -> None:
        self._choices: dict[Any, SDPBackend | None] = {}

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        """Take and return (1, heads, tokens, head_dim)."""
        def attend() -> Tensor:
            return functional.scaled_dot_product_attention(query, key, value, **options)
        if not query.is_cuda or query.dtype == torch.float32:
            return attend()
        shape = (query.shape, key.shape, tuple(options.items()))
        if shape not in self._choices:
            self._choices[shape] = self._choose(attend, shape)
        backend = self._choices[shape]
        if backend is None:
            return attend()
        with sdpa_kernel(backend):
            return attend()

    def _choose(self, attend: Callable[[], Tensor], shape: Any) -> SDPBackend | None:
        if torch.cuda.is_current_stream_capturing():
            return None
        times_ms = {}
        for backend in _CANDIDATES:
            try:
                with sdpa_kernel(backend):
                    times_ms[backend] = _shortest_ms(attend)
            except RuntimeError:  # there is no such kernel for this shape or on this card
                continue
        chosen = min(times_ms, key=lambda backend: times_ms[backend], default=None)
        _log.info('attention of %s: %s of %s ms', shape, chosen, times_ms)
        return chosen


def _shortest_ms(run: Callable[[], Any]) -> float:
    run()
    times_ms = []
    for _ in range(_NUM_RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times_ms.append(start.elapsed_time(end))
    return min(times_ms)


class VarlenAttention:
    """
    Lets every patch attend to those of its own sequence: an image, a window, the padding.

    By the kernel for sequences of any length on a GPU, if it runs there; else with a mask.
    """

    def __init__(self) -> None:
        self._is_refused = False

    def __call__(self, qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
        """
        Return the mixed values, shape (patches, heads * head_dim).

        Parameters
        ----------
        qkv : torch.Tensor
            Shape (patches, 3, heads, head_dim).
        cu_seqlens : torch.Tensor
            int32, shape (sequences + 1,), bounds of the sequences from 0 to the number of
            patches; sequences may be empty.
        max_seqlen : int
            Most patches of one of them.

        """
        if qkv.is_cuda and qkv.dtype != torch.float32 and not self._is_refused:
            try:
                return _attend_to_sequences(qkv, cu_seqlens, max_seqlen)
            except (ImportError, RuntimeError, TypeError) as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                _log.warning('variable-length attention falls back to a mask: %s', error)
                self._is_refused = True
        places = torch.arange(len(qkv), dtype=cu_seqlens.dtype, device=qkv.device)
        sequence = torch.bucketize(places, cu_seqlens, right=True)
        query, key, value = qkv.permute(1, 2, 0, 3)[:, None]
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=sequence[:, None] == sequence)
        return mixed[0].transpose(0, 1).flatten(1)


def _attend_to_sequences(qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn
    query, key, value = qkv.unbind(1)
    mixed: Any = varlen_attn(query, key, value, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen)
    return mixed.flatten(1)
