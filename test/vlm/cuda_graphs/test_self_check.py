"""Kernels that compute something else are found out before an answer is built on them."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl
from epvlm_ros.vlm.cuda_graphs.operations import Operations, whole
from epvlm_ros.vlm.cuda_graphs.self_check import check_operations, run_language_model
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, Linear, Mlp
from epvlm_ros.vlm.sparse_qwen import SparseQwenVl
import pytest
from qwen_checkpoints import make_model, make_prompt_for, make_vision, needs_gpu
import torch
from torch import Tensor
from torch.nn import functional


@pytest.fixture(scope='module')
def weights() -> DecoderWeights:
    model = make_model('narrow')
    return DecoderWeights.of(model.model.language_model, model.lm_head)


class WrongRotation(Operations):

    def apply_rope(self, values: Any, cos: Any, sin: Any) -> None:
        super().apply_rope(values, cos, -sin)


class WrongSum(Operations):

    def linear_add(self, values: Any, linear: Any, hidden: Any) -> None:
        super().linear_add(1.2 * values, linear, hidden)


class NoNumber(Operations):

    def gated_linear(self, hidden: Any, norm: Any, mlp: Any) -> Any:
        return super().gated_linear(hidden, norm, mlp) * float('nan')


class SeesGaps(Operations):

    def attend_to_cache(
        self, queries: Any, cache: Any, layer: Any, places: Any, bound: Any, visible: Any = None,
    ) -> Any:
        return super().attend_to_cache(queries, cache, layer, places, bound)


class StoresInARow(Operations):

    def apply_rope_and_store(
        self, qkv: Any, cos: Any, sin: Any, cache: Any, layer: Any, places: Any,
    ) -> Any:
        in_a_row = places[:1] + torch.arange(len(places))
        return super().apply_rope_and_store(qkv, cos, sin, cache, layer, in_a_row)


class MergesEvenly(Operations):

    def merge_parts(self, mixed: Any, sums: Any) -> Any:
        return super().merge_parts(mixed, 0.0 * sums)


class ForgetsTheEnd(Operations):
    """Of what stands behind 2,048 tokens in the cache, a step sees nothing."""

    def attend_and_store(
        self, qkv: Any, cos: Any, sin: Any, cache: Any, layer: Any, cursor: Any, bound: Any,
    ) -> Any:
        return super().attend_and_store(qkv, cos, sin, cache, layer, cursor, min(bound, 2048))


class InParts(Operations):
    """Products split in three, as a fused kernel returns them for a few tokens."""

    def split_k_linear(self, values: Tensor, linear: Linear) -> Tensor:
        weights = linear.weight.tensor_split(3, dim=1)
        parts = [functional.linear(*pair) for pair in zip(values.tensor_split(3, dim=1), weights)]
        if linear.bias is not None:
            parts[0] = parts[0] + linear.bias
        return torch.stack(parts)


def test_plain_torch_agrees_with_itself(weights: DecoderWeights) -> None:
    check_operations(weights, Operations())


@pytest.mark.parametrize('operations, part', [
    (WrongRotation(), 'encoder|language model'), (WrongSum(), 'language model'),
    (NoNumber(), 'language model'), (SeesGaps(), 'scene'), (StoresInARow(), 'scene'),
    (ForgetsTheEnd(), 'long cache'), (MergesEvenly(), 'parts of keys')])
def test_wrong_kernels_are_refused(
    weights: DecoderWeights, operations: Operations, part: str,
) -> None:
    with pytest.raises(RuntimeError, match=f'kernels of the ({part}) do not compute'):
        check_operations(weights, operations)


def test_the_trial_is_a_prompt_that_goes_on(weights: DecoderWeights) -> None:
    """Its five rows are a prefill, a question behind it and three steps, all of them different."""
    logits = run_language_model(weights, Operations())
    assert logits.shape == (5, len(weights.embedding))
    assert torch.isfinite(logits).all()
    assert torch.cdist(logits, logits)[~torch.eye(5, dtype=torch.bool)].min() > 1e-3


@pytest.mark.parametrize('shape', ['narrow', 'qwen3 narrow'])
def test_products_in_parts_are_summed_up(shape: str) -> None:
    """Of Qwen3-VL the features of further encoder layers are added behind some of them."""
    model, vision = make_model(shape), make_vision(5, 9, 0.5, shape=shape)
    prompt_ids, eager = make_prompt_for(shape, 45), SparseQwenVl(model)
    expected = eager.prefill(prompt_ids, vision, eager.encode(vision)).logits
    graphs = CudaGraphQwenVl(eager, cache_tokens=128, operations=InParts())
    found = graphs.prefill(prompt_ids, vision, graphs.encode(vision)).logits
    assert (found - expected).abs().max() <= 1e-4


@needs_gpu
@pytest.mark.parametrize('num_tokens', [1, 16, 25, 48, 64])
@pytest.mark.parametrize('num_rows, num_columns', [(100, 72), (1536, 1536), (1536, 8960)])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_products_of_a_few_tokens(
    num_tokens: int, num_rows: int, num_columns: int, dtype: torch.dtype,
) -> None:
    from epvlm_ros.vlm.cuda_graphs.kernels import FusedOperations

    operations = FusedOperations()
    random = torch.Generator('cuda').manual_seed(num_tokens + num_rows)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device='cuda').to(dtype)

    values = draw(num_tokens, num_columns)
    linear = Linear(draw(num_rows, num_columns) / num_columns ** 0.5, draw(num_rows))
    expected = functional.linear(*(item.double() for item in (values, *linear)))
    parts = operations.split_k_linear(values, linear)
    assert parts.dtype == torch.float32 and parts.shape[1:] == (num_tokens, num_rows)
    assert (whole(parts, dtype).double() - expected).norm() <= 0.01 * expected.norm()

    up = Linear(draw(2 * num_rows, num_columns) / num_columns ** 0.5, None)
    gated = operations.activated_linear(values, Mlp(up, linear, 'gated_silu'))
    gate, factor = functional.linear(values.double(), up.weight.double()).chunk(2, dim=1)
    expected = functional.silu(gate) * factor
    assert (gated.double() - expected).norm() <= 0.01 * expected.norm()


@needs_gpu
@pytest.mark.parametrize('programmatic_launch', [False, True])
def test_kernels_of_this_card_agree_with_plain_torch(programmatic_launch: bool) -> None:
    from epvlm_ros.vlm.cuda_graphs.kernels import FusedOperations

    if programmatic_launch and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip('this card starts no kernel early')
    model = make_model('wide').to('cuda', torch.bfloat16)
    check_operations(
        DecoderWeights.of(model.model.language_model, model.lm_head),
        FusedOperations(programmatic_launch=programmatic_launch))
