"""Attention in the fastest way, and to parts of the keys that are merged."""

from __future__ import annotations

from epvlm_ros.vlm.cuda_graphs.attention import (
    attend_in_parts, FastestAttention, PartAttention)
from epvlm_ros.vlm.cuda_graphs.operations import Operations
import pytest
from qwen_checkpoints import needs_gpu
import torch
from torch import Tensor


def full_softmax(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = query.double(), key.double(), value.double()
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return scores.softmax(dim=-1) @ value


def attend_with_sums(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    mixed, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    return mixed, sums


def draw_scene(
    num_queries: int, num_keys: int, heads: int, dim: int, dtype: torch.dtype,
    device: str = 'cpu',
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries as they are rotated, and views of caches with spare slots behind them."""
    random = torch.Generator(device).manual_seed(num_queries)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device=device).to(dtype)

    query = 2.0 * draw(num_queries, 3 * heads, dim)[:, :heads].transpose(0, 1)[None]
    key, value = (draw(heads, num_keys + 4, dim)[None] for _ in range(2))
    for states in (key, value):
        states[:, :, num_keys:] = 100.0  # must never be attended to
    return query, key[:, :, :num_keys], value[:, :, :num_keys]


@pytest.mark.parametrize('num_parts', [1, 2, 3, 4, 6])
def test_parts_of_the_keys_give_what_all_of_them_give(num_parts: int) -> None:
    query, key, value = draw_scene(5, 36, 3, 8, torch.float64)
    # what is seen lies in one part for some queries, in another or everywhere for others
    key[:, :, 30] *= 8.0
    key[:, :, 2] *= 4.0
    found = attend_in_parts(
        query, key, value, num_parts, attend_with_sums, Operations().merge_parts)
    # sums are float32
    torch.testing.assert_close(found, full_softmax(query, key, value), rtol=0.0, atol=2e-6)


def test_parts_are_weighed_by_their_sums_of_exponentials() -> None:
    """Sums of 3 and 1 in one head, of equal size in the other, and far beyond float32."""
    mixed = torch.tensor([[[[8.0, 0.0]], [[2.0, 4.0]]], [[[0.0, 4.0]], [[4.0, 2.0]]]])
    sums = torch.tensor([[[3.0]], [[1.0]]]).log().expand(2, 2, 1).clone()
    sums[:, 1] = 1000.0
    merged = Operations().merge_parts(mixed, sums)
    torch.testing.assert_close(merged, torch.tensor([[[6.0, 1.0], [3.0, 3.0]]]))


class Kernels(Operations):
    """One that is right, one that is wrong and one that does not compile."""

    def find_part_kernels(
        self, query: Tensor, key: Tensor, value: Tensor,
    ) -> dict[str, PartAttention]:
        return {'right': self._attend, 'wrong': self._forget_last_part, 'broken': self._fail}

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, num_parts: int,
    ) -> tuple[Tensor, Tensor]:
        parts = [states[0].unflatten(1, (num_parts, -1)).transpose(0, 1)
                 for states in (key, value)]
        return attend_with_sums(query.expand(num_parts, -1, -1, -1), *parts)

    def _forget_last_part(
        self, query: Tensor, key: Tensor, value: Tensor, num_parts: int,
    ) -> tuple[Tensor, Tensor]:
        return self._attend(query, key[:, :, :120], value[:, :, :120], num_parts)

    def _fail(
        self, query: Tensor, key: Tensor, value: Tensor, num_parts: int,
    ) -> tuple[Tensor, Tensor]:
        raise RuntimeError('OutOfResources: shared memory')


def test_the_fastest_kernel_that_is_right_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way that is measured takes less time than the one before."""
    times_ms = iter(range(100, 0, -1))
    monkeypatch.setattr(
        'epvlm_ros.vlm.cuda_graphs.attention.shortest_ms', lambda run: next(times_ms))
    inputs = draw_scene(16, 240, 3, 8, torch.float32)
    attention = FastestAttention(Kernels())
    choice = attention._choose(inputs, {})
    assert choice == ('right', 8)
    for num_parts in (1, 8):
        torch.testing.assert_close(
            attention._attend(('right', num_parts), inputs, {}).double(), full_softmax(*inputs),
            rtol=0.0, atol=1e-5)


@needs_gpu
@pytest.mark.parametrize('num_queries, num_keys, dim', [
    (64, 1536, 80), (272, 1564, 80), (512, 4784, 80), (1088, 10764, 80), (272, 1564, 72)])
def test_the_fastest_way_is_attention(num_queries: int, num_keys: int, dim: int) -> None:
    from epvlm_ros.vlm.cuda_graphs.kernels import FusedOperations

    query, key, value = draw_scene(num_queries, num_keys, 16, dim, torch.bfloat16, 'cuda')
    expected = full_softmax(query, key, value)
    attention = FastestAttention(FusedOperations())
    found = attention(query, key, value)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = attention(query, key, value)
    graph.replay()
    for mixed in (found, captured):
        assert (mixed.double() - expected).norm() <= 0.01 * expected.norm()


@needs_gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('num_parts', [2, 4, 9])
def test_the_kernel_merges_as_plain_torch_does(num_parts: int, dtype: torch.dtype) -> None:
    """Parts as a backend may lay them out: by tokens or by heads."""
    from epvlm_ros.vlm.cuda_graphs.kernels import FusedOperations

    random = torch.Generator('cuda').manual_seed(0)
    mixed = torch.randn(num_parts, 37, 16, 80, generator=random, device='cuda').to(dtype)
    sums = 5.0 * torch.randn(num_parts, 16, 37, generator=random, device='cuda')
    for laid_out in (mixed.transpose(1, 2), mixed.transpose(1, 2).contiguous()):
        torch.testing.assert_close(
            FusedOperations().merge_parts(laid_out, sums),
            Operations().merge_parts(laid_out, sums))


@needs_gpu
@pytest.mark.parametrize('num_queries, num_keys, dim', [
    (64, 128, 80), (100, 1563, 80), (272, 1564, 128)])
def test_kernels_attend_to_parts_of_the_keys(num_queries: int, num_keys: int, dim: int) -> None:
    """As they are and from a CUDA graph, with what stands behind the keys out of sight."""
    from epvlm_ros.vlm.cuda_graphs.kernels import FusedOperations

    operations = FusedOperations()
    inputs = draw_scene(num_queries, num_keys, 4, dim, torch.bfloat16, 'cuda')
    expected = full_softmax(*inputs)[0].transpose(0, 1)
    kernels = operations.find_part_kernels(*inputs)
    assert bool(kernels) == (torch.cuda.get_device_capability() >= (9, 0))
    for kernel in kernels.values():
        for num_parts in (1, 2, 5):
            found = operations.merge_parts(*kernel(*inputs, num_parts))
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = operations.merge_parts(*kernel(*inputs, num_parts))
            graph.replay()
            for mixed in (found, captured):
                assert (mixed.double() - expected).norm() <= 0.01 * expected.norm()
