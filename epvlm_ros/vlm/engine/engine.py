"""The engine from frame, events and question to the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from epvlm_ros.vlm.checkpoint import Checkpoint, load_checkpoint
from epvlm_ros.vlm.choices import check_choices
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.answer import EngineAnswer
from epvlm_ros.vlm.engine.answer_maker import AnswerMaker
from epvlm_ros.vlm.engine.camera_views import CameraViews
from epvlm_ros.vlm.engine.dense_check import Agreement, DenseCheck
from epvlm_ros.vlm.engine.limits import check_dynamic, Limits, override
from epvlm_ros.vlm.engine.living_scene import SceneStatus
from epvlm_ros.vlm.engine.memory_guard import memory_taken, within_memory
from epvlm_ros.vlm.engine.moment import Moment
from epvlm_ros.vlm.model_error import ModelError
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.prompt import check_question, PromptBuilder
from epvlm_ros.vlm.token_selection import warm_up as warm_up_selection
import numpy as np
import torch

if TYPE_CHECKING:
    from epvlm_ros.activity_grid import ActivityGrid
    from epvlm_ros.change_score import ChangeScore
    from typing_extensions import Unpack

WARM_UP_SIZE_PX = 224
Result = TypeVar('Result')


class VlmEngine:
    """
    Answers questions about frames, computing on the tokens that the events select.

    Not for several threads at once: one worker owns it.

    Raises
    ------
    ValueError
        If the model cannot be prompted as ``config`` says.

    """

    def __init__(self, checkpoint: Checkpoint, config: VlmConfig) -> None:
        self._config, self._model = config, checkpoint.model
        info = checkpoint.model.info
        self._prompts = PromptBuilder(
            checkpoint.tokenizer, checkpoint.chat_template, info.image_token_id,
            info.video_token_id, tells_times=info.tells_times,
            system_prompt=config.system_prompt)
        self._views = CameraViews(checkpoint, self._prompts, config.memory_context == 'scene')
        self._frames = self._views.use('').frames
        self._dense = DenseCheck(checkpoint, self._prompts)

    @classmethod
    def from_config(cls, config: VlmConfig) -> VlmEngine:
        """
        Load the model; takes seconds to minutes.

        ``num_threads`` above 0 sets the threads of torch in the whole process.

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

        Libraries load their kernels on the first call, and the loops of the selection are
        compiled, or loaded from the cache. On a GPU, CUDA graphs for images of the sizes in
        ``config.warm_up_sizes`` are captured. ``should_stop`` tells whether to leave out the
        rest. Raises a ValueError if there can be no image of one of these sizes.
        """
        warm_up_selection()
        picture = np.zeros((WARM_UP_SIZE_PX, WARM_UP_SIZE_PX, 3), np.uint8)
        self.answer(
            picture, '?', None, max_new_tokens=2, deadline_s=0.0, should_stop=should_stop)
        for width, height in self._config.read_warm_up_sizes():
            self._views.use('').maker.warm_up(width, height, self._config, should_stop)

    @property
    def config(self) -> VlmConfig:
        """Return what the engine goes by now."""
        return self._config

    def reconfigure(self, config: VlmConfig) -> None:
        """Take new values of the dynamic parameters; a ValueError if another one differs."""
        check_dynamic(self._config, config)
        self._config = config

    @property
    def description(self) -> str:
        """One line for a log: model, size, device and number type."""
        return f'{self._config.model_name}: {self._model.description}'

    @property
    def memory_taken(self) -> int:
        """Return bytes: on a GPU those of all tensors, else those of the process."""
        return memory_taken(self._model.device_name)

    @property
    def server_status(self) -> None:
        """Return None: no server is asked."""
        return None

    @property
    def num_encoded(self) -> int:
        """Return how many frames the encoder has run on, updates of a scene in memory apart."""
        return self._views.num_encoded

    @property
    def scene_status(self) -> SceneStatus | None:
        """Return what the scene in memory is and did, as ``scene_status_of`` a single camera."""
        return self.scene_status_of('')

    def scene_status_of(self, camera: str) -> SceneStatus | None:
        """Return what a scene in memory is and did, None without one; any thread may ask."""
        view = self._views.find(camera)
        return view.scene.status if view is not None and self._config.scene_memory else None

    def check_query(
        self, question: str, choices: Sequence[str] = (), num_moments: int = 1,
        **limits: Unpack[Limits],
    ) -> None:
        """
        Check what can be checked of a query without the model; any thread may do so.

        It may be about any number of moments. Raises a ValueError if the question is blank or too
        long, there is nothing to choose between, or a number is out of its range.
        """
        check_question(question, self._override(limits).max_question_length)
        check_choices(choices)

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """Return the visual tokens of an image of this size; raises as ``check_image``."""
        return self._frames.patch_grid(image_height, image_width)

    def check_image(self, image_rgb: np.ndarray) -> None:
        """
        Check an image without the model; any thread may do so.

        Raises a ValueError if it is no uint8 array of shape (height, width, 3), smaller than one
        token, or too long for its width.
        """
        self._frames.check_image(image_rgb)

    def answer(
        self,
        image_rgb: np.ndarray,
        question: str,
        activity: ActivityGrid | None,
        *,
        should_stop: Callable[[], bool] | None = None,
        on_text: Callable[[str], None] | None = None,
        choices: Sequence[str] = (),
        **limits: Unpack[Limits],
    ) -> EngineAnswer:
        """
        Answer one question about one frame.

        As ``answer_about`` a single ``Moment``.
        """
        return self.answer_about(
            [Moment(image_rgb, activity)], question, choices=choices, should_stop=should_stop,
            on_text=on_text, **limits)

    def answer_about(
        self,
        moments: Sequence[Moment],
        question: str,
        *,
        choices: Sequence[str] = (),
        camera: str = '',
        is_past: bool = False,
        seconds_between: float = 1.0,
        should_stop: Callable[[], bool] | None = None,
        on_text: Callable[[str], None] | None = None,
        **limits: Unpack[Limits],
    ) -> EngineAnswer:
        """
        Answer one question about one or several moments.

        Of the moments that were asked about last, with the same parameters, nothing is computed
        again: a further question costs its own text.

        Parameters
        ----------
        moments : sequence of Moment
            Oldest first, at least one, with images of one size; each has its own kept tokens.
        question : str
            Not blank, at most ``config.max_question_length`` characters, no control tokens.
        choices : sequence of str
            The answer is the likeliest of these, see ``chosen``; none for an answer in any words.
        camera : str
            Which camera saw them: each has a prefix and a scene in memory of its own.
        is_past : bool
            Whether to leave a scene in memory as it is: these moments are not the latest ones.
        seconds_between : float
            Time from one moment to the next, for models that know about time.
        should_stop : callable, optional
            Asked before the encoder, before the prefill, after every token and, without CUDA
            graphs, before every layer; true ends the answer with what there is.
        on_text : callable, optional
            Gets each further piece of the text; the pieces make up ``EngineAnswer.text``.
        **limits : Limits
            In place of those of the configuration.

        Raises
        ------
        ValueError
            If an argument is not as above; the text names the remedy.
        OutOfMemory
            If there is not enough memory; the next question may fit.
        NonFiniteLogits
            If the weights are damaged, or the number type is too small for them.

        """
        config = self._override(limits)
        check_question(question, config.max_question_length)
        check_choices(choices)
        return self._within_memory(camera, lambda maker: maker.answer_all(
            moments, [question], seconds_between, config, should_stop, on_text, choices,
            is_past))[0]

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
        longer than to write the longest of them. A random selection is the same for all, limits
        hold for each, no questions give no answers; else as ``answer_about``.
        """
        config = self._override(limits)
        for question in questions:
            check_question(question, config.max_question_length)
        if not self._prompts.image_comes_first or not questions:
            return [self.answer(image_rgb, question, activity, should_stop=should_stop, **limits)
                    for question in questions]
        return self._within_memory('', lambda maker: maker.answer_all(
            [Moment(image_rgb, activity)], questions, 1.0, config, should_stop))

    def has_seen(
        self, change: ChangeScore | None, stamp_ns: int, source: str, camera: str = '',
    ) -> bool:
        """
        Tell whether ``prepare`` would find nothing new in a frame.

        So it is where a scene is in memory, and the events say that nothing changed in it since
        the last frame, less than half a second ago. The arguments are those of its ``Moment``.
        """
        view = self._views.find(camera)
        return view is not None and self._config.scene_memory and view.scene.has_seen(
            change, stamp_ns, source, self._config)

    def prepare(
        self,
        moments: Sequence[Moment],
        *,
        camera: str = '',
        seconds_between: float = 1.0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Compute all of an answer that does not depend on the question; as ``answer_about``."""
        if self._prompts.image_comes_first:
            self._within_memory(camera, lambda maker: maker.prepare(
                moments, seconds_between, self._config, should_stop))

    def compare_with_dense(
        self,
        answer: EngineAnswer,
        moments: Sequence[Moment],
        question: str,
        *,
        choices: Sequence[str] = (),
        seconds_between: float = 1.0,
        should_stop: Callable[[], bool] | None = None,
        **limits: Unpack[Limits],
    ) -> Agreement | None:
        """
        Compare an answer of before with that of the dense model; None if it was stopped.

        Nothing that other answers start from is touched. The arguments are those of the answer;
        deadline and keep ratio do not count. Raises as ``answer_about``.
        """
        return self._dense.compare(
            answer, moments, question, choices, seconds_between, self._override(limits),
            should_stop)

    def _within_memory(self, camera: str, work: Callable[[AnswerMaker], Result]) -> Result:
        view = self._views.use(camera)
        try:
            return within_memory(
                lambda: work(view.maker), self._views.forget, self._model.device_name)
        except ModelError:
            self._views.forget()  # what led to it may be in there
            raise
        finally:
            self._views.fit(self._config.memory_limit)

    def _override(self, limits: Limits) -> VlmConfig:
        return override(self._config, limits)
