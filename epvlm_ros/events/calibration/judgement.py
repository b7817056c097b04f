"""Whether an alignment is right: what speaks against it is told with the remedy."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from epvlm_ros.events.calibration.alignment import Alignment
from epvlm_ros.events.calibration.alignment_frame import AlignmentFrame, WorkingSize
from epvlm_ros.events.calibration.block_matching import Blocks, match_blocks
from epvlm_ros.events.calibration.rivals import find_rival
from epvlm_ros.events.calibration.search import find_flip, SEARCH_LIMITS
from epvlm_ros.events.calibration.uncertainty import estimate_uncertainty, Uncertainty
import numpy as np

_MIN_CORRELATION = 0.3
_MIN_BLOCKS = 8
_MAX_RESIDUAL_PX = 3.0  # working pixels: blocks are sought a little farther than that
_MAX_UNCERTAINTY_PX = 0.2  # working pixels: 2.5 of it stay below half a pixel
_MIN_SHARE_ALONG = 0.9
_MIN_MOTION_PX_S, _MIN_MOVING_SHARE = 5.0, 0.4
_DARK_GREY = 25


class Judgement(NamedTuple):
    """What was found about an alignment that nothing speaks against."""

    correlation: float
    blocks: Blocks
    uncertainty: Uncertainty


def judge(
    alignment: Alignment, fitted: Sequence[AlignmentFrame], held_out: Sequence[AlignmentFrame],
    working: WorkingSize,
) -> Judgement:
    """
    Judge an alignment by the frames that it was fitted to and by others.

    Raises a ValueError that names what is missing where it may be off by more than half a working
    pixel: nothing fits, another shift fits as well, parts disagree or nothing determines them.
    """
    frames = [*fitted, *held_out]
    correlation = alignment.mean_correlation(held_out)
    if not correlation >= _MIN_CORRELATION:
        raise ValueError(_why_nothing_fits(frames, working, correlation))
    blocks = match_blocks(held_out, alignment)
    if len(blocks) < _MIN_BLOCKS or not blocks.are_spread:
        raise ValueError(
            f'{len(blocks)} parts of the image have enough texture to measure'
            f'{_circumstances(frames)}: move the camera in front of a scene that has edges in all '
            'directions and all parts of the image')
    if (rival := find_rival(frames, alignment)) is not None:
        right, down = (round(along / working.image_scale) for along in rival.shift)
        raise ValueError(
            f'events fit the edges {rival.ratio:.0%} as well {right:+d} px to the right and '
            f'{down:+d} px down: the scene repeats itself; record one that does not, or with the '
            'borders of its pattern in view')
    uncertainty = estimate_uncertainty(fitted, alignment)
    if not uncertainty.mean_px <= _MAX_UNCERTAINTY_PX:
        raise ValueError(
            f'the result may be {uncertainty.mean_px / working.image_scale:.2g} px off (standard '
            f'error; {_MAX_UNCERTAINTY_PX / working.image_scale:.2g} is allowed)'
            f'{_circumstances(frames)}: {_missing(uncertainty)}')
    if blocks.mean_distance > _MAX_RESIDUAL_PX:
        raise ValueError(
            f'parts of the image are still {blocks.mean_distance / working.image_scale:.1f} px '
            'off: record a scene far away compared with the distance of the cameras, and both '
            'sharp')
    return Judgement(correlation, blocks, uncertainty)


def _why_nothing_fits(
    frames: Sequence[AlignmentFrame], working: WorkingSize, correlation: float,
) -> str:
    what = f'events and edges do not fit (correlation {correlation:.2f})'
    if flip := find_flip(frames, working):
        return (f'{what}, but they would if the sensor were not {flip}: turn its events, or the '
                'images, by the settings of the driver')
    return (f'{what}{_circumstances(frames)}: do both cameras see the same scene, sharp and not '
            f'mirrored? What is searched: the sensor {SEARCH_LIMITS}')


def _missing(uncertainty: Uncertainty) -> str:
    if uncertainty.timed_px <= uncertainty.mean_px / 2:
        return ('a shift cannot be told from a delay of the events; move the camera in more than '
                'one direction, or back and forth')
    if uncertainty.share_along >= _MIN_SHARE_ALONG:
        return (f'nothing tells how far it is along {uncertainty.angle_deg:.0f} degrees (0 to the '
                'right, 90 down); record edges in all directions, moved across each')
    return ('parts of the recording disagree or tell too little; move the cameras, in more than '
            'one direction and for longer, before a scene with edges everywhere that is far away '
            'or flat')


def _circumstances(frames: Sequence[AlignmentFrame]) -> str:
    """Return what may be the reason, for the middle of a line."""
    told = []
    grey = float(np.median([frame.grey_level for frame in frames]))
    if grey < _DARK_GREY:
        told.append(f'the images are dark (median {grey:.0f} of 255)')
    share = float(np.median([
        (np.hypot(*np.moveaxis(frame.flow, -1, 0)) > _MIN_MOTION_PX_S).mean()
        for frame in frames]))
    if share < _MIN_MOVING_SHARE:
        told.append(f'only {share:.0%} of the image moves: do the cameras stand still?')
    return f' ({"; ".join(told)})' if told else ''
