"""Question sets: questions, their images, and rows with problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from epvlm_ros.activity_grid import ActivityGrid
import numpy as np


@dataclass(frozen=True)
class Case:
    """
    One question.

    ``number``, from 1, identifies it in its question set (in a file: its row). Cases with equal
    ``image`` are about one image and follow one another. ``question`` includes options and
    instruction. ``answer`` is the letter of an option, or a text where there are no ``options``
    (letter and text of each). Tables are split by ``family``; ``group`` is reported separately.
    """

    number: int
    image: str
    question: str
    answer: str
    family: str = 'all'
    options: tuple[tuple[str, str], ...] = ()
    group: str = ''


@dataclass(frozen=True, eq=False)
class Observation:
    """
    One image and what a policy may choose its tokens by.

    ``rgb`` and ``previous_rgb`` (the frame before; None for a still image) are uint8 (height,
    width, 3); ``activity`` are the events in the window of the image; ``object_mask`` is bool
    (height, width), true on objects, or None if unknown; ``earlier`` are the moments before, the
    oldest one first, that are shown as well.
    """

    rgb: np.ndarray
    activity: ActivityGrid
    previous_rgb: np.ndarray | None = None
    object_mask: np.ndarray | None = None
    earlier: tuple[Observation, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A row that cannot be asked about: its number, from 1, and the reason."""

    row: int
    reason: str


class QuestionSet(Protocol):
    """
    Questions in order, those about one image together.

    ``problems`` is complete once all cases were iterated over and viewed.
    """

    problems: list[Problem]

    def describe(self) -> dict[str, Any]:
        """Return what the questions depend on, in JSON; equal ones are the same questions."""

    def __len__(self) -> int:
        """Return the number of cases, or of rows."""

    def __iter__(self) -> Iterator[Case]:
        """Yield the cases."""

    def observe(self, case: Case) -> Observation | None:
        """Return the image of a case, or None, and a problem more, where there is none."""
