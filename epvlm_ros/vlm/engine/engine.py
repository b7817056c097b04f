"""The engine from frame, events and question to the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypedDict, TypeVar

from epvlm_ros.vlm.checkpoint import Checkpoint, load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.answer import EngineAnswer
from epvlm_ros.vlm.engine.answer_maker import AnswerMaker
from epvlm_ros.vlm.engine.memory_guard import within_memory
from epvlm_ros.vlm.engine.moment import Moment
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.prompt import check_question
from epvlm_ros.vlm.token_selection import warm_up as warm_up_selection
import numpy as np
import torch

if TYPE_CHECKING:
    from epvlm_ros.activity_grid import ActivityGrid
    from typing_extensions import Unpack

WARM_UP_SIZE_PX = 224
Result = TypeVar('Result')


class Limits(TypedDict, total=False):
    """
    What a query may set for itself, in the ranges of the parameters; None sets nothing.

    ``deadline_s`` counts from the call. What was begun is not broken off: an answer may end
    later by the time of one layer, and where functions are recorded by that of the encoder, of
    the prefill or of some tokens.
    """

    keep_ratio: float | None
    max_new_tokens: int | None
    deadline_s: float | None


LIMIT_PARAMETERS = {
    'keep_ratio': 'keep_ratio', 'max_new_tokens': 'max_new_tokens', 'deadline_s': 'deadline'}


class VlmEngine:
    """
    Answers questions about frames, computing on the tokens that the events choose.

    Not for several threads at once: one worker owns it.

    Parameters
    ----------
    checkpoint : Checkpoint
        The loaded model.
    config : VlmConfig
        How much of each frame is computed on, and the limits.

    """

    def __init__(self, checkpoint: Checkpoint, config: VlmConfig) -> None:
        self._config = config
        self._model = checkpoint.model
        self._maker = AnswerMaker(checkpoint, config.system_prompt)

    @classmethod
    def from_config(cls, config: VlmConfig) -> VlmEngine:
        """
        Load the model; takes seconds to minutes.

        Parameters
        ----------
        config : VlmConfig
            An empty ``model`` is the embedded checkpoint. ``num_threads`` above 0 sets the
            threads of torch in the whole process.

        Raises
        ------
        ValueError
            If the model cannot be loaded; the text names what is missing and the remedy.

        """
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        return cls(load_checkpoint(config), config)

    def warm_up(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """
        Answer about a small empty picture, so that no question pays for the first use.

        Libraries load their kernels and plan their memory on the first call, and the loops of
        the selection are compiled, or loaded from the cache. On a GPU, what images of the sizes
        in ``config.warm_up_sizes`` will need is recorded.

        Parameters
        ----------
        should_stop : callable
            Tells whether to leave out what is left.

        Raises
        ------
        ValueError
            If there can be no image of one of these sizes.

        """
        warm_up_selection()
        picture = np.zeros((WARM_UP_SIZE_PX, WARM_UP_SIZE_PX, 3), np.uint8)
        self.answer(
            picture, '?', None, max_new_tokens=2, deadline_s=0.0, should_stop=should_stop)
        for width, height in self._config.read_warm_up_sizes():
            self._maker.record(width, height, self._config, should_stop)

    @property
    def config(self) -> VlmConfig:
        """Return what the engine goes by now."""
        return self._config

    def reconfigure(self, config: VlmConfig) -> None:
        """
        Take new values of the dynamic parameters.

        Raises
        ------
        ValueError
            If a parameter that needs the model loaded anew differs.

        """
        for item in fields(config):
            old, new = getattr(self._config, item.name), getattr(config, item.name)
            if new != old and not item.metadata['dynamic']:
                raise ValueError(
                    f'{item.name} cannot change from {old!r} to {new!r} while the model is '
                    'loaded: load it again')
        self._config = config

    @property
    def description(self) -> str:
        """One line for a log: model, size, device and number type."""
        return f'{self._config.model or "embedded model"}: {self._model.description}'

    def check_query(self, question: str, **limits: Unpack[Limits]) -> None:
        """
        Check what can be checked of a query without the model; any thread may do so.

        Raises
        ------
        ValueError
            If the question is blank or too long, or a number is out of its range.

        """
        check_question(question, self._override(limits).max_question_length)

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """
        Return the visual tokens of an image of this size.

        Raises
        ------
        ValueError
            If the image is smaller than one token or too long for its width.

        """
        return self._maker.frames.patch_grid(image_height, image_width)

    def check_image(self, image_rgb: np.ndarray) -> None:
        """
        Check an image without the model; any thread may do so.

        Raises
        ------
        ValueError
            If it is no uint8 array of shape (height, width, 3), smaller than one token, or too
            long for its width.

        """
        self._maker.frames.check_image(image_rgb)

    def answer(
        self,
        image_rgb: np.ndarray,
        question: str,
        activity: ActivityGrid | None,
        *,
        should_stop: Callable[[], bool] | None = None,
        on_text: Callable[[str], None] | None = None,
        **limits: Unpack[Limits],
    ) -> EngineAnswer:
        """
        Answer one question about one frame.

        Of the frame that was asked about last, with the same parameters, nothing is computed
        again: a further question costs its own text.

        Parameters
        ----------
        image_rgb, activity
            As in ``Moment``.
        question, should_stop, on_text, **limits
            As in ``answer_about``.

        Raises
        ------
        ValueError
            If an argument is not as above; the text names the remedy.
        OutOfMemory
            If there is not enough memory; the next question may fit.

        """
        return self.answer_about(
            [Moment(image_rgb, activity)], question, should_stop=should_stop, on_text=on_text,
            **limits)

    def answer_about(
        self,
        moments: Sequence[Moment],
        question: str,
        *,
        seconds_between: float = 1.0,
        should_stop: Callable[[], bool] | None = None,
        on_text: Callable[[str], None] | None = None,
        **limits: Unpack[Limits],
    ) -> EngineAnswer:
        """
        Answer one question about one or several moments.

        Parameters
        ----------
        moments : sequence of Moment
            Oldest first, at least one, with images of one size; each has its own kept tokens.
        question : str
            Not blank, at most ``config.max_question_length`` characters, no control tokens.
        seconds_between : float
            Time from one moment to the next, for models that know about time.
        should_stop : callable, optional
            Asked before the encoder, before the prefill, after every token and, where nothing is
            recorded, before every layer; true ends the answer with what there is.
        on_text : callable, optional
            Gets each further piece of the text; the pieces make up ``EngineAnswer.text``.
        **limits : Limits
            In place of those of the configuration.

        Raises
        ------
        ValueError, OutOfMemory
            As in ``answer``.

        """
        config = self._override(limits)
        check_question(question, config.max_question_length)
        return self._within_memory(lambda: self._maker.answer(
            moments, question, seconds_between, config, should_stop, on_text))

    def answer_all(
        self,
        image_rgb: np.ndarray,
        questions: Sequence[str],
        activity: ActivityGrid | None,
        *,
        should_stop: Callable[[], bool] | None = None,
        **limits: Unpack[Limits],
    ) -> list[EngineAnswer]:
        """
        Answer several questions about one frame at once, each as it is answered alone.

        The frame is encoded once and all answers are written side by side, which takes little
        longer than to write the longest of them. A random selection is the same for all.

        Parameters
        ----------
        questions : sequence of str
            Each as in ``answer_about``; none gives no answers.
        image_rgb, activity
            As in ``Moment``.
        should_stop, **limits
            As in ``answer_about``; they hold for each answer.

        Raises
        ------
        ValueError, OutOfMemory
            As in ``answer``.

        """
        config = self._override(limits)
        for question in questions:
            check_question(question, config.max_question_length)
        if not self._maker.image_comes_first or not questions:
            return [self.answer(image_rgb, question, activity, should_stop=should_stop, **limits)
                    for question in questions]
        return self._within_memory(lambda: self._maker.answer_all(
            Moment(image_rgb, activity), questions, config, should_stop))

    def prepare(
        self,
        moments: Sequence[Moment],
        *,
        seconds_between: float = 1.0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """
        Compute all of an answer that does not depend on the question, ahead of it.

        Parameters
        ----------
        moments, seconds_between, should_stop
            As in ``answer_about``.

        Raises
        ------
        ValueError, OutOfMemory
            As in ``answer``.

        """
        if self._maker.image_comes_first:
            self._within_memory(lambda: self._maker.prepare(
                moments, seconds_between, self._config, should_stop))

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        return within_memory(work, self._maker.frames.forget, self._model.device)

    def _override(self, limits: Limits) -> VlmConfig:
        given = {LIMIT_PARAMETERS[name]: value
                 for name, value in limits.items() if value is not None}
        # replace() checks a new value as it checks a parameter
        return replace(self._config, **given) if given else self._config  # type: ignore[arg-type]
