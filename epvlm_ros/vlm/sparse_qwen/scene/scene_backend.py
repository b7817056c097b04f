"""The interface between a scene in memory and a model that computes tokens in their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from epvlm_ros.vlm.sparse_qwen.decoding_state import PromptPrefix
from epvlm_ros.vlm.sparse_qwen.vision_input import VisionInput
import numpy as np
from torch import Tensor

States = Any  # what begin returned; only the backend that made it looks inside


class SceneStates(Protocol):
    """What is kept of one scene."""

    rows: int  # of the grid of visual tokens
    cols: int
    known: np.ndarray  # bool, (visual tokens,): which were computed; the others are invisible

    @property
    def num_tokens(self) -> int:
        """Return the number of visual tokens, known or not."""

    @property
    def num_text_tokens(self) -> int:
        """Return how many tokens of the prompt, up to the end of the image, are text."""

    @property
    def num_bytes(self) -> int:
        """Return how much memory the scene takes."""

    def snapshot(self) -> PromptPrefix:
        """
        Return a copy of what a question about the scene starts from.

        Later refreshes of the scene do not change it.

        Raises
        ------
        ValueError
            If nothing of the scene is known yet.

        """


class SceneBackend(Protocol):
    """
    Recomputes some visual tokens of a scene in place, and leaves the others as they were computed.

    Several scenes may be kept at once. For one thread, that of the model.
    """

    def begin(self, prompt_ids: Tensor, rows: int, cols: int) -> SceneStates:
        """
        Return a scene of which nothing is known.

        Parameters
        ----------
        prompt_ids : torch.Tensor
            int64, shape (tokens,), a dense prompt about one image; what follows the image is cut
            off.
        rows, cols : int
            The grid of visual tokens.

        Raises
        ------
        ValueError
            If the prompt is about another grid.

        """

    def refresh(self, scene: States, vision: VisionInput) -> None:
        """
        Compute the kept tokens of an image anew, in their places in the scene.

        Parameters
        ----------
        scene : SceneStates
            Changed in place; the kept tokens are known afterwards.
        vision : VisionInput
            An image of the scene; its ``kept_indices`` are the tokens to refresh.

        Raises
        ------
        ValueError
            If the image has another grid than the scene or holds several moments.

        """

    def rerun_language_model(self, scene: States, prompt_ids: Tensor) -> None:
        """
        Go on with a scene after other text, such as another system prompt.

        What the encoder computed stays; the language model runs over all known tokens.

        Parameters
        ----------
        scene : SceneStates
            Changed in place.
        prompt_ids : torch.Tensor
            As in ``begin``.

        """

    def warm_up(
        self, prompt_ids: Tensor, rows: int, cols: int, most_changed: int,
        should_stop: Callable[[], bool],
    ) -> None:
        """
        Get ready for scenes of one size, so that the first updates are fast.

        Parameters
        ----------
        prompt_ids, rows, cols
            As in ``begin``.
        most_changed : int
            Tokens of the largest update, beside that of a whole scene.
        should_stop : callable
            Tells whether to leave out the rest.

        """

    def release_memory(self) -> None:
        """Let go of what is kept of scenes that are gone, for those that begin."""


def check_known(scene: SceneStates) -> None:
    """Raise a ValueError if nothing of a scene is known yet."""
    if not scene.known.any():
        raise ValueError('nothing of the scene is known yet: refresh some tokens first')


def check_grid(scene: SceneStates, vision: VisionInput) -> None:
    """Raise a ValueError if an image is none of this scene."""
    if (vision.rows, vision.cols, vision.num_moments) != (scene.rows, scene.cols, 1):
        raise ValueError(
            f'{vision.num_moments} image(s) of {vision.rows} x {vision.cols} tokens, the scene '
            f'has one of {scene.rows} x {scene.cols}: begin a new scene')
