"""The properties of a simulated event camera."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EventCameraConfig:
    """
    Properties of the sensor.

    Attributes
    ----------
    contrast_threshold : float
        Mean change of the logarithm of the brightness that makes an event, above 0.
    darker_threshold : float or None
        The same for darker-events, where it is another one.
    threshold_mismatch : float
        Standard deviation of the thresholds over the pixels, at least 0.
    cutoff_hz : float
        Bandwidth of a pixel that sees white; it falls with the brightness. 0 is no limit.
    refractory_s : float
        How long a pixel is blind after an event, in seconds.
    leak_rate_hz : float
        Brighter-events of a pixel that sees no change, per second.
    leak_spread : float
        Standard deviation of the decimal logarithm of that rate over the pixels, at least 0.
    shot_noise_rate_hz : float
        Events at random moments of a pixel in the dark, per second; one that sees white has a
        quarter of them.
    hot_pixel_share : float
        Share of the pixels that are hot, 0 to 1.
    hot_pixel_rate_hz : float
        Mean rate of a hot pixel, brighter-events per second.

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
