"""
Asks all questions about an image under every setting.

For each set of kept tokens the encoder and the visual part of the prefill run once, and all
questions about the image are answered together. Settings that keep the same tokens share their
answers. Each answer is the one that the engine gives to the question alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from epvlm_ros.eval.answer_file import Record
from epvlm_ros.eval.policies import activity_for
from epvlm_ros.eval.question_set import Case, Observation, Problem
from epvlm_ros.eval.scoring import find_letter, is_right
from epvlm_ros.eval.settings import configure, Setting
from epvlm_ros.vlm.checkpoint import Processor
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import EngineAnswer, Moment, VlmEngine
from epvlm_ros.vlm.flops import ModelShape
from epvlm_ros.vlm.prompt import PromptBuilder
from epvlm_ros.vlm.remote import RemoteEngine
from epvlm_ros.vlm.token_selection import select_for_frame
import numpy as np

_TEXT_STEP = 16  # tokens: a budget of FLOPs is that of a text rounded up to a multiple of this


class Runner:
    """Runs a model over images and their questions, once for each setting."""

    def __init__(
        self, engine: VlmEngine | RemoteEngine, processor: Processor, config: VlmConfig,
        settings: list[Setting],
    ) -> None:
        self._config, self._settings = config, settings
        self._engine = engine
        self._shape = ModelShape.from_config(processor.info.config)
        self._prompts = PromptBuilder(
            processor.tokenizer, processor.chat_template, processor.info.image_token_id)

    def warm_up(self) -> None:
        """Answer once, so that no time to the first token holds the loading of libraries."""
        self._engine.reconfigure(configure(self._config, 'uniform'))
        self._engine.warm_up()

    def ask(
        self, cases: Sequence[Case], observation: Observation, seed: int,
    ) -> tuple[dict[int, list[Record]], list[Problem]]:
        """
        Ask questions about one image and return records by the number of the case, and problems.

        A case has one record for each setting. ``seed`` makes one random selection differ from
        another; it is fixed for an image. Problems are the cases that cannot be asked, and why.
        """
        budgets: dict[int, list[int]] = {}
        problems = []
        for case in cases:
            try:
                budgets[case.number] = self._budgets(case, observation)
            except ValueError as error:
                problems.append(Problem(case.number, str(error)))
        asked = [case for case in cases if case.number in budgets]
        records: dict[int, list[Record]] = {case.number: [] for case in asked}
        answers: dict[bytes, dict[int, EngineAnswer]] = {}  # by kept tokens and case
        for place, setting in enumerate(self._settings):
            for num_kept in sorted({found[place] for found in budgets.values()}):
                chosen = [case for case in asked if budgets[case.number][place] == num_kept]
                found, fallback = self._answer(
                    chosen, observation, seed, setting, num_kept, answers)
                for case in chosen:
                    records[case.number].append(
                        _make_record(case, setting, found[case.number], fallback))
        return records, problems

    def time_alone(self, case: Case, observation: Observation, seed: int) -> list[float]:
        """
        Ask a question alone and return the time to the first token in seconds for each setting.

        Preparation of the image, selection, encoder and prefill are included.
        """
        times_s = []
        for setting, num_kept in zip(self._settings, self._budgets(case, observation)):
            self._configure(setting, observation, num_kept)
            moments = _make_moments(setting, observation, seed)
            moments[-1] = replace(moments[-1], image_rgb=moments[-1].image_rgb.copy())
            answer = self._engine.answer_about(moments, case.question)
            times_s.append(answer.time_to_first_token_s)
        return times_s

    def _budgets(self, case: Case, observation: Observation) -> list[int]:
        """Return how many visual tokens each setting keeps for a question."""
        self._engine.check_query(case.question)
        grid = self._engine.patch_grid(*observation.rgb.shape[:2])
        num_text_tokens = (
            len(self._prompts.prompt_ids(case.question, grid.num_tokens)) - grid.num_tokens)
        rounded = -(-num_text_tokens // _TEXT_STEP) * _TEXT_STEP
        return [setting.budget.num_tokens(self._shape, grid.rows, grid.cols, rounded)
                for setting in self._settings]

    def _configure(self, setting: Setting, observation: Observation, num_kept: int) -> VlmConfig:
        num_tokens = self._engine.patch_grid(*observation.rgb.shape[:2]).num_tokens
        config = configure(
            self._config, setting.policy, num_kept / num_tokens, 1 + len(observation.earlier))
        self._engine.reconfigure(config)
        return config

    def _answer(
        self, cases: list[Case], observation: Observation, seed: int, setting: Setting,
        num_kept: int, known: dict[bytes, dict[int, EngineAnswer]],
    ) -> tuple[dict[int, EngineAnswer], str]:
        """Return the answers by the numbers of cases, and the fallback of the selection."""
        config = self._configure(setting, observation, num_kept)
        if observation.earlier:
            moments = _make_moments(setting, observation, seed)
            return {case.number: self._engine.answer_about(moments, case.question)
                    for case in cases}, ''
        activity = activity_for(setting.policy, observation, seed)
        selection = select_for_frame(
            observation.rgb, self._engine.patch_grid(*observation.rgb.shape[:2]), activity, config)
        answers = known.setdefault(selection.kept_indices.tobytes(), {})
        new = [case for case in cases if case.number not in answers]
        found = self._engine.answer_all(observation.rgb, [case.question for case in new], activity)
        for case, answer in zip(new, found):
            assert np.array_equal(answer.kept_indices, selection.kept_indices)
            answers[case.number] = answer
        return answers, selection.fallback


def _make_moments(setting: Setting, observation: Observation, seed: int) -> list[Moment]:
    """Return the moments that are shown, oldest first, with what a policy takes for events."""
    return [Moment(seen.rgb, activity_for(setting.policy, seen, seed + place))
            for place, seen in enumerate((*observation.earlier, observation))]


def _make_record(case: Case, setting: Setting, answer: EngineAnswer, fallback: str) -> Record:
    return {
        'number': case.number, 'image': case.image, 'family': case.family, 'group': case.group,
        'setting': setting.name, 'policy': setting.policy, 'budget': setting.budget.name,
        'question': case.question, 'expected': case.answer, 'answer': answer.text,
        'right': is_right(answer.text, case.answer, case.options),
        'unread': bool(case.options) and find_letter(answer.text, case.options) is None,
        'tokens': answer.num_tokens, 'tokens_kept': answer.num_tokens_kept,
        'flops_dense': answer.flops_dense, 'flops_used': answer.flops_used, 'fallback': fallback}
