"""From questions and moments to answers, once all arguments are known to be good."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
import time

from epvlm_ros.vlm.checkpoint import Checkpoint
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.answer import AT_ITS_END, EngineAnswer, SceneReport
from epvlm_ros.vlm.engine.chosen import Chosen
from epvlm_ros.vlm.engine.costs import count_costs
from epvlm_ros.vlm.engine.frame_encoder import CheckLimits, FrameEncoder
from epvlm_ros.vlm.engine.generation import (
    CutOff, finish_all, Generation, make_limits, write_answers)
from epvlm_ros.vlm.engine.living_scene import LivingScene, PAST_MOMENT
from epvlm_ros.vlm.engine.moment import Moment, SelectedMoments
from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.prompt import AnswerText, PromptBuilder
from epvlm_ros.vlm.sparse_qwen import PromptPrefix, Sampling, Token
from epvlm_ros.vlm.sparse_qwen.backend import State
from epvlm_ros.vlm.token_selection import token_budget
import torch

ShouldStop = Callable[[], bool]


class AnswerMaker:
    """Runs the model; ``VlmEngine`` says what the arguments of its methods mean."""

    def __init__(
        self, checkpoint: Checkpoint, prompts: PromptBuilder, frames: FrameEncoder,
        scene: LivingScene,
    ) -> None:
        self._model, self._tokenizer = checkpoint.model, checkpoint.tokenizer
        self._prompts, self._frames, self._scene = prompts, frames, scene
        self._shape = ModelShape.from_config(self._model.info.config)
        self._end_token_ids = checkpoint.end_token_ids
        self._num_answers = 0

    def answer_all(
        self, moments: Sequence[Moment], questions: Sequence[str], seconds_between: float,
        config: VlmConfig, should_stop: ShouldStop | None,
        on_text: Callable[[str], None] | None = None, choices: Sequence[str] = (),
        is_past: bool = False,
    ) -> list[EngineAnswer]:
        """
        Answer one or several questions at once; ``on_text`` gets the text of them all.

        Where there are ``choices``, the only question is answered by the likeliest of them.
        """
        texts = self._prompts.choice_ids(choices)
        generations = [
            Generation(AnswerText(self._tokenizer, on_text), time.perf_counter())
            for _ in questions]
        check_limits = make_limits(should_stop, config.deadline)
        view: View | None = None
        chosen: Chosen | None = None
        try:
            check_limits()
            with self._model.checked(check_limits):
                view = self._look(moments, questions, seconds_between, config, is_past)
                if view.prefix is None and len(questions) > 1:
                    view.prefix = self._frames.prefill_image(
                        view.selected, view.prompts[0], check_limits)
                if texts:
                    chosen = Chosen.of(choices, self._model.score_texts(
                        self._start(view, check_limits), texts, self._end_token_ids))
                    finish_all(generations, AT_ITS_END, time.perf_counter())
                else:
                    write_answers(
                        generations, self._decode(view, config, check_limits),
                        config.max_new_tokens, check_limits, time.perf_counter)
        except CutOff as cut_off:
            finish_all(generations, cut_off.ending, time.perf_counter())
        view = view or self._look_at_frames(moments, questions, seconds_between, config)
        self._num_answers += len(questions)
        answers = [
            self._make_answer(generation, view, number)
            for number, generation in enumerate(generations)]
        if chosen is not None:
            answers = [chosen.complete(answers[0])]
            if on_text is not None:
                on_text(chosen.text)
        return answers

    def prepare(
        self, moments: Sequence[Moment], seconds_between: float, config: VlmConfig,
        should_stop: ShouldStop | None,
    ) -> None:
        """Compute all of an answer that does not depend on the question."""
        check_limits = make_limits(should_stop, 0.0)
        try:
            check_limits()
            if config.scene_memory and self._scene.prepare(moments, config, check_limits):
                return
            view = self._look_at_frames(moments, ['?'], seconds_between, config)
            if view.prefix is None:
                with self._model.checked(check_limits):
                    self._frames.prefill_image(view.selected, view.prompts[0], check_limits)
        except CutOff:
            pass

    def warm_up(
        self, width: int, height: int, config: VlmConfig, should_stop: ShouldStop,
    ) -> None:
        """Get the model ready for questions about images of this size."""
        grid = self._frames.patch_grid(height, width)
        self._model.warm_up(
            self._prompts.prompt_ids('?', grid.num_tokens), grid.rows, grid.cols,
            (token_budget(config.keep_ratio, grid.num_tokens), grid.num_tokens),
            self._sampling(config), should_stop)
        if config.scene_memory:
            self._scene.warm_up(grid, config, should_stop)

    def _decode(
        self, view: View, config: VlmConfig, check_limits: CheckLimits,
    ) -> Iterator[list[tuple[int, Token]]]:
        """Return lists of (number of the question, next token), as they are computed."""
        options = self._end_token_ids, config.max_new_tokens, self._sampling(config)
        prefix, prompts = view.prefix, view.prompts
        if prefix is not None and len(prompts) > 1:
            texts = [prefix.text_after(prompt_ids) for prompt_ids in prompts]
            return self._model.decode_together(
                self._model.extend_together(prefix, texts), *options)
        state = self._start(view, check_limits)
        return ([(0, token)] for token in self._model.decode(state, *options))

    def _start(self, view: View, check_limits: CheckLimits) -> State:
        """Run the prompt of a single question."""
        if view.prefix is None:  # about new moments
            return self._frames.prefill(view.selected, view.prompts[0], check_limits)
        return self._model.extend(view.prefix, view.prefix.text_after(view.prompts[0]))

    def _prompt_ids(
        self, questions: Sequence[str], selected: SelectedMoments,
    ) -> list[torch.Tensor]:
        return [self._prompts.prompt_ids(
            question, selected.grid.num_tokens, len(selected.moments), selected.seconds_between)
            for question in questions]

    def _sampling(self, config: VlmConfig) -> Sampling:
        return Sampling(
            config.temperature, config.top_p, config.seed,
            config.repetition_penalty or self._model.info.repetition_penalty)

    def _look(
        self, moments: Sequence[Moment], questions: Sequence[str], seconds_between: float,
        config: VlmConfig, is_past: bool,
    ) -> View:
        """Return what questions are about, in the scene in memory if there is one."""
        if not config.scene_memory:
            self._scene.forget()
            return self._look_at_frames(moments, questions, seconds_between, config)
        report = SceneReport(PAST_MOMENT) if is_past else self._scene.follow(moments, config)
        if report.is_used:
            selected, prefix = self._scene.snapshot(moments[0], config)
            return View(
                selected, self._prompt_ids(questions, selected), prefix, prefix, report)
        view = self._look_at_frames(moments, questions, seconds_between, config)
        return replace(view, scene=report)

    def _look_at_frames(
        self, moments: Sequence[Moment], questions: Sequence[str], seconds_between: float,
        config: VlmConfig,
    ) -> View:
        selected, prefix = self._frames.select(
            moments, seconds_between, config, self._num_answers)
        prompts = self._prompt_ids(questions, selected)
        known = prefix or self._model.known_system_prefix(prompts[0])
        return View(selected, prompts, prefix, known, None)

    def _make_answer(self, generation: Generation, view: View, number: int) -> EngineAnswer:
        """Return an answer; if its frame was not known, it was encoded for the first question."""
        selected, scene, is_first = view.selected, view.scene, number == 0
        kept_indices = selected.kept_indices
        costs = count_costs(
            self._shape, selected, len(view.prompts[number]),
            view.known if is_first else view.prefix,
            scene.flops_refresh if scene is not None and is_first else 0)
        return EngineAnswer(
            text=generation.text.text,
            kept_indices=kept_indices,
            num_moments=len(selected.moments),
            rows=selected.grid.rows,
            cols=selected.grid.cols,
            num_tokens=selected.num_tokens,
            num_tokens_kept=len(kept_indices),
            flops_dense=costs.dense,
            flops_used=costs.used,
            flops_reused=costs.reused,
            time_to_first_token_s=generation.time_to_first_token_s,
            total_time_s=generation.total_time_s,
            num_generated_tokens=len(generation.text.token_ids),
            mean_log_probability=generation.mean_log_probability,
            first_token_margin=generation.first_token_margin,
            fallback=selected.fallback,
            ending=generation.ending,
            first_token_id=next(iter(generation.text.token_ids), None),
            scene=scene,
            model=selected.config.model_name)


@dataclass
class View:
    """What questions are about, and how much of it was computed before them."""

    selected: SelectedMoments
    prompts: list[torch.Tensor]  # dense, one for each question
    prefix: PromptPrefix | None  # up to the end of the images, where that is computed
    known: PromptPrefix | None  # what the first question found computed
    scene: SceneReport | None  # None without a scene in memory
