"""Sizes set at the start, videos beside pictures, and what refuses to run unpruned in silence."""

from types import SimpleNamespace

from epvlm_vllm.models import check_options
import numpy as np
from own_engine import make_prompt, MODEL_TYPES
import pytest
from qwen_shapes import IMAGE, VIDEO
from served_models import keep_some, make_picture, start_engine

FRAMES = np.random.default_rng(1).integers(0, 256, (4, 56, 84, 3)).astype(np.uint8)


@pytest.fixture(scope='module')
def folder(own):
    return own.save('qwen2')


@pytest.fixture(scope='module')
def sparse(folder):
    return start_engine(folder, MODEL_TYPES['qwen2'])


@pytest.fixture(scope='module')
def dense(folder):
    return start_engine(folder, MODEL_TYPES['qwen2'], is_sparse=False)


def test_vllms_own_model_does_not_ignore_kept_indices(dense):
    question = dense.question([make_picture('qwen2', 5, 7)], [[1, 2]], [[5, 7]])
    with pytest.raises((TypeError, ValueError)):
        dense.ask(question)


def test_a_picture_too_large_for_the_server_has_the_grid_that_it_is_scaled_to(own, sparse):
    # 8 x 16 tokens; the server takes 64 of them: scaled by the root of a half, 5 x 11
    picture = make_picture('qwen2', 8, 16)
    kept = keep_some(55, 0.5)
    answer, = sparse.ask(sparse.question([picture], [kept], [[5, 11]]))
    expected = own.ask('qwen2', picture, kept)
    np.testing.assert_allclose(answer.log_probabilities, expected.log_probabilities, atol=1e-3)
    with pytest.raises(ValueError, match='8 x 16 tokens: this server takes images of at most 64'):
        sparse.ask(sparse.question([picture], [kept], [[8, 16]]))


def test_a_video_beside_a_sparse_picture(sparse, dense):
    prompt = make_prompt(sparse.folder, 2)
    prompt[prompt.index(IMAGE)] = VIDEO  # the first of two pictures
    question = {
        'prompt_token_ids': prompt,
        'multi_modal_data': {'image': [make_picture('qwen2', 5, 7)], 'video': [FRAMES]}}
    expected, = dense.ask(question)
    everything, some = list(range(35)), keep_some(35, 0.6)
    answer, fewer = sparse.ask(*({**question, 'mm_processor_kwargs': {
        'kept_indices': [kept], 'token_grids': [[5, 7]]}} for kept in (everything, some)))
    assert answer.prompt_ids == expected.prompt_ids
    assert answer.token_ids == expected.token_ids
    assert fewer.prompt_ids.count(IMAGE) == 21
    assert fewer.prompt_ids.count(VIDEO) == expected.prompt_ids.count(VIDEO) == 12


@pytest.mark.parametrize('mode, prunes, message', [
    ('data', False, '--mm-encoder-tp-mode data divides images by their full grids'),
    ('weights', True, '--video-pruning-rate rewrites the positions of pictures')])
def test_options_that_count_with_full_grids_are_refused_at_the_start(mode, prunes, message):
    config = SimpleNamespace(
        mm_encoder_tp_mode=mode, is_multimodal_pruning_enabled=lambda: prunes)
    with pytest.raises(ValueError, match=message):
        check_options(config)


def test_other_options_are_taken():
    check_options(SimpleNamespace(
        mm_encoder_tp_mode='weights', is_multimodal_pruning_enabled=lambda: False))
