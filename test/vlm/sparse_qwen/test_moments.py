"""
Several moments in one question, against the library's own run on a video.

At keep ratio 1.0 the library runs as it is, below with a mask as in ``test_sparse_qwen_vl``.
"""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.sparse_qwen import SparseQwenVl, VisionInput
from masked_dense_reference import MaskedDenseReference
import numpy as np
import pytest
from qwen_checkpoints import library_inputs, make_model, make_moments_prompt, make_vision
from qwen_shapes import SHAPES, VIDEO
import torch

pytestmark = pytest.mark.long

TOLERANCE = 1e-4
LONG_ANSWER, SHORT_ANSWER = 64, 16  # of the first case of a shape, and of the others
CASES = [(3, (3, 4), 1.0), (2, (5, 4), 3.0), (4, (2, 3), 0.25), (6, (1, 2), 2.0)]


@pytest.mark.parametrize('num_moments, grid, seconds_between', CASES)
@pytest.mark.parametrize('shape', SHAPES)
def test_keeping_all_equals_the_librarys_video(
    shape: str, num_moments: int, grid: tuple[int, int], seconds_between: float,
) -> None:
    model = make_model(shape)
    vision = make_vision(
        *grid, 1.0, shape=shape, num_moments=num_moments, seconds_between=seconds_between)
    prompt_ids = make_moments_prompt(shape, num_moments, grid[0] * grid[1], seconds_between)
    inputs: dict[str, Any] = library_inputs(vision, prompt_ids)
    if SHAPES[shape].model_type == 'qwen2_5_vl':
        inputs['second_per_grid_ts'] = torch.tensor([seconds_between])
    with torch.no_grad():
        expected = model(**inputs).logits[0]
    sparse = SparseQwenVl(model)
    features = sparse.encode(vision)
    logits = sparse.prompt_logits(prompt_ids, vision, features)
    assert expected.std() > 0.1
    assert (logits - expected).abs().max() <= TOLERANCE

    state = sparse.prefill(prompt_ids, vision, features)
    prefix = state.prefix
    length = LONG_ANSWER if num_moments == CASES[0][0] else SHORT_ANSWER
    token_ids = list(sparse.decode(state, (), length))
    generated = model.generate(
        **inputs, do_sample=False, max_new_tokens=length, min_new_tokens=length,
        eos_token_id=None, pad_token_id=0)
    assert token_ids == generated[0, len(prompt_ids):].tolist()

    further = sparse.extend(prefix, prefix.text_after(prompt_ids))
    assert list(sparse.decode(further, (), length)) == token_ids
    together = sparse.extend_together(
        sparse.prefill_image(prompt_ids, vision, features), [prefix.text_after(prompt_ids)] * 2)
    steps = list(sparse.decode_together(together, (), length))
    assert [[token_id for _, token_id in step] for step in steps] == [
        [token_id] * 2 for token_id in token_ids]


@pytest.mark.parametrize('keep_ratio, seed', [(0.1, 1), (0.3, 2), (0.6, 6), (0.9, 4)])
@pytest.mark.parametrize('shape', SHAPES)
def test_dropped_tokens_equal_masked_ones(shape: str, keep_ratio: float, seed: int) -> None:
    num_moments, grid, seconds_between = CASES[seed % 3]
    vision = make_vision(
        *grid, keep_ratio, seed, shape=shape, num_moments=num_moments,
        seconds_between=seconds_between)
    prompt_ids = make_moments_prompt(shape, num_moments, grid[0] * grid[1], seconds_between)
    reference = MaskedDenseReference(shape, vision, prompt_ids)
    sparse = SparseQwenVl(make_model(shape))
    features = sparse.encode(vision)
    expected_tokens, expected_deepstack = reference.encode()
    for computed, expected in zip(
            (features.tokens, *features.deepstack), (expected_tokens, *expected_deepstack)):
        assert (computed - expected[reference.kept_tokens]).abs().max() <= TOLERANCE
    logits = sparse.prompt_logits(prompt_ids, vision, features)
    expected_logits, expected_positions = reference.prefill()
    assert (logits - expected_logits[reference.kept_places]).abs().max() <= TOLERANCE
    assert torch.equal(sparse.lay_out(prompt_ids, vision).positions[:, :-1], expected_positions)
    reference.reset()
    length = LONG_ANSWER if keep_ratio == 0.1 else SHORT_ANSWER
    expected_ids, narrowest_lead = reference.decode(length)
    assert narrowest_lead > TOLERANCE
    state = sparse.prefill(prompt_ids, vision, features)
    assert list(sparse.decode(state, (), length)) == expected_ids


