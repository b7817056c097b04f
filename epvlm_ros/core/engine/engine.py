"""The engine from frame, events and question to the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
import time
from typing import TYPE_CHECKING

from epvlm_ros.core.captured import CapturedQwenVl, record
from epvlm_ros.core.checkpoint import Checkpoint, load_checkpoint
from epvlm_ros.core.config import VlmConfig
from epvlm_ros.core.engine.answer import EngineAnswer
from epvlm_ros.core.engine.costs import count_costs
from epvlm_ros.core.engine.drafts import (
    CutOff, Draft, finish_all, make_limits, write_answers)
from epvlm_ros.core.engine.frame_encoder import FrameEncoder
from epvlm_ros.core.engine.frame_memory import SelectedFrame
from epvlm_ros.core.flops import ModelShape
from epvlm_ros.core.patch_grid import PatchGrid
from epvlm_ros.core.prompt import AnswerText, check_question, PromptBuilder
from epvlm_ros.core.selection import token_budget
from epvlm_ros.core.sparse_qwen_vl import PromptPrefix, Sampling
import numpy as np
import torch

if TYPE_CHECKING:
    from epvlm_ros.core.activity import ActivityGrid

WARM_UP_SIZE_PX = 224


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
        self._prompts = PromptBuilder(
            checkpoint.tokenizer, checkpoint.chat_template, checkpoint.model.image_token_id)
        self._frames = FrameEncoder(checkpoint, remembers=self._prompts.image_comes_first)
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

        Libraries load their kernels and plan their memory on the first call. On a GPU, what
        images of the sizes in ``config.warm_up_sizes`` will need is recorded.

        Raises
        ------
        ValueError
            If there can be no image of one of these sizes.

        """
        picture = np.zeros((WARM_UP_SIZE_PX, WARM_UP_SIZE_PX, 3), np.uint8)
        self.answer(picture, '?', None, max_new_tokens=2)
        if not isinstance(self._model, CapturedQwenVl):
            return
        for width, height in self._config.read_warm_up_sizes():
            grid = self.patch_grid(height, width)
            record(
                self._model, self._prompts.prompt_ids('?', grid.num_tokens), grid.rows, grid.cols,
                (token_budget(self._config.keep_ratio, grid.num_tokens), grid.num_tokens),
                self._sampling(self._config))

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
        self, question: str, keep_ratio: float | None = None, max_new_tokens: int | None = None,
        deadline_s: float | None = None,
    ) -> None:
        """
        Check what can be checked of a query without the model; any thread may do so.

        Raises
        ------
        ValueError
            If the question is blank or too long, or a number is out of its range.

        """
        config = self._override(keep_ratio, max_new_tokens, deadline_s)
        check_question(question, config.max_question_length)

    def patch_grid(self, image_height: int, image_width: int) -> PatchGrid:
        """
        Return the visual tokens of an image of this size.

        Raises
        ------
        ValueError
            If the image is smaller than one token or too long for its width.

        """
        return self._frames.patch_grid(image_height, image_width)

    def answer(
        self,
        image_rgb: np.ndarray,
        question: str,
        activity: ActivityGrid | None,
        *,
        keep_ratio: float | None = None,
        max_new_tokens: int | None = None,
        deadline_s: float | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> EngineAnswer:
        """
        Answer one question about one frame.

        Of the frame that was asked about last, with the same parameters, nothing is computed
        again: a further question costs its own text.

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
        deadline_s : float, optional
            In place of ``config.deadline``, in the same range: the end, counted from the call,
            of an answer that has not ended by then. What was begun is not broken off: it may
            end later by the time of the encoder, of the prefill or of a token.
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
        draft = Draft(AnswerText(self._tokenizer, on_text), time.perf_counter())
        config = self._override(keep_ratio, max_new_tokens, deadline_s)
        check_limits = make_limits(should_stop, config.deadline)
        check_question(question, config.max_question_length)
        frame, prefix = self._frames.look_at(image_rgb, activity, config, self._num_answers)
        prompt_ids = self._prompts.prompt_ids(question, frame.grid.num_tokens)
        try:
            check_limits()
            if prefix is None:
                state = self._frames.prefill(frame, prompt_ids, check_limits)
            else:
                state = self._model.ask(prefix, prefix.text_after(prompt_ids))
            token_ids = self._model.decode(
                state, self._end_token_ids, config.max_new_tokens, self._sampling(config))
            write_answers([draft], ([(0, token_id)] for token_id in token_ids),
                          config.max_new_tokens, check_limits, time.perf_counter)
        except CutOff as cut_off:
            draft.finish(cut_off.ending, time.perf_counter())
        self._num_answers += 1
        return self._make_answer(draft, frame, prompt_ids, prefix)

    def answer_all(
        self,
        image_rgb: np.ndarray,
        questions: Sequence[str],
        activity: ActivityGrid | None,
        *,
        keep_ratio: float | None = None,
        max_new_tokens: int | None = None,
        deadline_s: float | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> list[EngineAnswer]:
        """
        Answer several questions about one frame at once, each as it is answered alone.

        The frame is encoded once and all answers are written side by side, which takes little
        longer than to write the longest of them. A random selection is the same for all.

        Parameters
        ----------
        questions : sequence of str
            Each as in ``answer``; none gives no answers.
        image_rgb, activity, keep_ratio, max_new_tokens, deadline_s, should_stop
            As in ``answer``; the limits hold for each answer.

        Raises
        ------
        ValueError
            If an argument is not as in ``answer``.

        """
        drafts = [Draft(AnswerText(self._tokenizer), time.perf_counter()) for _ in questions]
        config = self._override(keep_ratio, max_new_tokens, deadline_s)
        check_limits = make_limits(should_stop, config.deadline)
        for question in questions:
            check_question(question, config.max_question_length)
        if not self._prompts.image_comes_first or not questions:
            return [self.answer(
                image_rgb, question, activity, keep_ratio=keep_ratio,
                max_new_tokens=max_new_tokens, deadline_s=deadline_s, should_stop=should_stop)
                for question in questions]
        frame, prefix = self._frames.look_at(image_rgb, activity, config, self._num_answers)
        prompts = [
            self._prompts.prompt_ids(question, frame.grid.num_tokens) for question in questions]
        is_known = prefix is not None
        try:
            check_limits()
            prefix = prefix or self._frames.prefill_image(frame, prompts[0], check_limits)
            state = self._model.ask_together(prefix, [prefix.text_after(ids) for ids in prompts])
            tokens = self._model.decode_together(
                state, self._end_token_ids, config.max_new_tokens, self._sampling(config))
            write_answers(drafts, tokens, config.max_new_tokens, check_limits, time.perf_counter)
        except CutOff as cut_off:
            finish_all(drafts, cut_off.ending, time.perf_counter())
        self._num_answers += len(questions)
        # if nothing was known, the frame was encoded for the first question
        return [
            self._make_answer(draft, frame, ids, prefix if is_known or number else None)
            for number, (draft, ids) in enumerate(zip(drafts, prompts))]

    def _override(
        self, keep_ratio: float | None, max_new_tokens: int | None, deadline_s: float | None,
    ) -> VlmConfig:
        config = self._config  # replace() checks the new value as it checks a parameter
        if keep_ratio is not None:
            config = replace(config, keep_ratio=keep_ratio)
        if max_new_tokens is not None:
            config = replace(config, max_new_tokens=max_new_tokens)
        if deadline_s is not None:
            config = replace(config, deadline=deadline_s)
        return config

    def _sampling(self, config: VlmConfig) -> Sampling:
        return Sampling(
            config.temperature, config.top_p, config.seed,
            config.repetition_penalty or self._model.repetition_penalty)

    def _make_answer(
        self, draft: Draft, frame: SelectedFrame, prompt_ids: torch.Tensor,
        known: PromptPrefix | None,
    ) -> EngineAnswer:
        """Return what came of a prompt of which a part was known, or nothing."""
        grid, kept_indices = frame.grid, frame.selection.kept_indices
        costs = count_costs(self._shape, frame, len(prompt_ids), known)
        return EngineAnswer(
            text=draft.text.text,
            kept_indices=kept_indices,
            rows=grid.rows,
            cols=grid.cols,
            num_tokens=grid.num_tokens,
            num_tokens_kept=len(kept_indices),
            flops_dense=costs.dense,
            flops_used=costs.used,
            flops_reused=costs.reused,
            time_to_first_token_s=draft.time_to_first_token_s,
            total_time_s=draft.total_time_s,
            num_generated_tokens=len(draft.text.token_ids),
            fallback=frame.selection.fallback,
            ending=draft.ending)
