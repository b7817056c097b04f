"""What streams of an evaluation are like: how much changes, in which light, by which sensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from epvlm_ros.events.config import FilterConfig
from epvlm_ros.sim.event_camera import EventCameraConfig
from epvlm_ros.sim.rearrangement import StreamConfig

_STILL = StreamConfig()


def _seen_by(**camera: Any) -> StreamConfig:
    return replace(_STILL, camera=replace(_STILL.camera, **camera))


@dataclass(frozen=True)
class Condition:
    """
    One kind of stream, and how the robot is set up for it.

    Attributes
    ----------
    stream : StreamConfig
        Scene and cameras.
    asked_at : tuple of int
        Updates after which questions are asked; empty is after every fourth.
    shift_px : float
        By how many image pixels events are registered beside their cause.
    margin_px : int
        ``change_margin_px`` of the memories.
    filters : FilterConfig
        Filters of the events.

    """

    stream: StreamConfig
    asked_at: tuple[int, ...] = ()
    shift_px: float = 0.0
    margin_px: int = 0
    filters: FilterConfig = FilterConfig()

    def is_asked(self, update: int) -> bool:
        """Whether questions are asked after an update, from 1."""
        return update in self.asked_at if self.asked_at else update % 4 == 0


# Those that only differ in how much changes, for the bar on accuracy.
STILL = ('change_5', 'change_10', 'change_20')
DRIFT = 'drift'
MOVING_CAMERA = 'moving_camera'
CONDITIONS = {
    'change_5': Condition(replace(_STILL, changed_share=0.05)),
    'change_10': Condition(_STILL),
    'change_20': Condition(replace(_STILL, changed_share=0.2)),
    'gain_steps': Condition(_seen_by(exposures=(1.0, 0.7, 1.25, 0.8))),
    # A mains frequency is never exactly what it is called: frames do not keep step with it.
    'flicker_100': Condition(
        _seen_by(flicker_hz=99.7, flicker_depth=0.15),
        filters=FilterConfig(flicker_filter=True, flicker_frequency=100.0)),
    'flicker_120': Condition(
        _seen_by(flicker_hz=119.6, flicker_depth=0.15),
        filters=FilterConfig(flicker_filter=True, flicker_frequency=120.0)),
    # a gain of 5: noise of 5 and 12 of 255 in the frame
    'dark_5': Condition(_seen_by(light=0.2, read_noise=1.0 / 255)),
    'dark_12': Condition(_seen_by(light=0.2, read_noise=2.4 / 255)),
    'noise_events': Condition(
        replace(_STILL, events=EventCameraConfig(shot_noise_rate_hz=5.0))),
    'shifted_5': Condition(_STILL, shift_px=5.0, margin_px=8),
    'shifted_10': Condition(_STILL, shift_px=10.0, margin_px=12),
    'bursts': Condition(replace(_STILL, frames_between_bursts=4)),
    DRIFT: Condition(
        replace(_STILL, num_updates=300),
        asked_at=(14, 16, 18, 20, 294, 296, 298, 300)),
    MOVING_CAMERA: Condition(replace(_STILL, camera_moves=True)),
}
# No memory is of use where the camera always moves: that is for questions about several frames.
COMPARED = tuple(name for name in CONDITIONS if name != MOVING_CAMERA)
