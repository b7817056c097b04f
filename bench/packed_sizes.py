#!/usr/bin/env python3
"""
Sizes of the kernels for one token and a few, with packed weights of the matrices of 2B and 7B.

Kernels are compiled by several processes first. Times are those in a CUDA graph over as many
matrices as the cache of the device does not hold, beside the kernel for bfloat16.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from typing import Any, NamedTuple

from epvlm_ros.vlm.cuda_graphs.kernels import PackedOperations
from epvlm_ros.vlm.cuda_graphs.weights import Linear, Mlp, Norm
import torch
from torch import Tensor
from vlm_models import random_matrix

# rows of a program, chunks of 16 bytes read at a time, warps
SIZES = ((4, 16, 1), (8, 64, 4), (4, 128, 4), (4, 64, 4), (2, 64, 4), (4, 32, 4))
# for a few tokens: rows, bytes of each read at a time, warps, stages, parts for each processor
FEW_SIZES = ((64, 64, 4, 4, 2), (64, 64, 4, 3, 4), (64, 64, 4, 6, 2), (128, 64, 8, 4, 2),
             (128, 64, 4, 4, 2), (64, 128, 4, 3, 2), (128, 128, 8, 3, 2))
NUM_TOKENS = (16, 48)
MATRICES = {  # rows, columns
    '2b': {'qkv': (2048, 1536), 'out': (1536, 1536), 'gate_up': (17920, 1536),
           'down': (1536, 8960), 'head': (151936, 1536)},
    '7b': {'qkv': (4608, 3584), 'out': (3584, 3584), 'gate_up': (37888, 3584),
           'down': (3584, 18944), 'head': (152064, 3584)}}
MEMORY = 200e6  # bytes of the matrices that are read in turn
_SHORTEST = 5  # of so many runs
_NUM_COMPILED_PARTS = 2  # that sizes of a product are compiled in, side by side


class Case(NamedTuple):
    """A product: shape of the model, name of the matrix, bits of its weights, and tokens."""

    shape: str
    name: str
    bits: int
    tokens: int = 1


def cases(shapes: list[str]) -> Iterator[Case]:
    """Yield all products; the output layer has 8 bits in any case."""
    for shape in shapes:
        for name in MATRICES[shape]:
            for bits in (8,) if name == 'head' else (4, 8):
                yield Case(shape, name, bits)
                if name != 'head':  # of the last token alone
                    for tokens in NUM_TOKENS:
                        yield Case(shape, name, bits, tokens)


class Product:
    """Runs one product with the sizes that are asked for."""

    def __init__(self, case: Case, starts_early: bool, num_matrices: int = 0) -> None:
        rows, columns = MATRICES[case.shape][case.name]
        self._name, self._operations = case.name, PackedOperations(
            programmatic_launch=starts_early)
        self._num_tokens = case.tokens
        self.bytes = rows * columns * case.bits / 8
        number = num_matrices or max(2, int(MEMORY / self.bytes))
        if case.bits == 16:
            self._matrices: list[Any] = [
                torch.randn(rows, columns, device='cuda', dtype=torch.bfloat16)
                for _ in range(number)]
        else:
            self._matrices = [random_matrix(rows, columns, case.bits, 'cuda')
                              for _ in range(number)]
        self._hidden = torch.randn(case.tokens, columns, device='cuda', dtype=torch.bfloat16)
        self._norm = Norm(torch.ones_like(self._hidden[0]), None, 1e-6)
        self._result = torch.zeros(case.tokens, rows, device='cuda', dtype=torch.bfloat16)

    def run(self, sizes: dict[str, int] | None) -> None:
        """Run it with each matrix; None is what the operations choose."""
        for matrix in self._matrices:
            self._run(Linear(matrix), sizes)

    def _run(self, linear: Linear, sizes: dict[str, int] | None) -> None:
        if self._num_tokens > 1:
            if sizes is None:
                self._operations.split_k_linear(self._hidden, linear)
            else:
                self._operations._products.run_few(self._hidden, linear, sizes)
            return
        is_gated, adds = self._name == 'gate_up', self._name in ('out', 'down')
        if sizes is None or isinstance(linear.weight, Tensor):
            if is_gated:
                self._operations.gated_linear(
                    self._hidden, self._norm, Mlp(linear, linear, 'gated_silu'))
            elif adds:
                self._operations.linear_add(self._hidden, linear, self._result)
            else:
                self._operations.linear(self._hidden, self._norm, linear)
            return
        result = self._result[:, :self._result.shape[1] // 2] if is_gated else self._result
        self._operations._products.run_token(
            self._hidden, None if adds else self._norm, linear, result, adds=adds,
            is_gated=is_gated, sizes=sizes)

    def time_us(self, sizes: dict[str, int] | None) -> float:
        """Return the time of one product on the device."""
        self.run(sizes)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.run(sizes)
        times_ms = []
        for _ in range(_SHORTEST):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times_ms.append(start.elapsed_time(end))
        return min(times_ms) * 1e3 / len(self._matrices)


def named(size: tuple[int, ...], case: Case) -> dict[str, int]:
    """Return what the kernel takes."""
    if case.tokens == 1:
        return dict(zip(('BLOCK_ROWS', 'BLOCK_CHUNKS', 'num_warps'), size))
    rows, columns = MATRICES[case.shape][case.name]
    processors = torch.cuda.get_device_properties('cuda').multi_processor_count
    block = min(size[1], 64) if case.bits == 4 else size[1]  # 64 bytes are a group of 4 bits
    steps = columns * case.bits // 8 // block
    most = min(max(1, size[4] * processors // -(-rows // size[0])), max(1, steps // 2))
    return {'BLOCK_ROWS': size[0], 'BLOCK': block, 'num_warps': size[2], 'STAGES': size[3],
            'parts': max(part for part in range(1, most + 1) if steps % part == 0)}


def sizes_of(case: Case) -> list[tuple[int, ...]]:
    """Return the sizes that are tried."""
    if case.tokens == 1:
        return list(SIZES)
    return [size for size in FEW_SIZES if size[1] == 64 or case.bits == 8]


def compile_sizes(case: Case, part: int) -> str:
    """Compile some of the sizes for a product, into Triton's cache."""
    product = Product(case, starts_early(case), num_matrices=1)
    for size in sizes_of(case)[part::_NUM_COMPILED_PARTS]:
        try:
            product.run(named(size, case))
        except Exception as error:  # one that does not compile is left out
            return f'{case} {size}: {type(error).__name__}'
    return ''


