"""Running scores of change."""

from epvlm_ros.change_score import ChangeScore
import numpy as np
import pytest


def score(values, epoch=1, num_doubts=0):
    return ChangeScore(np.array(values, np.uint16).reshape(2, 2), 4, 8, 8, epoch, num_doubts)


def test_the_difference_covers_everything_in_between():
    first, last = score([0, 5, 65530, 7]), score([3, 5, 4, 65535])
    assert last.since(first).tolist() == [[3.0, 0.0], [10.0, 65528.0]]


def test_epochs_do_not_mix():
    assert not score([0] * 4, epoch=2).continues(score([0] * 4))
    with pytest.raises(ValueError, match='epochs 1 and 2'):
        score([0] * 4, epoch=2).since(score([0] * 4))


def test_scores_fill_the_grid():
    with pytest.raises(ValueError, match=r'give uint16 of shape \(2, 2\)'):
        ChangeScore(np.zeros((2, 3), np.uint16), 4, 8, 8, 1)
    with pytest.raises(ValueError, match='float64'):
        ChangeScore(np.zeros((2, 2)), 4, 8, 8, 1)
