"""Attention of torch: the fastest way for a shape, and attention within sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import logging
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import sdpa_kernel, SDPBackend

_log = logging.getLogger(__name__)
_BACKENDS = {'flash': SDPBackend.FLASH_ATTENTION, 'cudnn': SDPBackend.CUDNN_ATTENTION}
_NUMS_PARTS = (2, 3, 4, 6, 8, 9)  # of the keys, equal ones
_NUMS_KERNEL_PARTS = (1, 2, 3, 4, 5, 6, 8)
_NUM_RUNS = 5
_HEAD_START_CYCLES = 1_000_000  # of the device, in which all kernels of a run are launched
_TOLERANCE = 0.02  # largest ||difference|| / ||result||; of bfloat16 about 0.003, of a bug 1

# From query, key and value (any, heads, tokens, head_dim) to the mixed values, of the shape of the
# query, and the logarithms of the sums of exponentials, float32 (any, heads, tokens).
AttentionWithSums = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

# The same from (1, heads, tokens, head_dim), and the number of parts that the keys are divided
# into: mixed values (parts, heads, tokens, head_dim) and float32 (parts, heads, tokens).
PartAttention = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
_Choice = tuple[str, int]  # name of a backend of torch or of a kernel, number of parts


class PartOperations(Protocol):
    """What attention to parts of the keys is made of, see ``Operations``."""

    def merge_parts(self, mixed: Tensor, sums: Tensor) -> Tensor:
        """Weigh the parts against each other."""

    def find_part_kernels(
        self, query: Tensor, key: Tensor, value: Tensor,
    ) -> Mapping[str, PartAttention]:
        """Return kernels for such tensors."""


class FastestAttention:
    """
    ``scaled_dot_product_attention`` in the way that is the fastest for its shape.

    Measured on the first call with a shape. On a CPU and in float32 it is left to torch.

    Parameters
    ----------
    operations : PartOperations, optional
        Where there are few queries and many keys, which are views of caches: then the keys may
        be divided, so that there is work for all processors.

    """

    def __init__(self, operations: PartOperations | None = None) -> None:
        self._operations = operations
        self._choices: dict[Any, _Choice | None] = {}

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        """Take and return (1, heads, tokens, head_dim)."""
        inputs = (query, key, value)
        if not query.is_cuda or query.dtype == torch.float32:
            return functional.scaled_dot_product_attention(*inputs, **options)
        shape = (query.shape, key.shape, tuple(options.items()))
        if shape not in self._choices:
            if torch.cuda.is_current_stream_capturing():
                return functional.scaled_dot_product_attention(*inputs, **options)
            self._choices[shape] = self._choose(inputs, options)
        choice = self._choices[shape]
        if choice is None:
            return functional.scaled_dot_product_attention(*inputs, **options)
        return self._attend(choice, inputs, options)

    def _attend(
        self, choice: _Choice, inputs: tuple[Tensor, Tensor, Tensor], options: dict[str, Any],
    ) -> Tensor:
        name, num_parts = choice
        if num_parts == 1 and name in _BACKENDS:
            with sdpa_kernel(_BACKENDS[name]):
                return functional.scaled_dot_product_attention(*inputs, **options)
        assert self._operations is not None
        if name in _BACKENDS:
            return attend_in_parts(
                *inputs, num_parts, _WITH_SUMS[name], self._operations.merge_parts)
        kernel = self._operations.find_part_kernels(*inputs)[name]
        mixed, sums = kernel(*inputs, num_parts)
        return mixed if len(mixed) == 1 else self._operations.merge_parts(
            mixed, sums).transpose(0, 1)[None]

    def _choose(
        self, inputs: tuple[Tensor, Tensor, Tensor], options: dict[str, Any],
    ) -> _Choice | None:
        times_ms: dict[_Choice, float] = {}

        def measure(choice: _Choice, expected: Tensor | None) -> None:
            try:
                found = self._attend(choice, inputs, options)
                if expected is None or _agree(found, expected):
                    times_ms[choice] = shortest_ms(
                        lambda: self._attend(choice, inputs, options))
                else:
                    _log.warning('attention by %s is wrong here and not used', choice)
            except RuntimeError as error:  # there is no such kernel for this shape or this card
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                _log.debug('no attention by %s: %s', choice, error)

        def fastest() -> _Choice | None:
            return min(times_ms, key=lambda choice: times_ms[choice], default=None)

        for name in _BACKENDS:
            measure((name, 1), None)
        whole = fastest()
        num_queries, num_keys = inputs[0].shape[2], inputs[1].shape[2]
        if whole and self._operations and not options and 2 * num_queries <= num_keys:
            expected = self._attend(whole, inputs, options)
            for num_parts in _NUMS_PARTS:
                if num_keys % num_parts == 0:
                    measure((whole[0], num_parts), expected)
            for name in self._operations.find_part_kernels(*inputs):
                for num_parts in _NUMS_KERNEL_PARTS:
                    measure((name, num_parts), expected)
        chosen = fastest()
        _log.info('attention of %s to %s: %s of %s ms', tuple(inputs[0].shape), num_keys, chosen, {
            f'{name} {num_parts}': round(time_ms, 4)
            for (name, num_parts), time_ms in times_ms.items()})
        return chosen


def attend_in_parts(
    query: Tensor, key: Tensor, value: Tensor, num_parts: int, attend: AttentionWithSums,
    merge: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """
    Attend to equal parts of the keys side by side, and merge what comes of them.

    Takes and returns (1, heads, tokens, head_dim); the number of keys is a multiple of
    ``num_parts``, and no key is copied.
    """
    parts = [states[0].unflatten(1, (num_parts, -1)).transpose(0, 1) for states in (key, value)]
    mixed, sums = attend(query.expand(num_parts, -1, -1, -1), *parts)
    return merge(mixed, sums.view(mixed.shape[:3])).transpose(0, 1)[None]


def _flash_with_sums(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    mixed, sums, *_ = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)
    return mixed, sums


def _cudnn_with_sums(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    mixed, sums, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        query, key, value, None, True)
    return mixed, sums


_WITH_SUMS: dict[str, AttentionWithSums] = {
    'flash': _flash_with_sums, 'cudnn': _cudnn_with_sums}


def _agree(found: Tensor, expected: Tensor) -> bool:
    difference = (found.float() - expected.float()).norm()
    return bool(difference <= _TOLERANCE * expected.float().norm())


def shortest_ms(run: Callable[[], Any]) -> float:
    """Return the time on the device, as in a CUDA graph: without waiting for the host."""
    times_ms = []
    for _ in range(_NUM_RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(_HEAD_START_CYCLES)
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
