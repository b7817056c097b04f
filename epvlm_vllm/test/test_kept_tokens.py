"""What a request may say about its images, and what it is told otherwise."""

from epvlm_vllm.kept_tokens import check_grid, KeptTokens, read_kept_tokens
import numpy as np
import pytest


def read(kept_indices, token_grids, num_images=1, max_tokens=100):
    return read_kept_tokens(
        {'kept_indices': kept_indices, 'token_grids': token_grids}, num_images, max_tokens)


def test_a_request_that_says_nothing_is_dense():
    assert read_kept_tokens({}, 3, 100) is None


def test_indices_and_grids_of_each_image():
    first, second = read([[0, 7, 11], (5,)], [[3, 4], (2, 3)], num_images=2)
    assert (first.indices.tolist(), first.rows, first.cols) == ([0, 7, 11], 3, 4)
    assert (second.indices.tolist(), second.rows, second.cols) == ([5], 2, 3)
    assert first.indices.dtype == np.int64


def test_arrays_are_taken_too():
    tokens, = read([np.array([1, 2])], np.array([[3, 4]]))
    assert tokens.indices.tolist() == [1, 2] and (tokens.rows, tokens.cols) == (3, 4)


@pytest.mark.parametrize('indices, message', [
    ([], r'kept_indices\[0\]: a list of 0: give 1 to 12 ascending indices of the 3 x 4 tokens'),
    ([0, 12], r'kept_indices\[0\]\[1\]: 12 is no index of a visual token: give 0 to 11'),
    ([-1, 3], r'kept_indices\[0\]\[0\]: -1 is no index'),
    ([3, 3], r'kept_indices\[0\]\[1\]: 3 is given twice'),
    ([3, 2], r'kept_indices\[0\]\[1\]: 2 comes after 3'),
    ([3, 4.0], r'kept_indices\[0\]\[1\]: 4.0 is no index'),
    ([True], r'kept_indices\[0\]\[0\]: True is no index'),
    ([None], r'kept_indices\[0\]\[0\]: None is no index'),
    (['1'], r'kept_indices\[0\]\[0\]: 1 is no index'),
    ([[1]], r'kept_indices\[0\]\[0\]: \[1\] is no index'),
    ([10 ** 5000], 'an integer of more than 20 digits is no index'),
    ('0123', r'kept_indices\[0\]: 0123 \(str\): give'),
    ({'0': 1}, r'kept_indices\[0\]: 1 entries \(dict\): give'),
    (7, r'kept_indices\[0\]: 7 \(int\): give'),
    (None, r'kept_indices\[0\]: None \(NoneType\): give'),
    (range(10 ** 7), r'kept_indices\[0\]: range\(0, 10000000\) \(range\): give'),
    ([0] * 10 ** 7, r'kept_indices\[0\]: a list of 10000000: give 1 to 12'),
])
def test_wrong_indices_are_named(indices, message):
    with pytest.raises(ValueError, match=message):
        read([indices], [[3, 4]])


@pytest.mark.parametrize('grid, message', [
    ([3], r'token_grids\[0\]: a list of 1: give \[rows, columns\]'),
    ([0, 4], r'token_grids\[0\]: a list of 2: give'),
    ([3, -4], r'token_grids\[0\]: a list of 2: give'),
    ([3, 4.0], r'token_grids\[0\]: a list of 2: give'),
    ('34', r'token_grids\[0\]: 34 \(str\): give'),
    ([25, 5], r'token_grids\[0\]: 25 x 5 tokens: this server takes images of at most 100'),
    ([10 ** 30, 1], r'token_grids\[0\]: an integer of more than 20 digits x 1 tokens'),
])
def test_wrong_grids_are_named(grid, message):
    with pytest.raises(ValueError, match=message):
        read([[0]], [grid])


@pytest.mark.parametrize('options, message', [
    ({'kept_indices': [[0]]}, 'token_grids is missing'),
    ({'token_grids': [[3, 4]]}, 'kept_indices is missing'),
    ({'kept_indices': [], 'token_grids': []}, 'kept_indices: a list of 0; number of images: 1'),
    ({'kept_indices': [[0], [1]], 'token_grids': [[3, 4]] * 2}, 'kept_indices: a list of 2;'),
    ({'kept_indices': [[0]], 'token_grids': [[3, 4]] * 2}, 'token_grids: a list of 2;'),
    ({'kept_indices': 5, 'token_grids': [[3, 4]]}, r'kept_indices: 5 \(int\);'),
    ({'kept_indices': [[0]], 'token_grids': [[3, 4]], 'max_pixels': 10 ** 9},
     'mm_processor_kwargs: max_pixels is not taken from a request'),
    ({'images_kwargs': {}}, 'mm_processor_kwargs: images_kwargs is not taken'),
])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        read_kept_tokens(options, 1, 100)


def test_without_images_there_is_nothing_to_keep():
    with pytest.raises(ValueError, match='kept_indices: a list of 1; number of images: 0'):
        read([[0]], [[3, 4]], num_images=0)


def test_an_image_of_another_grid_is_refused():
    tokens = KeptTokens(np.array([0]), 3, 4)
    check_grid(1, tokens, 3, 4)
    with pytest.raises(ValueError, match=(
            r'token_grids\[1\]: 3 x 4 tokens, but the server cuts this image into 4 x 3')):
        check_grid(1, tokens, 4, 3)