def starts_early(case: Case) -> bool:
    """Return whether kernels of the model start early."""
    return case.shape == '2b' or case.bits == 4


def measure(case: Case) -> None:
    """Print times of all sizes of one product."""
    plain = Product(case._replace(bits=16), case.shape == '2b').time_us(None)
    product, times = Product(case, starts_early(case)), {}
    for size in sizes_of(case):
        try:
            times[size] = product.time_us(named(size, case))
        except Exception as error:
            print(case, size, type(error).__name__, str(error)[:80])
    best = sorted(times, key=lambda size: times[size])
    today = product.time_us(None)
    print(f'{case.shape} {case.name:8} {case.bits} bits, {case.tokens:2} tokens: bfloat16 '
          f'{plain:6.2f} us, default {today:6.2f}, best {times[best[0]]:6.2f} '
          f'({product.bytes / times[best[0]] / 1e3:5.0f} GB/s); ' + ', '.join(
              f'{"x".join(map(str, size))} {times[size]:.2f}' for size in best), flush=True)


def main() -> None:
    """Compile, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('--shapes', nargs='+', choices=list(MATRICES), default=list(MATRICES))
    parser.add_argument('--tokens', type=int, nargs='+', default=[1, *NUM_TOKENS])
    parser.add_argument('--processes', type=int, default=12, help='that compile; 0 for none')
    parser.add_argument('--only-compile', action='store_true')
    options = parser.parse_args()
    found = [case for case in cases(options.shapes) if case.tokens in options.tokens]
    if options.processes:
        compile_all(found, options.processes)
    if not options.only_compile:
        for case in found:
            measure(case)


def compile_all(found: list[Case], num_processes: int) -> None:
    """Compile all sizes; prints which do not."""
    parts = range(_NUM_COMPILED_PARTS)
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        for message in pool.map(
                compile_sizes, found * len(parts), [part for part in parts for _ in found]):
            if message:
                print(message)


if __name__ == '__main__':
    main()
