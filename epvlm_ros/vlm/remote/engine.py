"""The engine whose model is on a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
import logging
import time
from typing import Any, TYPE_CHECKING

from epvlm_ros.vlm.checkpoint import load_processor, Processor
from epvlm_ros.vlm.config import ServerConfig, VlmConfig
from epvlm_ros.vlm.engine import EngineAnswer, Moment, ServerStatus, VlmEngine
from epvlm_ros.vlm.engine.costs import count_costs
from epvlm_ros.vlm.engine.generation import CutOff, make_limits
from epvlm_ros.vlm.engine.limits import check_dynamic, Limits, override
from epvlm_ros.vlm.engine.memory_guard import memory_taken
from epvlm_ros.vlm.engine.moment import SelectedMoments
from epvlm_ros.vlm.engine.moment_selector import MomentSelector
from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.prompt import check_question, PromptBuilder
from epvlm_ros.vlm.remote.answer import check_prompt, make_answer
from epvlm_ros.vlm.remote.chat_stream import ChatStream
from epvlm_ros.vlm.remote.http_client import read_key
from epvlm_ros.vlm.remote.model_server import ModelServer
from epvlm_ros.vlm.remote.picture import encode_picture
from epvlm_ros.vlm.remote.request import make_request
from epvlm_ros.vlm.remote.server_error import ServerError
from epvlm_ros.vlm.token_selection import warm_up as warm_up_selection

if TYPE_CHECKING:
    from epvlm_ros.activity_grid import ActivityGrid
    from epvlm_ros.change_score import ChangeScore
    import numpy as np
    from typing_extensions import Unpack

_logger = logging.getLogger(__name__)


class RemoteEngine:
    """
    Answers questions about frames by a model on a server; selects tokens and resizes here.

    Implements ``epvlm_ros.vlm.engine.Engine``. For one thread.

    Parameters
    ----------
    processor : Processor
        Of the checkpoint that the server has.
    config : VlmConfig
        What is about weights and a device does not count.
    server : ServerConfig
        With a URL.
    key : str
        For the server; empty for none.
    fallback : VlmEngine, optional
        Answers while the server is away.

    Raises
    ------
    ValueError
        If the model cannot be prompted as ``config`` says, or asks for what a server cannot do.

    """

    def __init__(
        self, processor: Processor, config: VlmConfig, server: ServerConfig, key: str = '',
        fallback: VlmEngine | None = None,
    ) -> None:
        _check_local(config)
        info = processor.info
        self._config, self._processor, self._quality = \
            config, processor, server.server_jpeg_quality
        self._prompts = PromptBuilder(
            processor.tokenizer, processor.chat_template, info.image_token_id,
            info.video_token_id, tells_times=info.tells_times,
            system_prompt=config.system_prompt)
        self._selector = MomentSelector(processor.geometry)
        self._shape = ModelShape.from_config(info.config)
        self._end_tokens = frozenset(
            processor.tokenizer.convert_ids_to_tokens(sorted(processor.end_token_ids)))
        self._server = ModelServer(server, key)
        self._fallback = fallback
        self._num_answers = self._num_by_fallback = 0

    @classmethod
    def from_config(cls, config: VlmConfig, server: ServerConfig) -> RemoteEngine:
        """
        Load what is needed beside the weights, and the embedded model if it is to help out.

        The key comes from the environment variable ``EPVLM_SERVER_KEY``. Raises a ValueError as
        ``VlmEngine.from_config``, or if the key cannot be sent.
        """
        key = read_key()
        _check_local(config)  # before what takes long
        fallback = None
        if server.server_fallback == 'embedded':
            fallback = VlmEngine.from_config(replace(
                config, model='', revision='', max_pixels=0, scene_memory=False))
        return cls(load_processor(config), config, server, key, fallback)

    def warm_up(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """
        Load what the first question needs, and look for the model on the server.

        A server that is not there now may come later: that is a line in the log. Raises a
        ServerError if it is there without the model.
        """
        warm_up_selection()
        if self._fallback is not None:
            self._fallback.warm_up(should_stop)
        try:
            self._server.find_model(make_limits(should_stop, 0.0))
        except CutOff:
            pass
        except ServerError as error:
            if not error.is_fault:
                raise
            _logger.warning('%s; questions go there all the same', error)

    @property
    def config(self) -> VlmConfig:
        """Return what the engine goes by now."""
        return self._config

    def reconfigure(self, config: VlmConfig) -> None:
        """Take new values of the dynamic parameters; a ValueError if another one differs."""
        check_dynamic(self._config, config)
        self._config = config
        if self._fallback is not None:
            old = self._fallback.config
            self._fallback.reconfigure(replace(
                config, model=old.model, revision=old.revision, max_pixels=old.max_pixels,
                scene_memory=False))

    @property
    def description(self) -> str:
        """Return the model and its server, for a log."""
        helper = f', or {self._fallback.description}' if self._fallback is not None else ''
        return self._server.name + helper

    @property
    def memory_taken(self) -> int:
        """Return the bytes of this process."""
        return memory_taken('cpu')

    @property
    def num_encoded(self) -> int:
        """Return how many frames the embedded model has encoded."""
        return self._fallback.num_encoded if self._fallback is not None else 0

    @property
    def server_status(self) -> ServerStatus:
        """Return what came of questions to the server."""
        return replace(self._server.status, num_by_fallback=self._num_by_fallback)

    def scene_status_of(self, camera: str) -> None:
        """Return None: a scene in memory needs the model on this computer."""
        return None

    def check_query(
        self, question: str, choices: Sequence[str] = (), num_moments: int = 1,
        **limits: Unpack[Limits],
    ) -> None:
        """Check what can be checked of a query without the server; any thread may do so."""
        _check_local(self._config)
        check_question(question, override(self._config, limits).max_question_length)
        if choices:
            raise ValueError(
                f'there are {len(choices)} choices, which a server does not weigh: put them into '
                'the question, or leave the parameter server empty')
        if num_moments > 1:
            raise ValueError(
                f'the question is about {num_moments} moments, a server takes one: set '
                'num_moments to 1, or leave the parameter server empty')

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """Return the visual tokens that the server's model makes of an image of this size."""
        return self._selector.patch_grid(image_height, image_width)

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
        Answer one question about one moment.

        The arguments are those of ``VlmEngine.answer_about``; ``should_stop`` is asked after
        every token and some fifty times a second.

        Raises
        ------
        ValueError
            If an argument is not as there, or something only a model on this computer does.
        ServerError
            If the server does not answer and nothing helps out, or it broke off after its first
            words.

        """
        self.check_query(question, choices, len(moments), **limits)
        config = override(self._config, limits)
        start_s = time.perf_counter()
        try:
            return self._ask(moments, question, config, should_stop, on_text)
        except ServerError as error:
            if self._fallback is None or not error.is_fault or error.num_tokens:
                raise
        self._num_by_fallback += 1
        spent_s = time.perf_counter() - start_s
        if config.deadline:  # at least a moment: it is not to be no limit
            limits['deadline_s'] = max(config.deadline - spent_s, 1e-3)
        answer = self._fallback.answer_about(
            moments, question, camera=camera, is_past=is_past, seconds_between=seconds_between,
            should_stop=should_stop, on_text=on_text, **limits)
        return replace(
            answer, time_to_first_token_s=answer.time_to_first_token_s + spent_s,
            total_time_s=answer.total_time_s + spent_s)

    def answer_all(
        self, image_rgb: np.ndarray, questions: Sequence[str], activity: ActivityGrid | None,
    ) -> list[EngineAnswer]:
        """Answer several questions about one frame, one after the other."""
        return [self.answer_about([Moment(image_rgb, activity)], question)
                for question in questions]

    def has_seen(
        self, change: ChangeScore | None, stamp_ns: int, source: str, camera: str = '',
    ) -> bool:
        """Return True: nothing is computed before a question."""
        return True

    def prepare(
        self,
        moments: Sequence[Moment],
        *,
        camera: str = '',
        seconds_between: float = 1.0,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Do nothing: what is not asked for is not sent."""

    def compare_with_dense(self, answer: EngineAnswer, *_: Any, **__: Any) -> None:
        """Raise a ValueError: only a model on this computer is compared."""
        raise ValueError('shadow_every is set: set it to 0, or leave the parameter server empty')

    def _ask(
        self, moments: Sequence[Moment], question: str, config: VlmConfig,
        should_stop: Callable[[], bool] | None, on_text: Callable[[str], None] | None,
    ) -> EngineAnswer:
        stream = ChatStream(self._end_tokens, config.max_new_tokens)
        self._selector.check_moments(moments)
        selected = self._selector.select(moments, 1.0, config, self._num_answers)
        self._num_answers += 1
        num_prompt_tokens = len(self._prompts.prompt_ids(question, selected.num_tokens))
        try:
            check_limits = make_limits(should_stop, config.deadline)
            check_limits()
            body = self._make_request(selected, question, config)
            self._server.ask(body, stream, on_text, check_limits)
            check_prompt(stream, num_prompt_tokens, selected)
            ending = stream.ending
        except CutOff as cut_off:
            ending = cut_off.ending
        return make_answer(
            stream, ending, selected, count_costs(self._shape, selected, num_prompt_tokens, None),
            self._server.name)

    def _make_request(
        self, selected: SelectedMoments, question: str, config: VlmConfig,
    ) -> dict[str, Any]:
        kept_indices = selected.kept_indices
        picture = encode_picture(
            selected.moments[0].image_rgb, selected.grid, kept_indices, self._quality,
            self._processor.image_processor.resample)
        return make_request(
            picture, selected.grid, kept_indices, question, config,
            config.repetition_penalty or self._processor.info.repetition_penalty)


def _check_local(config: VlmConfig) -> None:
    """Raise a ValueError if the configuration asks for what a server cannot do."""
    if config.scene_memory:
        raise ValueError(
            'scene_memory is true, which needs the model on this computer: set it to false, or '
            'leave the parameter server empty')
