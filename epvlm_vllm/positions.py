"""Positions of the tokens of a sparse prompt: those that they have in the dense prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np


def make_dense(
    token_ids: Sequence[int], features: Sequence[Any], merge_size: int,
) -> tuple[list[int], list[Any], np.ndarray]:
    """
    Return the prompt as if all visual tokens were kept.

    Parameters
    ----------
    token_ids : sequence of int
        The sparse prompt.
    features : sequence of vllm.multimodal.inputs.MultiModalFeatureSpec
        Its images and videos; those with a field ``kept_indices`` may lack tokens.
    merge_size : int
        Rows, and columns, of patches in a visual token.

    Returns
    -------
    tuple
        Token ids and features of the dense prompt, and which of its tokens are in the sparse one,
        bool (dense tokens,).

    """
    dense_ids: list[int] = []
    dense_features, is_kept, end = [], [], 0
    for feature in sorted(features, key=lambda feature: feature.mm_position.offset):
        place, kept = feature.mm_position, feature.data.get('kept_indices')
        text = token_ids[end:place.offset]
        end = place.offset + place.length
        visual, mask = list(token_ids[place.offset:end]), np.ones(place.length, bool)
        if kept is not None:
            num_tokens = int(feature.data['image_grid_thw'].data.prod()) // merge_size ** 2
            visual, mask = visual[:1] * num_tokens, np.zeros(num_tokens, bool)
            mask[kept.data.numpy()] = True
        is_kept += [np.ones(len(text), bool), mask]
        dense_ids += text
        dense_features.append(replace(feature, mm_position=replace(
            place, offset=len(dense_ids), length=len(visual))))
        dense_ids += visual
    dense_ids += token_ids[end:]
    return dense_ids, dense_features, np.concatenate(
        [*is_kept, np.ones(len(token_ids) - end, bool)])
