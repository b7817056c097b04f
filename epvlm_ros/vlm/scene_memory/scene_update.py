"""How a scene in memory is kept, and what a frame did to it."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.time_units import SECOND
from epvlm_ros.vlm.config import VlmConfig
import numpy as np


@dataclass(frozen=True)
class SceneOptions:
    """
    How a scene is kept; by default as ``VlmConfig`` says.

    Attributes
    ----------
    budget : float
        Share of the tokens that one update may compute.
    fills_at_once : bool
        Whether a new scene is computed whole at its first frame, whatever the budget.
    change_threshold : float
        Events above the noise floor from which on a token has changed.
    change_margin_px : int
        By how many image pixels events may lie beside their cause.
    max_age_ns : int
        Every token is computed anew at least so often; 0 is never.
    checks_image : bool
        Whether pixels are asked as well: tokens whose pixels differ are refreshed without events
        too, and those whose pixels are the same are not, whatever events they had.
    motion_share : float
        The camera moves where more than this share of the tokens changed at once.
    image_threshold : float
        Grey levels from which on a difference of pixels counts by itself; noise raises it.

    """

    budget: float = VlmConfig.keep_ratio
    fills_at_once: bool = VlmConfig.memory_fill == 'at_once'
    change_threshold: float = VlmConfig.change_threshold
    change_margin_px: int = VlmConfig.change_margin_px
    max_age_ns: int = round(VlmConfig.memory_max_age * SECOND)
    checks_image: bool = VlmConfig.memory_image_check
    motion_share: float = VlmConfig.memory_motion_share
    image_threshold: float = 12.0


@dataclass(frozen=True, eq=False)
class SceneUpdate:
    """
    What one frame did to the scene.

    Attributes
    ----------
    refreshed : numpy.ndarray
        int64, ascending, the tokens that were computed.
    known : numpy.ndarray
        bool, shape (tokens,): those that were computed at all.
    num_stale, num_doubtful : int
        Those of them that are known to have changed since; that may have, because events were
        lost.
    oldest_age_ns : int
        Age of the oldest known token.
    is_moving : bool
        The camera moved: the scene was forgotten and nothing computed.
    restarted : str
        Why the scene began anew; empty where it went on.
    gain : float
        Exposure of the frame against that of the scene.

    """

    refreshed: np.ndarray
    known: np.ndarray
    num_stale: int
    num_doubtful: int
    oldest_age_ns: int
    is_moving: bool = False
    restarted: str = ''
    gain: float = 1.0

    @property
    def num_known(self) -> int:
        """Tokens that were computed at all."""
        return int(self.known.sum())

    @property
    def is_finished(self) -> bool:
        """Whether all tokens are known, and none of them has changed since."""
        return bool(self.known.all()) and not self.num_stale and not self.num_doubtful
