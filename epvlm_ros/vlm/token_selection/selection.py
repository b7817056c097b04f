"""Token selection: a policy's ranking, the budget, and the fallback without events."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.patch_grid import PatchGrid, token_activity
from epvlm_ros.vlm.token_selection.features import image_detail, TokenFeatures
from epvlm_ros.vlm.token_selection.objectness import image_objectness
from epvlm_ros.vlm.token_selection.policies import EVENT_POLICIES, IMAGE_SCORES, POLICIES
from epvlm_ros.vlm.token_selection.saliency import image_saliency
import numpy as np

_NANOSECOND = 1e-9  # in seconds
NO_FALLBACK = ''
# Every value of Selection.fallback: what was used in place of an event policy, and why.
STATIC_SCENE_POLICIES = ('dense', 'uniform', 'detail', 'saliency', 'objectness')
STATIC_SCENE, NO_EVENT_DATA = 'static scene', 'no event data'
FALLBACKS = (NO_FALLBACK, *(
    f'{policy}: {reason}' for reason in (STATIC_SCENE, NO_EVENT_DATA)
    for policy in STATIC_SCENE_POLICIES))
# The fields of VlmConfig that decide which tokens of a frame are computed on.
SELECTION_PARAMETERS = (
    'keep_ratio', 'selection', 'still_share', 'static_scene_policy', 'static_scene_rate')


@dataclass(frozen=True)
class Selection:
    """
    The tokens to compute on.

    ``kept_indices`` is int64, ascending, without repeats, at least one. ``policy`` is a key of
    ``POLICIES``, or dense for all tokens. ``fallback`` is one of ``FALLBACKS``, empty if the
    configured policy was used.
    """

    kept_indices: np.ndarray
    policy: str
    fallback: str


def token_budget(keep_ratio: float, num_tokens: int) -> int:
    """
    Return how many of ``num_tokens`` tokens ``keep_ratio`` keeps, at least one.

    Raises
    ------
    ValueError
        If the ratio is not in (0, 1].

    """
    if not 0.0 < keep_ratio <= 1.0:
        raise ValueError(f'keep_ratio is {keep_ratio}: give more than 0 and at most 1')
    return max(1, round(keep_ratio * num_tokens))


def select_tokens(
    features: TokenFeatures,
    keep_ratio: float,
    *,
    policy: str = 'events',
    static_scene_policy: str = 'dense',
    is_static: bool = False,
) -> Selection:
    """
    Choose the visual tokens to compute on.

    Parameters
    ----------
    features : TokenFeatures
        What the policy looks at; not changed.
    keep_ratio : float
        In (0, 1]; 1 is the dense model.
    policy : str
        A key of ``POLICIES``.
    static_scene_policy : str
        One of ``STATIC_SCENE_POLICIES``: used in place of an event policy where there is
        nothing to go by.
    is_static : bool
        Whether hardly any events came, see ``is_static_scene``.

    Returns
    -------
    Selection
        ``token_budget`` tokens, or all of them after the fallback 'dense'.

    Raises
    ------
    ValueError
        If a policy is unknown, the ratio is out of range or the activity has another shape.

    """
    budget = token_budget(keep_ratio, features.num_tokens)
    _check(features, policy, static_scene_policy)
    if budget == features.num_tokens:
        return Selection(np.arange(budget, dtype=np.int64), 'dense', NO_FALLBACK)
    fallback = NO_FALLBACK
    if policy in EVENT_POLICIES and (features.activity is None or is_static):
        reason = NO_EVENT_DATA if features.activity is None else STATIC_SCENE
        policy, fallback = static_scene_policy, f'{static_scene_policy}: {reason}'
    if policy == 'dense':
        return Selection(np.arange(features.num_tokens, dtype=np.int64), policy, fallback)
    score = IMAGE_SCORES.get(policy)
    if score and getattr(features, score) is None:
        raise ValueError(f'{policy} looks at the image: give its {score}, see image_{score}')
    kept_indices = np.sort(POLICIES[policy](features)[:budget])
    return Selection(kept_indices.astype(np.int64), policy, fallback)


def select_for_frame(
    image_rgb: np.ndarray, grid: PatchGrid, activity: ActivityGrid | None, config: VlmConfig,
    seed: int = 0, keep_ratio: float | None = None,
) -> Selection:
    """
    Choose the visual tokens of a frame.

    Parameters
    ----------
    image_rgb : numpy.ndarray
        uint8, shape (height, width, 3), red first; read only by policies that need it.
    grid : PatchGrid
        The tokens of this image.
    activity : ActivityGrid or None
        Event counts of the frame; None if no event data came.
    config : VlmConfig
        Gives the ``SELECTION_PARAMETERS``.
    seed : int
        Of the random policy.
    keep_ratio : float, optional
        In place of that of the configuration.

    Raises
    ------
    ValueError
        If the activity is about an image of another size or its window has no length.

    """
    keep_ratio = config.keep_ratio if keep_ratio is None else keep_ratio
    needed = {IMAGE_SCORES.get(name) for name in (config.selection, config.static_scene_policy)
              if keep_ratio < 1.0}
    features, is_static = look_at_frame(image_rgb, grid, activity, config, needed, seed)
    return select_tokens(
        features, keep_ratio, policy=config.selection,
        static_scene_policy=config.static_scene_policy, is_static=is_static)


def look_at_frame(
    image_rgb: np.ndarray, grid: PatchGrid, activity: ActivityGrid | None, config: VlmConfig,
    needed: Collection[str | None], seed: int = 0,
) -> tuple[TokenFeatures, bool]:
    """
    Return the features of a frame, and whether its scene is static, see ``is_static_scene``.

    ``needed`` names the scores of the image that a policy takes, of the values of
    ``IMAGE_SCORES``; the other arguments, and the errors, are those of ``select_for_frame``.
    """
    per_token, floor, is_static = None, 0.0, False
    if activity is not None:
        per_token = token_activity(activity, grid)
        window_length_s = (activity.window_end_ns - activity.window_start_ns) * _NANOSECOND
        limits = (grid, window_length_s, config.static_scene_rate, activity.pixel_density)
        floor, is_static = noise_floor(*limits), is_static_scene(per_token, *limits)
    return TokenFeatures(
        grid.rows, grid.cols, per_token, seed, noise_floor=floor, still_share=config.still_share,
        detail=image_detail(image_rgb, grid) if 'detail' in needed else None,
        saliency=image_saliency(image_rgb, grid) if 'saliency' in needed else None,
        objectness=image_objectness(image_rgb, grid) if 'objectness' in needed else None,
    ), is_static


def noise_floor(
    grid: PatchGrid, window_length_s: float, static_scene_rate: float,
    pixel_density: float = 1.0,
) -> float:
    """
    Return the most events of a token in which nothing moves.

    Parameters
    ----------
    grid : PatchGrid
        Gives the area of a token.
    window_length_s : float
        Of the event window, above 0.
    static_scene_rate : float
        Events per sensor pixel and second up to which nothing moves.
    pixel_density : float
        Sensor pixels per pixel of the image, above 0.

    Raises
    ------
    ValueError
        If the window has no length.

    """
    if not window_length_s > 0.0:
        raise ValueError(
            f'the event window is {window_length_s} s long: give a window that ends after its '
            'start')
    return static_scene_rate * grid.token_area_px * pixel_density * window_length_s


def is_static_scene(
    activity: np.ndarray, grid: PatchGrid, window_length_s: float, static_scene_rate: float,
    pixel_density: float = 1.0,
) -> bool:
    """
    Tell whether no token has more events than ``noise_floor``, which explains the arguments.

    ``activity`` is float32, shape (rows, cols), events per token in the window.
    """
    floor = noise_floor(grid, window_length_s, static_scene_rate, pixel_density)
    return float(activity.max()) <= floor


def _check(features: TokenFeatures, policy: str, static_scene_policy: str) -> None:
    if policy not in POLICIES:
        raise ValueError(f'selection is {policy!r}: give one of {", ".join(POLICIES)}')
    if static_scene_policy not in STATIC_SCENE_POLICIES:
        raise ValueError(
            f'static_scene_policy is {static_scene_policy!r}: give one of '
            + ', '.join(STATIC_SCENE_POLICIES))
    for name in ('activity', 'detail', 'saliency', 'objectness'):
        values = getattr(features, name)
        if values is not None and values.shape != (features.rows, features.cols):
            raise ValueError(
                f'the {name} has shape {values.shape}: give ({features.rows}, {features.cols}), '
                'one number per token')
    if not 0.0 <= features.still_share <= 1.0:
        raise ValueError(f'still_share is {features.still_share}: give 0 to 1')