def test_positions_by_hand() -> None:
    # 7 tokens before; 2 moments of 1 x 2 tokens, 4 s apart, 4 positions a second in Qwen2.5-VL
    model = make_model('qwen2.5 narrow')
    assert model.config.vision_config.tokens_per_second == 4
    vision = make_vision(
        1, 2, 1.0, shape='qwen2.5 narrow', num_moments=2, seconds_between=4.0)
    prompt_ids = make_moments_prompt('qwen2.5 narrow', 2, 2, question='?')
    sparse = SparseQwenVl(model)
    places = sparse.lay_out(prompt_ids, vision).positions[:, :-1][:, 7:12].T.tolist()
    assert places == [[7, 7, 7], [7, 7, 8], [23, 7, 7], [23, 7, 8], [9, 9, 9]]
    prefix = sparse.prefill_image(prompt_ids, vision, sparse.encode(vision))
    # text and answer go on after the longer side of the image, wherever the last moment is
    assert prefix.next_position == 9
    assert sparse.extend(prefix, torch.tensor([1, 2])).next_position == 11


def test_moments_do_not_see_each_other_in_the_encoder() -> None:
    for shape in ('narrow', 'qwen2.5 narrow', 'qwen3 narrow'):
        sparse = SparseQwenVl(make_model(shape))
        vision = make_vision(3, 4, 1.0, shape=shape, num_moments=2)
        pixels = vision.pixel_values.clone()
        pixels[48:] = 0.0  # the second moment
        changed = VisionInput(pixels, 3, 4, vision.kept_indices, 2)
        first, other = sparse.encode(vision).tokens, sparse.encode(changed).tokens
        assert torch.equal(first[:12], other[:12]) and not torch.equal(first[12:], other[12:])
        alone = sparse.encode(VisionInput(pixels[:48], 3, 4, np.arange(12)))
        assert (alone.tokens - first[:12]).abs().max() <= TOLERANCE


def test_a_moment_may_have_nothing_to_compute_on() -> None:
    for shape in ('narrow', 'qwen2.5 narrow', 'qwen3 narrow'):
        sparse = SparseQwenVl(make_model(shape))
        vision = make_vision(3, 4, 1.0, shape=shape, num_moments=3)
        kept = np.array([1, 5, 24, 30])  # of the first and of the last
        some = VisionInput(vision.pixel_values, 3, 4, kept, 3)
        assert [places.tolist() for places in some.split_by_moment()] == [[1, 5], [0, 6]]
        prompt_ids = make_moments_prompt(shape, 3, 12)
        state = sparse.prefill(prompt_ids, some, sparse.encode(some))
        assert len(list(sparse.decode(state, (), 4))) == 4


@pytest.mark.parametrize('shape, words', [
    ('narrow', 'one run of 24'), ('qwen3 narrow', '2 runs of 12')])
def test_a_prompt_with_other_runs_is_refused(shape: str, words: str) -> None:
    vision = make_vision(3, 4, 1.0, shape=shape, num_moments=2)
    for prompt_ids in (make_moments_prompt(shape, 3, 12), torch.tensor([1, *[VIDEO] * 12, 2])):
        with pytest.raises(ValueError, match=words):
            SparseQwenVl(make_model(shape)).lay_out(prompt_ids, vision)
