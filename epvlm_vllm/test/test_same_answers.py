"""What vLLM answers with the sparse models: as vLLM itself at keep 1.0, else as epvlm_ros."""

import numpy as np
from own_engine import MODEL_TYPES
import pytest
from served_models import grids_of, keep_some, make_picture, start_engine


@pytest.fixture(scope='module', params=MODEL_TYPES)
def name(request):
    return request.param


@pytest.fixture(scope='module')
def folder(name, own):
    return own.save(name)


@pytest.fixture(scope='module')
def sparse(name, folder):
    return start_engine(folder, MODEL_TYPES[name])


def test_all_tokens_kept_is_what_vllm_answers_without_the_plug_in(name, folder, sparse):
    dense = start_engine(folder, MODEL_TYPES[name], is_sparse=False)
    grids = grids_of(name)
    pictures = [make_picture(name, *grid) for grid in grids]
    everything = [list(range(rows * cols)) for rows, cols in grids]
    questions = [sparse.question(pictures[:1]), sparse.question(pictures[::-1])]
    with_indices = [
        sparse.question(pictures[:1], everything[:1], grids[:1]),
        sparse.question(pictures[::-1], everything[::-1], grids[::-1])]
    for expected, *answers in zip(
            dense.ask(*questions), sparse.ask(*questions), sparse.ask(*with_indices)):
        assert len(set(expected.token_ids)) > 1
        for answer in answers:
            assert answer.prompt_ids == expected.prompt_ids
            assert answer.token_ids == expected.token_ids
            np.testing.assert_allclose(
                answer.log_probabilities, expected.log_probabilities, atol=1e-4)


@pytest.mark.parametrize('keep_ratio', [0.1, 0.25, 0.5, 0.75, 0.9])
def test_some_tokens_kept_is_what_this_project_answers(name, own, sparse, keep_ratio):
    for seed, (rows, cols) in enumerate(grids_of(name)):
        picture = make_picture(name, rows, cols, seed)
        kept = keep_some(rows * cols, keep_ratio, seed)
        expected = own.ask(name, picture, kept)
        answer, = sparse.ask(sparse.question([picture], [kept], [[rows, cols]]))
        assert answer.token_ids == expected.token_ids
        np.testing.assert_allclose(
            answer.log_probabilities, expected.log_probabilities, atol=1e-3)
        num_dropped = rows * cols - len(kept)
        assert len(answer.prompt_ids) == len(expected.prompt_ids) - num_dropped
