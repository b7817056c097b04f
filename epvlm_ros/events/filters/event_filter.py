"""The interface of all filters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.packet.pixel_runs import PixelRuns
import numpy as np


class EventFilter(ABC):
    """
    Decides which events count.

    A filter sees every packet of one stream, in order, and keeps state for every pixel in arrays
    that are made once. Where time stands still or goes back it never fails; it only knows less for
    a moment. The sensor size is in pixels and may be 0; a negative one raises ValueError.
    """

    name: ClassVar[str]

    def __init__(self, width: int, height: int, config: FilterConfig) -> None:
        if width < 0 or height < 0:
            raise ValueError(
                f'sensor size is {width} x {height}: give width and height in pixels, 0 or more')
        self.width = width
        self.height = height
        self.num_removed = 0  # since the start
        self._is_vertical = False

    def apply(self, runs: PixelRuns) -> int:
        """
        Drop events of the next packet and return how many.

        Runs are clipped to the sensor and mostly in order of time. Bits of dropped events are
        cleared IN PLACE; runs without any bit stay, and ``num_events`` is not changed.
        """
        if runs.is_vertical != self._is_vertical:
            # What is remembered lies along the runs, row by row or column by column.
            self._is_vertical = runs.is_vertical
            self._forget()
        num_removed = self._apply(runs.records)
        self.num_removed += num_removed
        return num_removed

    @abstractmethod
    def reset(self) -> None:
        """Forget what depends on time, as after a jump of the sensor's clock."""

    @abstractmethod
    def _apply(self, records: np.ndarray) -> int:
        """Clear bits of masks, return how many."""

    def _forget(self) -> None:
        """Forget everything."""
        self.reset()

    @property
    def _num_lines(self) -> int:
        """Return how many rows the sensor has, or columns if the runs are vertical."""
        return self.width if self._is_vertical else self.height

    @property
    def _line_length(self) -> int:
        return self.height if self._is_vertical else self.width
