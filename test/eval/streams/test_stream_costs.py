"""Costs of frames and updates, and which tokens of two pictures differ."""

from epvlm_ros.eval.streams.model import FrameCosts
from epvlm_ros.eval.streams.token_pixels import copy_tokens, differing_tokens
from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.patch_grid import PatchGrid
import numpy as np

# One layer each; an encoder of 1 patch a token: embedding 2 * 3 * 2, qkv and projection 2 * 16,
# MLP 2 * 16, attention 2 * 4 a pair, merger 2 * (4 + 10); language model: q and output 2 * 50,
# k and v 2 * 10, MLP 2 * 105, attention 2 * 10 a pair.
SHAPE = ModelShape(
    encoder_depth=1, encoder_dim=2, encoder_mlp_dim=4, encoder_mlp_matrices=2,
    num_windowed_layers=0, window_size=0, num_mergers=1, patch_values=3, patches_per_token=1,
    depth=1, dim=5, query_dim=5, key_value_dim=1, mlp_dim=7, vocabulary_size=11)
PER_TOKEN = 12 + 32 + 32 + 28 + 100 + 20 + 210
GRID = PatchGrid(2, 3, 28, 56, 84, 40, 60)


def test_frames_by_themselves():
    costs = FrameCosts(SHAPE, GRID, num_text_tokens=2)
    # n tokens attend to n in the encoder, to n + 2 in the language model
    assert costs.of_frame(1) == PER_TOKEN + 8 + 20 * 3
    assert costs.of_frame(2) == 2 * PER_TOKEN + 8 * 4 + 20 * 8
    assert costs.dense == 6 * PER_TOKEN + 8 * 36 + 20 * 48


def test_as_many_tokens_as_the_flops_allow():
    costs = FrameCosts(SHAPE, GRID, num_text_tokens=2)
    two = costs.of_frame(2)
    assert [costs.frame_tokens(flops) for flops in (0, two - 1, two, two + 1, 10 * costs.dense)] \
        == [1, 1, 2, 2, 6]
    one = PER_TOKEN + 8 * 6 + 20 * 8  # sees all 6
    assert [costs.update_tokens(flops) for flops in (-1, 0, one - 1, one, 2 * one)] \
        == [-1, 0, 0, 1, 2]


def test_updates_see_what_is_known():
    costs = FrameCosts(SHAPE, GRID, num_text_tokens=2)
    known = np.array([True, True, True, False, False, False])
    assert costs.of_update(np.array([1]), known) == PER_TOKEN + 8 * 3 + 20 * 5
    assert costs.of_update(np.zeros(0, np.int64), known) == 0


def test_tokens_whose_pixels_differ():
    one = np.full((40, 60, 3), 100, np.uint8)
    other = one.copy()
    other[0, 19, 2] = 109  # token 0
    other[39, 59, 0] = 91  # token 5
    other[20, 20, 1] = 108  # token 4, by too little
    assert differing_tokens(one, other, GRID).tolist() == [True, False, False, False, False, True]
    copy_tokens(other, one, np.array([0, 4]), GRID)
    assert differing_tokens(one, other, GRID).tolist() == [False] * 5 + [True]
    assert one[20, 20, 1] == 108
