"""The model under test with every way to come to an answer, and what each costs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.eval.settings import configure
from epvlm_ros.vlm.checkpoint import load_checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import VlmEngine
from epvlm_ros.vlm.flops import ModelShape, refresh_flops
from epvlm_ros.vlm.patch_cutter import PatchCutter
from epvlm_ros.vlm.patch_grid import PatchGrid
from epvlm_ros.vlm.prompt import AnswerText, PromptBuilder
from epvlm_ros.vlm.scene_memory import SceneMemory
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, Sampling, VisionInput
from epvlm_ros.vlm.token_selection import select_for_frame
import numpy as np


class StreamModel:
    """
    A checkpoint that looks at frames by themselves or keeps a scene in memory.

    Parameters
    ----------
    config : VlmConfig
        Which one; its selection and budget are set frame by frame.

    """

    def __init__(self, config: VlmConfig) -> None:
        self._config = config
        self._checkpoint = load_checkpoint(config)
        self._engine = VlmEngine(self._checkpoint, config)
        self._cutter = PatchCutter(self._checkpoint.image_processor)
        self._model: Any = self._checkpoint.model
        info = self._model.info
        self._prompts = PromptBuilder(
            self._checkpoint.tokenizer, self._checkpoint.chat_template, info.image_token_id,
            info.video_token_id, tells_times=info.tells_times)

    @cached_property
    def shape(self) -> ModelShape:
        """Return the sizes of the model."""
        return ModelShape.from_config(self._model.info.config)

    def patch_grid(self, height: int, width: int) -> PatchGrid:
        """Return the visual tokens of a frame."""
        return self._engine.patch_grid(height, width)

    def num_text_tokens(self, grid: PatchGrid) -> int:
        """Return how many tokens of a prompt stand before those of its image."""
        ids = self._prompts.prompt_ids('?', grid.num_tokens)
        return int((ids == self._model.info.image_token_id).nonzero()[0, 0])

    def make_memory(self) -> SceneMemory:
        """Return a scene in memory."""
        return SceneMemory(
            self._model.scene_forward(), self._make_vision,
            lambda num_tokens: self._prompts.prompt_ids('?', num_tokens))

    def rank(
        self, rgb: np.ndarray, activity: ActivityGrid, grid: PatchGrid, keep_ratio: float,
    ) -> np.ndarray:
        """Return which tokens of a new scene come first, as in the engine: float (tokens,)."""
        config = configure(self._config, self._config.selection, keep_ratio)
        priority = np.zeros(grid.num_tokens)
        priority[select_for_frame(rgb, grid, activity, config).kept_indices] = 1.0
        return priority

    def ask_frame(
        self, rgb: np.ndarray, activity: ActivityGrid, policy: str, keep_ratio: float,
        texts: list[str],
    ) -> list[str]:
        """Answer questions about a frame by itself, under a policy of ``epvlm eval``."""
        self._engine.reconfigure(configure(self._config, policy, keep_ratio))
        return [answer.text for answer in self._engine.answer_all(rgb, texts, activity)]

    def ask_scene(self, prefix: PromptPrefix, grid: PatchGrid, texts: list[str]) -> list[str]:
        """Answer questions from a snapshot of a memory."""
        rests = [prefix.text_after(self._prompts.prompt_ids(text, grid.num_tokens))
                 for text in texts]
        answers = [AnswerText(self._checkpoint.tokenizer) for _ in texts]
        config, info = self._config, self._model.info
        sampling = Sampling(
            config.temperature, config.top_p, config.seed,
            config.repetition_penalty or info.repetition_penalty)
        for tokens in self._model.decode_together(
                self._model.extend_together(prefix, rests), info.end_token_ids,
                config.max_new_tokens, sampling):
            for number, token_id in tokens:
                answers[number].append(token_id)
        for answer in answers:
            answer.finish()
        return [answer.text for answer in answers]

    def _make_vision(
        self, image_rgb: np.ndarray, grid: PatchGrid, kept_indices: np.ndarray,
    ) -> VisionInput:
        return VisionInput(
            self._cutter.cut(image_rgb, grid, kept_indices), grid.rows, grid.cols, kept_indices)


class FrameCosts:
    """
    FLOPs of the visual part of a frame: encoder, and language model up to the question.

    The text before the image is known but for the first frame of a scene.
    """

    def __init__(self, shape: ModelShape, grid: PatchGrid, num_text_tokens: int) -> None:
        self._shape, self._grid, self._num_text_tokens = shape, grid, num_text_tokens
        everything = np.arange(grid.num_tokens)
        self._alone = np.array([0, *(
            self.of_update(everything[:number], everything < number)
            for number in range(1, grid.num_tokens + 1))])

    @property
    def dense(self) -> int:
        """Return the FLOPs of all tokens."""
        return int(self._alone[-1])

    def of_update(
        self, refreshed: np.ndarray, known: np.ndarray, begins: bool = False,
    ) -> int:
        """Return the FLOPs of an update, see ``refresh_flops``."""
        return refresh_flops(
            self._shape, refreshed, known, self._grid.cols,
            num_text_tokens=self._num_text_tokens, runs_text=begins)

    def of_frame(self, num_kept: int) -> int:
        """Return the FLOPs of a frame by itself."""
        return int(self._alone[num_kept])

    def frame_tokens(self, flops: float) -> int:
        """Return how many tokens of a frame by itself fit into so many FLOPs, at least one."""
        return max(1, int(np.searchsorted(self._alone, flops, side='right')) - 1)

    def update_tokens(self, flops: float) -> int:
        """Return how many tokens of a known scene can be refreshed with so many FLOPs."""
        known = np.ones(self._grid.num_tokens, np.bool_)
        return int(flops // self.of_update(np.zeros(1, np.int64), known))
