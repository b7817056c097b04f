"""
Asks every question under every setting, and keeps each answer in a file as it comes.

The file ``answers.jsonl`` starts with what the run depends on; a second run with equal settings
goes on where the first one ended, however it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import Any

from epvlm_ros.core.checkpoint import Checkpoint
from epvlm_ros.core.config import VlmConfig
from epvlm_ros.core.engine import EngineAnswer, VlmEngine
from epvlm_ros.core.flops import ModelShape
from epvlm_ros.core.prompt import PromptBuilder
from epvlm_ros.core.selection import IMAGE_SCORES
from epvlm_ros.eval.budget import Budget
from epvlm_ros.eval.policies import activity_for, CONTROLS, DENSE, selection_of
from epvlm_ros.eval.question_set import Case, ImageView, Problem, QuestionSet
from epvlm_ros.eval.scoring import is_right

ANSWERS_FILE = 'answers.jsonl'
Record = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """A policy at a budget; the policy 'dense' keeps everything."""

    policy: str
    budget: Budget

    @property
    def name(self) -> str:
        """Return for example 'events, keep 0.5'."""
        return DENSE if self.policy == DENSE else f'{self.policy}, {self.budget.name}'


def make_settings(policies: Iterable[str], budgets: Iterable[Budget]) -> list[Setting]:
    """Return dense and every policy at every budget."""
    dense = Setting(DENSE, Budget('keep', 1.0))
    return [dense, *(Setting(policy, budget) for budget in budgets for policy in policies)]


class Runner:
    """
    Runs a model over a question set.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    config : VlmConfig
        What the engine goes by; selection and keep_ratio are set for every question.
    settings : list of Setting
        What to compare.

    """

    def __init__(
        self, checkpoint: Checkpoint, config: VlmConfig, settings: list[Setting],
    ) -> None:
        self._config, self._settings = config, settings
        self._engine = VlmEngine(checkpoint, config)
        self._shape = ModelShape.from_config(checkpoint.model.config)
        self._prompts = PromptBuilder(
            checkpoint.tokenizer, checkpoint.chat_template, checkpoint.model.image_token_id)

    def warm_up(self) -> None:
        """Answer once, so that no time to the first token holds the loading of libraries."""
        self._engine.reconfigure(replace(self._config, selection='uniform'))
        self._engine.warm_up()

    def run(
        self, questions: QuestionSet, known: dict[int, list[Record]],
    ) -> Iterator[tuple[int, list[Record]]]:
        """
        Yield the number of each case and its answers, one for each setting.

        Parameters
        ----------
        questions : QuestionSet
            What to ask; gets a problem more for each case that cannot be asked.
        known : dict of int to list
            Cases that were asked before, which are not asked again; their answers are yielded.

        """
        view: ImageView | None = None
        image = None
        for case in questions:
            if case.number in known:
                yield case.number, known[case.number]
                continue
            if case.image != image:
                view, image = questions.view(case), case.image
            elif view is None:
                questions.problems.append(
                    Problem(case.number, f'the image {image} failed in a row before'))
            if view is None:
                continue
            try:
                yield case.number, [self._ask(case, view, item) for item in self._settings]
            except ValueError as error:
                questions.problems.append(Problem(case.number, str(error)))

    def _ask(self, case: Case, view: ImageView, setting: Setting) -> Record:
        grid = self._engine.patch_grid(*view.rgb.shape[:2])
        num_prompt_tokens = len(self._prompts.prompt_ids(case.question, grid.num_tokens))
        num_kept = setting.budget.num_tokens(
            self._shape, grid.rows, grid.cols, num_prompt_tokens - grid.num_tokens)
        self._engine.reconfigure(configure(self._config, setting.policy))
        answer = self._engine.answer(
            view.rgb, case.question, activity_for(setting.policy, view, case),
            keep_ratio=num_kept / grid.num_tokens)
        return _make_record(case, setting, answer)


def configure(config: VlmConfig, policy: str) -> VlmConfig:
    """
    Return what the engine goes by under a policy.

    In a static scene every policy stays within its budget: one that looks at the image goes on
    with that, the others with even coverage. The scores of a control are no events, so that
    none of them is noise.
    """
    selection = selection_of(policy)
    return replace(
        config, selection=selection,
        static_scene_policy=IMAGE_SCORES.get(selection, 'uniform'),
        static_scene_rate=0.0 if policy in CONTROLS else config.static_scene_rate)


def _make_record(case: Case, setting: Setting, answer: EngineAnswer) -> Record:
    return {
        'number': case.number, 'image': case.image, 'family': case.family, 'group': case.group,
        'setting': setting.name, 'policy': setting.policy, 'budget': setting.budget.name,
        'question': case.question, 'expected': case.answer, 'answer': answer.text,
        'right': is_right(answer.text, case.answer, case.options),
        'tokens': answer.num_tokens, 'tokens_kept': answer.num_tokens_kept,
        'flops_dense': answer.flops_dense, 'flops_used': answer.flops_used,
        'ttft_ms': round(answer.time_to_first_token_s * 1e3, 3), 'fallback': answer.fallback}


class AnswerFile:
    """
    The file of answers of a run.

    Parameters
    ----------
    path : Path
        Is made, or gone on with if it holds answers of the same run. Half a line at its end, of
        a run that was stopped while it wrote, is cut off.
    description : dict
        What the run depends on, in JSON.

    Raises
    ------
    ValueError
        If the file holds the answers of another run; the text names what differs.

    """

    def __init__(self, path: Path, description: dict[str, Any]) -> None:
        self._path = path
        self.known: dict[int, list[Record]] = {}
        description = json.loads(json.dumps(description))
        if path.is_file() and path.stat().st_size:
            self._read(description)
        else:
            path.write_text(json.dumps({'run': description}) + '\n', encoding='utf-8')

    def append(self, records: list[Record]) -> None:
        """Write the answers to one question, all of them or none."""
        with self._path.open('a', encoding='utf-8') as file:
            file.write(json.dumps(records) + '\n')

    def _read(self, description: dict[str, Any]) -> None:
        content = self._path.read_bytes()
        whole = content[:content.rfind(b'\n') + 1]
        lines = whole.decode('utf-8').splitlines()
        try:
            found = json.loads(lines[0])['run']
            answers = [json.loads(line) for line in lines[1:]]
        except (ValueError, KeyError, TypeError, IndexError):
            raise ValueError(
                f'{self._path} is no file of answers: give another --output, or delete it') \
                from None
        differences = [
            f'{name} was {found.get(name)!r:.200}, now {description.get(name)!r:.200}'
            for name in sorted(found.keys() | description.keys())
            if found.get(name) != description.get(name)]
        if differences:
            raise ValueError(
                f'{self._path} holds answers of another run ({"; ".join(differences)}): give '
                'another --output, or delete it')
        if len(whole) < len(content):
            self._path.write_bytes(whole)
        self.known = {records[0]['number']: records for records in answers}


def run_all(
    runner: Runner, questions: QuestionSet, answers: AnswerFile,
    show_progress: Callable[[Iterable[Any]], Iterable[Any]],
) -> list[Record]:
    """
    Ask what is not known yet, write it down as it comes, and return all answers.

    Parameters
    ----------
    runner : Runner
        Asks.
    questions : QuestionSet
        What to ask.
    answers : AnswerFile
        Gets the new answers.
    show_progress : callable
        Passes on what it is given, such as ``tqdm``.

    """
    records: list[Record] = []
    for number, found in show_progress(runner.run(questions, answers.known)):
        if number not in answers.known:
            answers.append(found)
        records += found
    return records
