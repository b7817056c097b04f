"""The selection of training is that of the robot."""

import cv2
from epvlm_ros.core.patch_grid import PatchGeometry
from epvlm_ros.core.selection import image_saliency, select_tokens, TokenScene
from epvlm_ros.core.selection.saliency import combine, event_contrast
from epvlm_ros.sim import selection_model
import numpy as np
import pytest
import torch


@pytest.fixture(scope='module')
def pictures():
    """Return bytes (2, 3, 252, 336) of smooth colours with coloured squares, soft at the rim."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.uniform(80, 150, (2, 3, 9, 12)))
    ground = torch.nn.functional.interpolate(coarse, (252, 336), mode='bicubic').numpy()
    for scene in range(2):
        for _ in range(4):
            row, col = random.integers(0, (200, 280))
            ground[scene, :, row:row + 45, col:col + 45] = random.uniform(0, 255, (3, 1, 1))
    soft = [cv2.GaussianBlur(channel, None, 3.0) for channel in ground.reshape(6, 252, 336)]
    return np.clip(soft, 0, 255).astype(np.uint8).reshape(ground.shape)


def test_saliency_is_the_same(pictures):
    found = selection_model.image_saliency(torch.from_numpy(pictures).float() / 255.0, 28)
    grid = PatchGeometry(14, 2, 784, 10 ** 7).grid(252, 336)
    assert found.shape == (2, 9, 12)
    for picture, mine in zip(pictures, found.numpy()):
        expected = image_saliency(np.ascontiguousarray(picture.transpose(1, 2, 0)), grid)
        np.testing.assert_allclose(mine, expected, atol=0.03)  # a sample is a mean of more pixels
        assert np.corrcoef(mine.ravel(), expected.ravel())[0, 1] > 0.99
    with pytest.raises(ValueError, match='give whole tokens'):
        selection_model.image_saliency(torch.zeros(1, 3, 250, 336), 28)


def test_scores_rank_as_the_policy_does():
    random = np.random.default_rng(1)
    activity = random.exponential(20.0, (3, 9, 12)).astype(np.float32)
    activity[1, :4] = 0.0
    saliency = random.random((3, 9, 12)).astype(np.float32)
    found = selection_model.score_events_and_saliency(
        torch.from_numpy(activity), torch.from_numpy(saliency), 12.0)
    for scene in range(3):
        expected = combine(saliency[scene], event_contrast(activity[scene], 12.0))
        np.testing.assert_allclose(found[scene].numpy(), expected, atol=1e-5)
        kept = select_tokens(
            TokenScene(9, 12, activity[scene], noise_floor=12.0, saliency=saliency[scene]), 0.3,
            policy='events_and_saliency').kept_indices
        mine = found[scene].flatten().topk(len(kept)).indices.sort().values
        assert mine.tolist() == kept.tolist()
    silent = selection_model.score_events_and_saliency(
        torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), 0.0)
    assert not silent.any()
