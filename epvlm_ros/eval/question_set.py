"""What is asked in an evaluation: questions, the images they are about, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from epvlm_ros.activity_grid import ActivityGrid
import numpy as np

STILL_GROUP = 'still camera and objects'


@dataclass(frozen=True)
class Case:
    """
    One question.

    Parameters
    ----------
    number : int
        Names it in its question set, from 1; in a file its row.
    image : str
        Names the image: cases of one image have the same one and follow one another.
    question : str
        What the model is asked, options and instructions included.
    answer : str
        The right answer: the letter of an option, or a text where there are no options.
    family : str
        Kind of question, for tables.
    options : tuple of (str, str)
        Letter and text of each option; empty for a free answer.
    group : str
        A further group to report apart, such as ``STILL_GROUP``; empty for none.

    """

    number: int
    image: str
    question: str
    answer: str
    family: str = 'all'
    options: tuple[tuple[str, str], ...] = ()
    group: str = ''


@dataclass(frozen=True, eq=False)
class ImageView:
    """
    One image and what a policy may choose its tokens by.

    Parameters
    ----------
    rgb : numpy.ndarray
        uint8 (height, width, 3), red first.
    activity : ActivityGrid
        Events in the window around the image.
    previous_rgb : numpy.ndarray or None
        The frame before, like ``rgb``; None for a still image.
    object_mask : numpy.ndarray or None
        bool (height, width), true where an object is; None where that is not known.

    """

    rgb: np.ndarray
    activity: ActivityGrid
    previous_rgb: np.ndarray | None = None
    object_mask: np.ndarray | None = None


@dataclass(frozen=True)
class Problem:
    """A row that cannot be asked about: its number, from 1, and why."""

    row: int
    reason: str


class QuestionSet(Protocol):
    """
    Questions in order, those about one image together.

    ``problems`` holds what was found so far, complete once all cases were looked at and viewed.
    """

    problems: list[Problem]

    def describe(self) -> dict[str, Any]:
        """Return what the questions depend on, in JSON; equal ones are the same questions."""

    def __len__(self) -> int:
        """Return the number of cases, or of rows."""

    def __iter__(self) -> Iterator[Case]:
        """Yield the cases."""

    def view(self, case: Case) -> ImageView | None:
        """Return the image of a case, or None, and a problem more, where there is none."""
