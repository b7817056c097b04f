"""Frame + event activity + question -> answer, with timings and FLOPs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
import time
from typing import TYPE_CHECKING

from epvlm_ros.core.checkpoint import Checkpoint, load_checkpoint
from epvlm_ros.core.config import VlmConfig
from epvlm_ros.core.flops import ModelShape, prefill_flops
from epvlm_ros.core.patch_grid import PatchGrid
from epvlm_ros.core.prompt import AnswerText, check_question, PromptBuilder
from epvlm_ros.core.selection import select_for_frame, Selection
from epvlm_ros.core.sparse_qwen_vl import VisionInput
import numpy as np
import torch

if TYPE_CHECKING:
    from epvlm_ros.core.activity import ActivityGrid

WARM_UP_SIZE_PX = 224


@dataclass(frozen=True)
class EngineAnswer:
    """
    An answer and what it cost.

    Parameters
    ----------
    text : str
        The answer; of an answer that was stopped, what there was.
    kept_indices : numpy.ndarray
        int64, ascending ``row * cols + col`` of the visual tokens that were computed on.
    rows, cols : int
        The grid of visual tokens.
    num_tokens, num_tokens_kept : int
        Visual tokens of the whole image, and those computed on.
    flops_dense, flops_used : int
        Encoder and prefill on all tokens, and on the kept ones, see ``flops``.
    time_to_first_token_s : float
        From the call to the first token of the answer, preprocessing included; the time to
        the stop if there was none.
    total_time_s : float
        From the call to the end.
    num_generated_tokens : int
        Tokens of the text.
    fallback : str
        One of ``selection.FALLBACKS``: what was used in place of the configured rule.
    stopped : bool
        Whether ``should_stop`` ended it.

    """

    text: str
    kept_indices: np.ndarray
    rows: int
    cols: int
    num_tokens: int
    num_tokens_kept: int
    flops_dense: int
    flops_used: int
    time_to_first_token_s: float
    total_time_s: float
    num_generated_tokens: int
    fallback: str
    stopped: bool

    @property
    def flops_saved(self) -> float:
        """Share of the dense prefill that was not computed, 0 to 1."""
        return 1.0 - self.flops_used / self.flops_dense


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
        self._tokenizer = checkpoint.tokenizer
        self._image_processor = checkpoint.image_processor
        self._geometry = checkpoint.geometry
        self._prompts = PromptBuilder(
            checkpoint.tokenizer, checkpoint.chat_template, checkpoint.model.image_token_id)
        self._shape = ModelShape.from_config(checkpoint.model.config)
        self._end_token_ids = checkpoint.model.end_token_ids
        if not self._end_token_ids and checkpoint.tokenizer.eos_token_id is not None:
            self._end_token_ids = frozenset([checkpoint.tokenizer.eos_token_id])
        self._num_answers = 0

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

    def warm_up(self) -> None:
        """
        Answer about a small empty picture, so that no question pays for the first use.

        Libraries load their kernels and plan their memory on the first call.
        """
        picture = np.zeros((WARM_UP_SIZE_PX, WARM_UP_SIZE_PX, 3), np.uint8)
        self.answer(picture, '?', None, max_new_tokens=2)

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

    def check_query(
        self, question: str, keep_ratio: float | None, max_new_tokens: int | None,
    ) -> None:
        """
        Check what can be checked of a query without the model; any thread may do so.

        Raises
        ------
        ValueError
            If the question is blank or too long, or a number is out of its range.

        """
        config = self._override(keep_ratio, max_new_tokens)
        check_question(question, config.max_question_length)

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """
        Return the visual tokens of an image of this size.

        Raises
        ------
        ValueError
            If the image is smaller than one token or too long for its width.

        """
        smallest = self._geometry.token_size_px
        if min(image_height, image_width) < smallest:
            raise ValueError(
                f'the image is {image_width} x {image_height} pixels: give one of at least '
                f'{smallest} x {smallest}')
        return self._geometry.grid(image_height, image_width)

    def answer(
        self,
        image_rgb: np.ndarray,
        question: str,
        activity: ActivityGrid | None,
        *,
        keep_ratio: float | None = None,
        max_new_tokens: int | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> EngineAnswer:
        """
        Answer one question about one frame, by greedy decoding.

        Parameters
        ----------
        image_rgb : numpy.ndarray
            uint8, shape (height, width, 3), red first; not changed.
        question : str
            Not blank, at most ``config.max_question_length`` characters, no control tokens.
        activity : ActivityGrid or None
            Event counts of the frame; None where no event data came, which is a static scene
            with a name of its own.
        keep_ratio : float, optional
            In place of ``config.keep_ratio``, in the same range.
        max_new_tokens : int, optional
            In place of ``config.max_new_tokens``, in the same range.
        should_stop : callable, optional
            Asked before the encoder, before the prefill and after every token; true ends the
            answer with what there is.
        on_text : callable, optional
            Gets each further piece of the text; the pieces make up ``EngineAnswer.text``.

        Raises
        ------
        ValueError
            If an argument is not as above; the text names the remedy.

        """
        start_s = self._now_s()
        config = self._override(keep_ratio, max_new_tokens)
        check_question(question, config.max_question_length)
        grid = self._check_image(image_rgb)
        prompt_ids = self._prompts.prompt_ids(question, grid.num_tokens)
        selection = select_for_frame(image_rgb, grid, activity, config, self._num_answers)
        vision = self._vision_input(image_rgb, grid, selection)
        answer_text = AnswerText(self._tokenizer, on_text)
        first_token_s, stopped = self._generate(
            prompt_ids, vision, config.max_new_tokens, should_stop, answer_text)
        end_s = self._now_s()
        self._num_answers += 1
        num_text_tokens = len(prompt_ids) - grid.num_tokens
        return EngineAnswer(
            text=answer_text.text,
            kept_indices=selection.kept_indices,
            rows=grid.rows,
            cols=grid.cols,
            num_tokens=grid.num_tokens,
            num_tokens_kept=len(selection.kept_indices),
            flops_dense=self._count_flops(np.arange(grid.num_tokens), grid, num_text_tokens),
            flops_used=self._count_flops(selection.kept_indices, grid, num_text_tokens),
            time_to_first_token_s=(end_s if first_token_s is None else first_token_s) - start_s,
            total_time_s=end_s - start_s,
            num_generated_tokens=len(answer_text.token_ids),
            fallback=selection.fallback,
            stopped=stopped)

    def _override(self, keep_ratio: float | None, max_new_tokens: int | None) -> VlmConfig:
        config = self._config  # replace() checks the new value as it checks a parameter
        if keep_ratio is not None:
            config = replace(config, keep_ratio=keep_ratio)
        if max_new_tokens is not None:
            config = replace(config, max_new_tokens=max_new_tokens)
        return config

    def _check_image(self, image_rgb: np.ndarray) -> PatchGrid:
        if image_rgb.dtype != np.uint8 or image_rgb.ndim != 3 or image_rgb.shape[2] != 3:
            raise ValueError(
                f'the image is {image_rgb.dtype} of shape {image_rgb.shape}: give uint8 of shape '
                '(height, width, 3), red first')
        return self.patch_grid(*image_rgb.shape[:2])

    def _count_flops(self, indices: np.ndarray, grid: PatchGrid, num_text_tokens: int) -> int:
        return prefill_flops(
            self._shape, len(indices), num_text_tokens,
            window_sizes=self._shape.window_sizes(indices, grid.cols))

    def _vision_input(
        self, image_rgb: np.ndarray, grid: PatchGrid, selection: Selection,
    ) -> VisionInput:
        processed = self._image_processor(
            images=[image_rgb], input_data_format='channels_last', return_tensors='pt')
        patches = (grid.rows * self._model.merge_size, grid.cols * self._model.merge_size)
        assert processed['image_grid_thw'].tolist() == [[1, *patches]]
        return VisionInput(
            processed['pixel_values'], grid.rows, grid.cols, selection.kept_indices)

    def _generate(
        self,
        prompt_ids: torch.Tensor,
        vision: VisionInput,
        max_new_tokens: int,
        should_stop: Callable[[], bool] | None,
        answer_text: AnswerText,
    ) -> tuple[float | None, bool]:
        """Return the time of the first token, if there was one, and whether it was stopped."""
        should_stop = should_stop or (lambda: False)
        first_token_s = None
        if should_stop():
            return first_token_s, True
        features = self._model.encode(vision)
        if should_stop():
            return first_token_s, True
        state = self._model.prefill(prompt_ids, vision, features)
        for token_id in self._model.decode(state, self._end_token_ids, max_new_tokens):
            if first_token_s is None:
                first_token_s = self._now_s()
            answer_text.append(token_id)
            if should_stop():
                answer_text.finish()
                return first_token_s, True
        answer_text.finish()
        return first_token_s, False

    def _now_s(self) -> float:
        """Return the time after all that the device was asked to do."""
        if self._model.device.type == 'cuda':
            torch.cuda.synchronize(self._model.device)
        return time.perf_counter()
