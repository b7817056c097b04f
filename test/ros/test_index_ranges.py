"""Indices as text and back."""

from epvlm_ros.ros.index_ranges import pack_indices, unpack_indices
from hypothesis import given, strategies as st
import numpy as np
import pytest


@pytest.mark.parametrize('indices, text', [
    ([], ''), ([0], '0'), ([7], '7'), ([0, 1, 2, 7], '0-2,7'),
    ([3, 5, 6, 9, 10, 11], '3,5-6,9-11'), (range(1296), '0-1295')])
def test_ranges_are_as_they_are_read_aloud(indices, text):
    assert pack_indices(np.array(indices, np.int64)) == text
    np.testing.assert_array_equal(unpack_indices(text), list(indices))


@given(st.sets(st.integers(0, 500)))
def test_indices_come_back_as_they_were(indices):
    expected = np.array(sorted(indices), np.int64)
    unpacked = unpack_indices(pack_indices(expected))
    assert unpacked.dtype == np.int64
    np.testing.assert_array_equal(unpacked, expected)


@pytest.mark.parametrize(
    'text', [',', '1,', 'a', '-1', '1-', '5-3', '3,1', '1,1', '1-4,4', '1--2'])
def test_text_of_another_kind_is_refused(text):
    with pytest.raises(ValueError, match='give one such as'):
        unpack_indices(text)
