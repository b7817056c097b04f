"""
The sparse forward of every family against the library.

At keep ratio 1.0 the reference is the library's own model as it is. Below, it is the library's
dense model that computes every patch, but in which nothing may attend to a dropped one: an
additive mask on the keys in the encoder and a 4-D mask in the language model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from epvlm_ros.vlm.sparse_qwen import SparseQwenVl, VisionInput
from masked_dense_reference import MaskedDenseReference
import numpy as np
import pytest
from qwen_checkpoints import (
    library_inputs, make_model, make_prompt, make_prompt_for, make_vision, MODELS, needs_gpu,
    with_lengths)
from qwen_shapes import SHAPES
import torch
from torch import Tensor
from transformers import Qwen2VLTextConfig

TOLERANCE = 1e-4
GRIDS = ((4, 4), (3, 7), (9, 6), (1, 5))  # some fill windows of 3 x 3 or 4 x 4 tokens, most do not
KEEP_RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)


def cases() -> Iterator[tuple[Any, ...]]:
    for index, keep_ratio in enumerate(KEEP_RATIOS):
        for shape in MODELS:
            grids = {GRIDS[index % len(GRIDS)], (5, 9)} if shape in SHAPES else {(3, 7)}
            for grid in sorted(grids):
                yield shape, grid, keep_ratio, 10 + index


@pytest.fixture(params=SHAPES, name='shape')
def shape_fixture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(
    'shape, grid, length', with_lengths((shape, grid) for shape in MODELS for grid in GRIDS))
def test_keeping_all_equals_the_library(shape: str, grid: tuple[int, int], length: int) -> None:
    model = make_model(shape)
    vision = make_vision(*grid, keep_ratio=1.0, shape=shape)
    prompt_ids = make_prompt_for(shape, grid[0] * grid[1])
    inputs = library_inputs(vision, prompt_ids, model.config.image_token_id)
    with torch.no_grad():
        expected = model(**inputs).logits[0]
    sparse = SparseQwenVl(model)
    features = sparse.encode(vision)
    logits = sparse.prompt_logits(prompt_ids, vision, features)
    assert expected.std() > 0.1  # a model that says the same everywhere would prove nothing
    assert (logits - expected).abs().max() <= TOLERANCE

    state = sparse.prefill(prompt_ids, vision, features)
    assert (state.logits - expected[-1]).abs().max() <= TOLERANCE
    token_ids = list(sparse.decode(state, (), length))
    generated = model.generate(
        **inputs, do_sample=False, max_new_tokens=length, min_new_tokens=length,
        eos_token_id=None, pad_token_id=0)
    assert token_ids == generated[0, len(prompt_ids):].tolist()


@pytest.mark.parametrize('shape, grid, keep_ratio, seed, length', with_lengths(cases()))
def test_dropped_tokens_equal_masked_ones(
    shape: str, grid: tuple[int, int], keep_ratio: float, seed: int, length: int,
) -> None:
    vision = make_vision(*grid, keep_ratio, seed, shape=shape)
    prompt_ids = make_prompt_for(shape, grid[0] * grid[1])
    reference = MaskedDenseReference(shape, vision, prompt_ids)
    sparse = SparseQwenVl(make_model(shape))

    features = sparse.encode(vision)
    expected_tokens, expected_deepstack = reference.encode()
    assert len(features.deepstack) == len(expected_deepstack)
    for computed, expected in zip(
            (features.tokens, *features.deepstack), (expected_tokens, *expected_deepstack)):
        assert (computed - expected[reference.kept_tokens]).abs().max() <= TOLERANCE

    expected_logits, expected_positions = reference.prefill()
    logits = sparse.prompt_logits(prompt_ids, vision, features)
    assert (logits - expected_logits[reference.kept_places]).abs().max() <= TOLERANCE
    positions = sparse.lay_out(prompt_ids, vision).positions[:, :-1]
    assert torch.equal(positions, expected_positions)

    state = sparse.prefill(prompt_ids, vision, features)
    assert state.next_position == int(expected_positions.max()) + 1
    token_ids = list(sparse.decode(state, (), length))
    reference.reset()
    expected_ids, narrowest_lead = reference.decode(length)
    assert narrowest_lead > TOLERANCE  # else rounding might choose, and the case proves nothing
    assert token_ids == expected_ids


def test_positions_reach_the_model(shape: str) -> None:
    # The positions that the model computes with, not those that lay_out() returns.
    rows, cols = 3, 5
    model, vision = make_model(shape), make_vision(rows, cols, keep_ratio=0.4, shape=shape)
    seen: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[name] = kwargs['position_ids'] if 'position_ids' in kwargs else args[1]
        return hook

    inner = model.model
    inner.visual.rotary_pos_emb.register_forward_pre_hook(record('encoder'), with_kwargs=True)
    inner.language_model.rotary_emb.register_forward_pre_hook(record('text'), with_kwargs=True)
    sparse = SparseQwenVl(model)
    prompt_ids = make_prompt(rows * cols, question='?')
    sparse.prefill(prompt_ids, vision, sparse.encode(vision))

    # by hand: the four patches of a token, row by row, at twice its row and column
    expected_patches = [
        [2 * (index // cols) + down, 2 * (index % cols) + right]
        for index in vision.kept_indices.tolist() for down in (0, 1) for right in (0, 1)]
    assert seen['encoder'].tolist() == expected_patches
    # by hand: 7 tokens before the image (turn start, 5 bytes, vision start) count from 0; the
    # image starts at 7 and the text goes on after its longer side, 7 + 5
    image = [[7, 7 + index // cols, 7 + index % cols] for index in vision.kept_indices.tolist()]
    num_after = len(prompt_ids) - 7 - rows * cols
    text = [[place] * 3 for place in range(12, 12 + num_after)]
    assert seen['text'][:, 0].T.tolist() == [[place] * 3 for place in range(7)] + image + text


def test_dropped_patches_are_never_computed_on(shape: str) -> None:
    model, vision = make_model(shape), make_vision(4, 4, keep_ratio=0.25, shape=shape)
    dropped = np.setdiff1d(np.arange(16), vision.kept_indices)
    pixels = vision.pixel_values.clone().unflatten(0, (16, 4))
    pixels[dropped] = torch.nan
    poisoned = VisionInput(pixels.flatten(0, 1), 4, 4, vision.kept_indices)
    lengths = []
    model.model.visual.patch_embed.register_forward_pre_hook(
        lambda module, args: lengths.append(len(args[0])))
    sparse = SparseQwenVl(model)
    assert torch.equal(sparse.encode(poisoned).tokens, sparse.encode(vision).tokens)
    assert lengths == [16, 16]  # 4 tokens of 4 patches


def test_the_input_and_the_model_stay_as_they_are(shape: str) -> None:
    model, vision = make_model(shape), make_vision(3, 3, keep_ratio=0.5, shape=shape)
    prompt_ids = make_prompt(9)
    inputs = library_inputs(vision, prompt_ids)
    with torch.no_grad():
        before = model(**inputs).logits
    copies = [item.clone() for item in (vision.pixel_values, prompt_ids)]
    sparse = SparseQwenVl(model)
    sparse.prefill(prompt_ids, vision, sparse.encode(vision))
    assert torch.equal(vision.pixel_values, copies[0]) and torch.equal(prompt_ids, copies[1])
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, before)


@pytest.mark.parametrize('attention', ['eager', 'sdpa'])
@pytest.mark.parametrize('shape', ['wide', 'qwen2.5 wide', 'qwen3 wide'])
def test_low_precision_runs(shape: str, attention: str) -> None:
    vision = make_vision(4, 3, keep_ratio=0.5, shape=shape)
    prompt_ids = make_prompt(12)
    exact = SparseQwenVl(make_model(shape, attention))
    rounded = SparseQwenVl(make_model(shape, attention).to(torch.bfloat16))
    logits = [
        sparse.prompt_logits(prompt_ids, vision, sparse.encode(vision)).float()
        for sparse in (exact, rounded)]
    # bfloat16 keeps 8 bits: close to the exact one, far closer than another image is
    assert torch.corrcoef(torch.stack(logits).flatten(1))[0, 1] > 0.99


@needs_gpu
def test_a_gpu_answers_as_a_cpu_does(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # by default torch lets cuDNN round the inputs of the patch embedding to 10 bits
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    vision = make_vision(5, 4, keep_ratio=0.4, shape=shape)
    prompt_ids = make_prompt(20)
    answers = []
    for device in ('cpu', 'cuda'):
        sparse = SparseQwenVl(make_model(shape).to(device))
        state = sparse.prefill(prompt_ids, vision, sparse.encode(vision))
        answers.append((state.logits.cpu(), list(sparse.decode(state, (), 64))))
    assert (answers[0][0] - answers[1][0]).abs().max() <= TOLERANCE
    assert answers[0][1] == answers[1][1]


def test_decoding_ends_before_an_end_token_and_at_the_limit() -> None:
    vision, prompt_ids = make_vision(2, 2, keep_ratio=0.5), make_prompt(4)
    sparse = SparseQwenVl(make_model('wide'))
    features = sparse.encode(vision)

    def decode(end_token_ids: Any, max_new_tokens: int) -> list[int]:
        state = sparse.prefill(prompt_ids, vision, features)
        return list(sparse.decode(state, end_token_ids, max_new_tokens))

    token_ids = decode((), 12)
    assert len(token_ids) == 12 and len(set(token_ids)) > 1
    end = token_ids[5]
    assert decode({end}, 12) == token_ids[:token_ids.index(end)]
    assert decode((), 1) == token_ids[:1]
    assert decode((), 0) == []


@pytest.mark.parametrize('configured, expected', [(3, {3}), ([4, 5], {4, 5}), (None, set())])
def test_end_tokens_come_from_the_generation_config(configured: Any, expected: set[int]) -> None:
    model = make_model('narrow')
    model.generation_config.eos_token_id = configured
    assert SparseQwenVl(model).info.end_token_ids == expected


@pytest.mark.parametrize('kept_indices', [
    [], [0, 0], [2, 1], [-1, 0], [3, 4], [[0, 1]], [0.0, 1.0]])
def test_bad_indices_are_refused(kept_indices: list[Any]) -> None:
    with pytest.raises(ValueError, match='kept_indices'):
        VisionInput(torch.zeros(16, 1176), 2, 2, np.array(kept_indices))


def test_patches_that_do_not_fill_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match='2 x 2 tokens'):
        VisionInput(torch.zeros(15, 1176), 2, 2, np.array([0]))


@pytest.mark.parametrize('prompt_ids', [
    make_prompt(3), make_prompt(5), torch.cat([make_prompt(2), make_prompt(2)]),
    torch.tensor([1, 2])])
def test_a_prompt_without_the_image_is_refused(prompt_ids: Tensor) -> None:
    with pytest.raises(ValueError, match='image tokens: give one run of 4'):
        SparseQwenVl(make_model('narrow')).lay_out(prompt_ids, make_vision(2, 2, 0.5))


def test_other_models_and_sliding_windows_are_refused() -> None:
    model = make_model('narrow')
    model.config.text_config.layer_types = ['full_attention', 'sliding_attention']
    with pytest.raises(ValueError, match='use_sliding_window'):
        SparseQwenVl(model)
    model.config = Qwen2VLTextConfig()
    with pytest.raises(ValueError, match=r"'qwen2_vl_text': give .* Qwen2.5-VL \(qwen2_5_vl\)"):
        SparseQwenVl(model)
