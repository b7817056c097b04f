"""Models that have no CUDA graphs run eagerly, with one warning and nothing left out."""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl, with_cuda_graphs
from epvlm_ros.vlm.sparse_qwen import SparseBackend, SparseQwenVl
import pytest
from qwen_checkpoints import make_model, make_prompt, make_vision
import torch
from torch import nn, Tensor
from torch.nn import functional

VISION, PROMPT = make_vision(3, 5, 0.5), make_prompt(15)


class PackedLinear(nn.Module):
    """8-bit weights with a scale for each row, and no parameter named weight."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127.0
        self.register_buffer('qweight', (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer('scale', scale)
        self.bias = linear.bias

    def forward(self, values: Tensor) -> Tensor:
        qweight: Any = self.qweight
        return functional.linear(values, qweight * self.scale, self.bias)


class PackedBytes(nn.Linear):
    """A linear layer by name whose weight is two numbers a byte, as of bitsandbytes."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.plain = linear
        self.weight = nn.Parameter(
            torch.zeros(linear.weight.numel() // 2, 1, dtype=torch.uint8), requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        halved: Tensor = self.plain(values) / 2
        return halved


class WithAdapter(nn.Module):
    """A linear layer and a low-rank sum beside it, which keeps the weight of the layer in view."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.base_layer = linear
        self.down = nn.Linear(linear.in_features, 2, bias=False)
        self.up = nn.Linear(2, linear.out_features, bias=False)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor:
        return self.base_layer.bias

    def forward(self, values: Tensor) -> Tensor:
        added: Tensor = self.base_layer(values) + self.up(self.down(values))
        return added


def with_another_forward(linear: nn.Linear) -> nn.Linear:
    """Return the same layer with a forward of its own, as accelerate and others set it."""
    forward = linear.forward
    linear.forward = lambda values: 2.0 * forward(values)  # type: ignore[method-assign]
    return linear


class OwnTensor(Tensor):
    """A tensor class of its own, as weights of torchao are."""


def with_own_tensor(linear: nn.Linear) -> nn.Linear:
    linear.weight = nn.Parameter(linear.weight.detach().as_subclass(OwnTensor))
    return linear


def first_logits(model: SparseBackend) -> Tensor:
    logits: Tensor = model.prefill(PROMPT, VISION, model.encode(VISION)).logits
    return logits


CHANGES = [PackedLinear, PackedBytes, WithAdapter, with_another_forward, with_own_tensor]


@pytest.mark.parametrize('change', CHANGES)
def test_a_changed_language_model_runs_eagerly_with_one_warning(
    change: Any, caplog: pytest.LogCaptureFixture,
) -> None:
    library = make_model('narrow')
    plain = first_logits(SparseQwenVl(library))
    attention = library.model.language_model.layers[1].self_attn
    attention.q_proj = change(attention.q_proj)
    eager = SparseQwenVl(library)
    expected = first_logits(eager)
    backend = with_cuda_graphs(eager, (0.5,), 256)
    assert backend is eager
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert 'have no CUDA graphs' in caplog.text
    assert torch.equal(first_logits(backend), expected)  # nothing was moved before the refusal
    assert change is with_own_tensor or not torch.equal(expected, plain)


@pytest.mark.parametrize('change', [PackedLinear, WithAdapter])
def test_a_changed_encoder_runs_eagerly_with_one_warning(
    change: Any, caplog: pytest.LogCaptureFixture,
) -> None:
    library = make_model('narrow')
    attention = library.model.visual.blocks[1].attn
    attention.qkv = change(attention.qkv)
    eager = SparseQwenVl(library)
    expected = first_logits(eager)
    backend = with_cuda_graphs(eager, (0.5,), 256)
    assert isinstance(backend, CudaGraphQwenVl)
    assert [record.levelname for record in caplog.records] == ['WARNING']
    assert 'the encoder runs as in the library' in caplog.text
    assert (first_logits(backend) - expected).abs().max() <= 1e-4


def test_a_changed_output_layer_runs_eagerly() -> None:
    library = make_model('narrow')
    library.lm_head = PackedLinear(library.lm_head)
    eager = SparseQwenVl(library)
    assert with_cuda_graphs(eager, (0.5,), 256) is eager


def test_what_a_hook_of_the_outermost_forward_unpacks_is_ready_before_a_question() -> None:
    library = make_model('narrow')
    expected = first_logits(SparseQwenVl(library))
    attention = library.model.language_model.layers[1].self_attn
    whole, calls = attention.q_proj, []

    def unpack(module: Any, args: Any) -> None:
        calls.append(1)
        attention.q_proj = whole

    class Packed(nn.Module):

        def forward(self, values: Tensor) -> Tensor:
            raise AttributeError('packed weights have no forward')

    attention.q_proj = Packed()
    library.register_forward_pre_hook(unpack)
    library.hf_quantizer = object()
    model = SparseQwenVl(library)
    assert torch.equal(first_logits(model), expected)
    assert len(calls) == 1
    assert isinstance(with_cuda_graphs(model, (0.5,), 256), CudaGraphQwenVl)
