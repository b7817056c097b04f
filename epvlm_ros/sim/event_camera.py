"""The properties of a simulated event camera."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EventCameraConfig:
    """
    Properties of the sensor.

    ``contrast_threshold`` is the mean change of the logarithm of the brightness that makes an
    event (``darker_threshold``: of darker events, if different), ``threshold_mismatch`` its
    standard deviation over the pixels. ``cutoff_hz`` is the bandwidth of a pixel that sees white
    (it falls with the brightness; 0: no limit), ``refractory_s`` the dead time after an event.
    ``leak_rate_hz`` is the rate of brighter events without change, ``leak_spread`` the standard
    deviation of its decimal logarithm over the pixels. ``shot_noise_rate_hz`` is the rate of noise
    events of a pixel in the dark; at white it is a quarter. ``hot_pixel_share`` of the pixels, 0
    to 1, send brighter events at ``hot_pixel_rate_hz`` on average.
    """

    contrast_threshold: float = 0.2
    darker_threshold: float | None = None
    threshold_mismatch: float = 0.02
    cutoff_hz: float = 300.0
    refractory_s: float = 0.0003
    leak_rate_hz: float = 0.05
    leak_spread: float = 0.1
    shot_noise_rate_hz: float = 0.25
    hot_pixel_share: float = 0.0
    hot_pixel_rate_hz: float = 300.0

    def __post_init__(self) -> None:
        """Refuse what no sensor can have."""
        for name in ('contrast_threshold', 'darker_threshold'):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f'{name} is {value}: give more than 0')
        for name in ('threshold_mismatch', 'cutoff_hz', 'refractory_s', 'leak_rate_hz',
                     'leak_spread', 'shot_noise_rate_hz', 'hot_pixel_rate_hz'):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f'{name} is {getattr(self, name)}: give at least 0')
        if not 0.0 <= self.hot_pixel_share <= 1.0:
            raise ValueError(f'hot_pixel_share is {self.hot_pixel_share}: give 0 to 1')
