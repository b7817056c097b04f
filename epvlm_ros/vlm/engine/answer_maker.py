"""From questions and moments to answers, once all arguments are known to be good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import time

from epvlm_ros.vlm.checkpoint import Checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.cuda_graphs import CapturedQwenVl, record
from epvlm_ros.vlm.engine.answer import EngineAnswer
from epvlm_ros.vlm.engine.costs import count_costs
from epvlm_ros.vlm.engine.frame_encoder import FrameEncoder
from epvlm_ros.vlm.engine.generation import CutOff, Draft, finish_all, make_limits, write_answers
from epvlm_ros.vlm.engine.moment import Moment, View
from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.prompt import AnswerText, PromptBuilder
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, Sampling
from epvlm_ros.vlm.token_selection import token_budget
import torch

ShouldStop = Callable[[], bool]


class AnswerMaker:
    """
    Runs the model of a checkpoint; ``VlmEngine`` says what the arguments of its methods mean.

    Parameters
    ----------
    checkpoint : Checkpoint
        The loaded model.
    system_prompt : str
        As in ``VlmConfig``.

    Raises
    ------
    ValueError
        If the model cannot be prompted so.

    """

    def __init__(self, checkpoint: Checkpoint, system_prompt: str = '') -> None:
        self._model = checkpoint.model
        self._tokenizer = checkpoint.tokenizer
        self._prompts = PromptBuilder(
            checkpoint.tokenizer, checkpoint.chat_template, checkpoint.model.image_token_id,
            checkpoint.model.video_token_id, tells_times=checkpoint.model.tells_times,
            system_prompt=system_prompt)
        self.frames = FrameEncoder(checkpoint, caches=self.image_comes_first)
        self._shape = ModelShape.from_config(checkpoint.model.config)
        self._end_token_ids = checkpoint.model.end_token_ids
        if not self._end_token_ids and checkpoint.tokenizer.eos_token_id is not None:
            self._end_token_ids = frozenset([checkpoint.tokenizer.eos_token_id])
        self._num_answers = 0

    @property
    def image_comes_first(self) -> bool:
        """Whether all questions about a view share the computation up to its end."""
        return self._prompts.image_comes_first

    def answer(
        self, moments: Sequence[Moment], question: str, seconds_between: float,
        config: VlmConfig, should_stop: ShouldStop | None,
        on_text: Callable[[str], None] | None,
    ) -> EngineAnswer:
        """Answer one question about one or several moments."""
        draft = Draft(AnswerText(self._tokenizer, on_text), time.perf_counter())
        check_limits = make_limits(should_stop, config.deadline)
        view, prefix = self.frames.look_at(moments, seconds_between, config, self._num_answers)
        prompt_ids = self._prompt_ids(question, view)
        known = prefix or self._model.known_lead(prompt_ids)
        try:
            check_limits()
            with self._model.checked(check_limits):
                if prefix is None:
                    state = self.frames.prefill(view, prompt_ids, check_limits)
                else:
                    state = self._model.ask(prefix, prefix.text_after(prompt_ids))
                token_ids = self._model.decode(
                    state, self._end_token_ids, config.max_new_tokens, self._sampling(config))
                write_answers([draft], ([(0, token_id)] for token_id in token_ids),
                              config.max_new_tokens, check_limits, time.perf_counter)
        except CutOff as cut_off:
            draft.finish(cut_off.ending, time.perf_counter())
        self._num_answers += 1
        return self._make_answer(draft, view, prompt_ids, known)

    def answer_all(
        self, moment: Moment, questions: Sequence[str], config: VlmConfig,
        should_stop: ShouldStop | None,
    ) -> list[EngineAnswer]:
        """Answer several questions about one moment at once."""
        drafts = [Draft(AnswerText(self._tokenizer), time.perf_counter()) for _ in questions]
        check_limits = make_limits(should_stop, config.deadline)
        view, prefix = self.frames.look_at([moment], 1.0, config, self._num_answers)
        prompts = [self._prompt_ids(question, view) for question in questions]
        known = prefix or self._model.known_lead(prompts[0])
        try:
            check_limits()
            with self._model.checked(check_limits):
                prefix = prefix or self.frames.prefill_image(view, prompts[0], check_limits)
                state = self._model.ask_together(
                    prefix, [prefix.text_after(ids) for ids in prompts])
                tokens = self._model.decode_together(
                    state, self._end_token_ids, config.max_new_tokens, self._sampling(config))
                write_answers(
                    drafts, tokens, config.max_new_tokens, check_limits, time.perf_counter)
        except CutOff as cut_off:
            finish_all(drafts, cut_off.ending, time.perf_counter())
        self._num_answers += len(questions)
        # if the frame was not known, it was encoded for the first question
        return [
            self._make_answer(draft, view, ids, prefix if number else known)
            for number, (draft, ids) in enumerate(zip(drafts, prompts))]

    def prepare(
        self, moments: Sequence[Moment], seconds_between: float, config: VlmConfig,
        should_stop: ShouldStop | None,
    ) -> None:
        """Compute all of an answer that does not depend on the question."""
        check_limits = make_limits(should_stop, 0.0)
        view, prefix = self.frames.look_at(moments, seconds_between, config, self._num_answers)
        if prefix is not None:
            return
        try:
            check_limits()
            with self._model.checked(check_limits):
                self.frames.prefill_image(view, self._prompt_ids('?', view), check_limits)
        except CutOff:
            pass

    def record(
        self, width: int, height: int, config: VlmConfig, should_stop: ShouldStop,
    ) -> None:
        """Record what questions about an image of this size will need, where it is captured."""
        grid = self.frames.patch_grid(height, width)
        if not isinstance(self._model, CapturedQwenVl):
            return
        numbers_kept = (token_budget(config.keep_ratio, grid.num_tokens), grid.num_tokens)
        record(self._model, self._prompts.prompt_ids('?', grid.num_tokens), grid.rows, grid.cols,
               numbers_kept, self._sampling(config), should_stop)

    def _prompt_ids(self, question: str, view: View) -> torch.Tensor:
        return self._prompts.prompt_ids(
            question, view.grid.num_tokens, len(view.moments), view.seconds_between)

    def _sampling(self, config: VlmConfig) -> Sampling:
        return Sampling(
            config.temperature, config.top_p, config.seed,
            config.repetition_penalty or self._model.repetition_penalty)

    def _make_answer(
        self, draft: Draft, view: View, prompt_ids: torch.Tensor,
        known: PromptPrefix | None,
    ) -> EngineAnswer:
        """Return what came of a prompt of which a part was known, or nothing."""
        kept_indices = view.kept_indices
        costs = count_costs(self._shape, view, len(prompt_ids), known)
        return EngineAnswer(
            text=draft.text.text,
            kept_indices=kept_indices,
            num_moments=len(view.moments),
            rows=view.grid.rows,
            cols=view.grid.cols,
            num_tokens=view.num_tokens,
            num_tokens_kept=len(kept_indices),
            flops_dense=costs.dense,
            flops_used=costs.used,
            flops_reused=costs.reused,
            time_to_first_token_s=draft.time_to_first_token_s,
            total_time_s=draft.total_time_s,
            num_generated_tokens=len(draft.text.token_ids),
            fallback=view.fallback,
            ending=draft.ending)
