"""Fused kernels are compared with plain torch before they are used."""

from __future__ import annotations

from collections.abc import Callable

from epvlm_ros.vlm.cuda_graphs.language_model import LanguageModel, Prompt
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.static_cache import StaticCache
from epvlm_ros.vlm.cuda_graphs.weights import DecoderWeights, Norm
import torch
from torch import Tensor

# Largest ||difference|| / ||logits||. Kernels that sum in another order differ by some thousandths
# in float32 and by 0.03 in bfloat16; a wrong one by about 1.
_TOLERANCES = {torch.float32: 1e-2, torch.float16: 0.05, torch.bfloat16: 0.2}
_NUM_FIRST, _NUM_FURTHER, _NUM_STEPS, _CAPACITY = 16, 64, 3, 128  # least, most of few tokens
_LONG_CAPACITY = 2100  # kernels divide it into more parts


def check_operations(weights: DecoderWeights, operations: Operations) -> None:
    """
    Make sure that prompts, steps and what scenes need come out as with plain torch.

    Raises a RuntimeError if they differ by more than rounding.
    """
    tolerance = _TOLERANCES.get(weights.like.dtype, _TOLERANCES[torch.bfloat16])
    for what, run in (
            ('language model', run_language_model), ('encoder', run_encoder_parts),
            ('scene', run_scene_parts), ('long cache', run_long_cache),
            ('parts of keys', run_merge)):
        found, expected = (run(weights, item) for item in (operations, Operations()))
        error = (found - expected).norm(dim=1) / expected.norm(dim=1)
        if not bool((error <= tolerance).all()):  # not a number is no agreement either
            raise RuntimeError(
                f'kernels of the {what} do not compute what plain torch does here: relative '
                'errors ' + ', '.join(f'{value:.3g}' for value in error.tolist()))


@torch.inference_mode()
def run_language_model(weights: DecoderWeights, operations: Operations) -> Tensor:
    """Return the logits, float32 (calls, vocabulary), of a prefill, a question and some steps."""
    device, vocabulary = weights.like.device, weights.embedding.shape[0]
    model = LanguageModel(weights, operations, weights.make_cache(_CAPACITY))
    random = torch.Generator().manual_seed(0)
    logits = []
    for offset, end in ((0, _NUM_FIRST), (_NUM_FIRST, _NUM_FIRST + _NUM_FURTHER)):
        ids = torch.randint(vocabulary, (end - offset,), generator=random)
        places = torch.arange(offset, end)
        prompt = Prompt(len(ids), torch.device('cpu'))
        prompt.fill(ids, torch.full_like(ids, -1), places.expand(3, -1), offset, end)
        on_device = Prompt(len(ids), device)
        on_device.packed.copy_(prompt.packed)
        model.prefill(on_device, (), _CAPACITY if offset else None)
        logits.append(model.logits.float().clone())
    for token in torch.randint(vocabulary, (_NUM_STEPS,), generator=random).tolist():
        model.token.fill_(token)
        model.step(_CAPACITY)
        logits.append(model.logits.float().clone())
    return torch.stack(logits)


@torch.inference_mode()
def run_encoder_parts(weights: DecoderWeights, operations: Operations) -> Tensor:
    """Return what only an encoder uses, float32 (functions, any): norm, activation, rotation."""
    draw = _draw_like(weights.like, torch.Generator().manual_seed(1))
    tokens, heads, head_dim = 24, 4, 80
    dim = heads * head_dim
    hidden, delta = draw(tokens, dim), draw(tokens, dim)
    normed = operations.add_norm(hidden, delta, Norm(draw(dim), draw(dim), 1e-6))
    activated = operations.activate(draw(tokens, dim), 'quick_gelu')
    rotated = draw(tokens, heads, head_dim)
    angles = draw(tokens, head_dim // 2)
    operations.apply_rope(rotated, angles.cos(), angles.sin())
    return torch.stack([item.float().flatten() for item in (hidden, normed, activated, rotated)])


@torch.inference_mode()
def run_scene_parts(weights: DecoderWeights, operations: Operations) -> Tensor:
    """Return what tokens here and there see of a cache with gaps, float32 (tokens, any)."""
    random = torch.Generator().manual_seed(2)
    draw = _draw_like(weights.like, random)
    cache = weights.make_cache(_CAPACITY)
    cache.both.copy_(draw(*cache.both.shape))
    places = torch.randperm(_CAPACITY, generator=random)[:_NUM_FIRST + 8].sort().values
    visible = torch.rand(_CAPACITY, generator=random) < 0.5
    visible[places] = True
    device = weights.like.device
    places, visible = places.to(device), visible.to(device)
    num_heads = weights.num_heads + 2 * weights.num_key_value_heads
    queries = operations.apply_rope_and_store(
        draw(len(places), num_heads * weights.head_dim), weights.cos[places],
        weights.sin[places], cache, 0, places)
    return operations.attend_to_cache(queries, cache, 0, places, _CAPACITY, visible).float()


@torch.inference_mode()
def run_long_cache(weights: DecoderWeights, operations: Operations) -> Tensor:
    """Return what a question and a step see of a long cache, float32 (tokens, any)."""
    like = weights.like
    draw = _draw_like(like, torch.Generator().manual_seed(4))
    heads, dim = weights.num_heads, weights.head_dim
    cache = StaticCache(1, weights.num_key_value_heads, dim, _LONG_CAPACITY, like)
    cache.both.copy_(draw(*cache.both.shape))
    last = _LONG_CAPACITY - 2
    places = torch.arange(last - _NUM_FIRST, last, device=like.device)
    question = operations.attend_to_cache(
        3.0 * draw(_NUM_FIRST, heads, dim), cache, 0, places, _LONG_CAPACITY)
    step = operations.attend_and_store(
        draw(1, (heads + 2 * weights.num_key_value_heads) * dim), weights.cos, weights.sin, cache,
        0, torch.tensor([last, last, 0], device=like.device), _LONG_CAPACITY)
    return torch.cat([question, step]).float()


@torch.inference_mode()
def run_merge(weights: DecoderWeights, operations: Operations) -> Tensor:
    """Return what parts of the keys give together, float32 (tokens, heads * head_dim)."""
    random = torch.Generator().manual_seed(3)
    parts, tokens, heads, head_dim = 3, 24, 4, 80
    mixed = torch.randn(parts, tokens, heads, head_dim, generator=random)
    sums = 3.0 * torch.randn(parts, heads, tokens, generator=random)
    return operations.merge_parts(
        mixed.to(weights.like.device, weights.like.dtype).transpose(1, 2),
        sums.to(weights.like.device)).float().flatten(1)


def _draw_like(like: Tensor, random: torch.Generator) -> Callable[..., Tensor]:
    """Return what draws normal numbers, of a shape, with the device and type of a tensor."""
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(like.device, like.dtype)
    return draw
