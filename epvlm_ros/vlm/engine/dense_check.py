"""How far answers agree with those of the dense model, which computes on all tokens of a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from epvlm_ros.vlm.checkpoint import Checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.answer import AT_STOP, EngineAnswer
from epvlm_ros.vlm.engine.answer_maker import AnswerMaker
from epvlm_ros.vlm.engine.frame_encoder import FrameEncoder
from epvlm_ros.vlm.engine.living_scene import LivingScene
from epvlm_ros.vlm.engine.memory_guard import within_memory
from epvlm_ros.vlm.engine.moment import Moment
from epvlm_ros.vlm.prompt import PromptBuilder


@dataclass(frozen=True)
class Agreement:
    """
    An answer beside that of the dense model.

    ``log_probability_lost`` is how much less probable, per token, the answer is to its own model
    than the dense answer is to the dense model, natural logarithm.
    """

    is_same_text: bool
    is_same_first_token: bool
    log_probability_lost: float


class DenseCheck:
    """Answers questions a second time, with frames and cache of its own that nobody else reads."""

    def __init__(self, checkpoint: Checkpoint, prompts: PromptBuilder) -> None:
        self._device_name = checkpoint.model.device_name
        frames = FrameEncoder(checkpoint, caches=False)
        self._maker = AnswerMaker(
            checkpoint, prompts, frames, LivingScene(checkpoint, prompts, frames, False))

    def compare(
        self, answer: EngineAnswer, moments: Sequence[Moment], question: str,
        choices: Sequence[str], seconds_between: float, config: VlmConfig,
        should_stop: Callable[[], bool] | None,
    ) -> Agreement | None:
        """Compare with a dense answer, see ``VlmEngine.compare_with_dense``."""
        config = replace(config, scene_memory=False, keep_ratio=1.0, deadline=0.0)
        dense = within_memory(
            lambda: self._maker.answer_all(
                moments, [question], seconds_between, config, should_stop, choices=choices)[0],
            lambda: None, self._device_name)
        if dense.ending == AT_STOP:
            return None
        is_same_text = dense.text == answer.text
        return Agreement(
            is_same_text, is_same_text or (
                not choices and dense.first_token_id == answer.first_token_id),
            dense.mean_log_probability - answer.mean_log_probability)
