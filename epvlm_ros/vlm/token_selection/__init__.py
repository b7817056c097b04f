"""
Which visual tokens are computed on: activity per token -> indices of the kept tokens.

A policy is a ranking of the tokens, best first; the budget keeps the head of it. So the number of
kept tokens is exact, and a smaller budget keeps a part of what a larger one keeps.
"""

from epvlm_ros.vlm.token_selection.features import image_detail, TokenFeatures
from epvlm_ros.vlm.token_selection.moments import select_for_moments, warm_up
from epvlm_ros.vlm.token_selection.objectness import image_objectness
from epvlm_ros.vlm.token_selection.policies import IMAGE_SCORES, POLICIES, rank_uniformly
from epvlm_ros.vlm.token_selection.saliency import image_saliency
from epvlm_ros.vlm.token_selection.selection import (
    FALLBACKS, is_static_scene, noise_floor, select_for_frame, select_tokens, Selection,
    SELECTION_PARAMETERS, token_budget)

__all__ = [
    'FALLBACKS', 'IMAGE_SCORES', 'image_detail', 'image_objectness', 'image_saliency',
    'is_static_scene', 'noise_floor', 'POLICIES', 'rank_uniformly', 'select_for_frame',
    'select_for_moments', 'select_tokens', 'Selection', 'SELECTION_PARAMETERS', 'token_budget',
    'TokenFeatures', 'warm_up']
