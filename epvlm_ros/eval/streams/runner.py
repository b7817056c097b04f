"""Runs one stream under every policy."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, replace

from epvlm_ros.eval.answer_file import Record
from epvlm_ros.eval.scoring import is_right
from epvlm_ros.eval.streams.conditions import CONDITIONS
from epvlm_ros.eval.streams.event_feed import EventFeed
from epvlm_ros.eval.streams.model import FrameCosts, StreamModel
from epvlm_ros.eval.streams.policies import (
    BOTH, EVENTS, kind_of, Look, make_policy, POLICIES, Spent)
from epvlm_ros.eval.streams.token_pixels import differing_tokens
from epvlm_ros.sim.question_maker import ask_about_picture
from epvlm_ros.sim.questions import answer_question, Question, SceneSnapshot
from epvlm_ros.sim.rearrangement import simulate_stream
import numpy as np


class StreamRunner:
    """
    A model, and the policies that are compared.

    Parameters
    ----------
    model : StreamModel
        Used for all streams, one after the other.
    policies : sequence of str
        Names of ``make_policy``, dense among them.
    split : str
        Of the scenes.
    num_updates : int
        Most updates of a stream; 0 leaves them as they are.

    """

    def __init__(
        self, model: StreamModel, policies: list[str], split: str, num_updates: int = 0,
    ) -> None:
        self._model, self._split, self._num_updates = model, split, num_updates
        self._policies = sorted(policies, key=lambda name: POLICIES.index(kind_of(name)))

    def run(self, condition_name: str, index: int, number: int) -> list[Record]:
        """
        Return what came of a stream, in JSON.

        The first record is about its frames: the share that truly changed, and what each policy
        spent. The others are questions with all answers.
        """
        condition = CONDITIONS[condition_name]
        config = condition.stream
        if self._num_updates:
            config = replace(config, num_updates=min(self._num_updates, config.num_updates))
        grid = self._model.patch_grid(config.image_height, config.image_width)
        costs = FrameCosts(self._model.shape, grid, self._model.num_text_tokens(grid))
        policies = {
            name: make_policy(name, self._model, costs, condition.margin_px)
            for name in self._policies}
        feed = EventFeed(condition, index)
        spent: dict[str, list[Spent]] = defaultdict(list)
        changed, questions = [], []
        first = previous = None
        random = np.random.default_rng([5, index])
        for update, frame in enumerate(simulate_stream(self._split, index, config)):
            activity, score = feed.follow(frame)
            for name, policy in policies.items():
                spent[name].append(policy.take(Look(
                    frame, activity, score, grid,
                    _mean_flops(spent, config.num_updates + 1, costs.dense),
                    _sum_flops(spent[EVENTS]) if EVENTS in policies else None)))
            if first is None or previous is None:
                first = previous = frame
                continue
            changed.append(float(
                differing_tokens(previous.picture, frame.picture, grid).mean()))
            previous = frame
            if not condition.is_asked(update):
                continue
            asked = list(ask_about_picture(frame.view, random))
            answers = {name: policy.answer([question.text + '?' for question, _ in asked])
                       for name, policy in policies.items()}
            for place, (question, truth) in enumerate(asked):
                questions.append(_make_record(
                    question, truth, first.view, update, frame.camera_moves,
                    {name: given[place] for name, given in answers.items()}))
        head = {
            'number': number, 'condition': condition_name, 'stream': index,
            'tokens': grid.num_tokens, 'flops_dense': costs.dense, 'changed': changed,
            'spent': {name: _as_columns(found) for name, found in spent.items()}}
        return [head, *questions]


def _make_record(
    question: Question, truth: str, first: SceneSnapshot, update: int, camera_moves: bool,
    answers: dict[str, str],
) -> Record:
    return {
        'update': update, 'family': question.family, 'question': question.text + '?',
        'expected': truth, 'has_changed': answer_question(question, first) != truth,
        'camera_moves': camera_moves, 'answers': answers,
        'right': {name: is_right(text, truth, ()) for name, text in answers.items()}}


def _mean_flops(spent: dict[str, list[Spent]], num_frames: int, dense: int) -> float:
    """
    Return the FLOPs a frame of the dearer memory so far.

    What its first frame cost is spread over all frames of the stream.
    """
    memories = [spent[name] for name in (EVENTS, BOTH) if spent.get(name)]
    if not memories:
        return float(dense)
    return max(
        found[0].flops / num_frames + _sum_flops(found[1:]) / max(1, len(found) - 1)
        for found in memories)


def _sum_flops(spent: list[Spent]) -> float:
    return float(sum(item.flops for item in spent))


def _as_columns(spent: list[Spent]) -> dict[str, list[int]]:
    rows = [asdict(item) for item in spent]
    return {name: [int(row[name]) for row in rows] for name in rows[0]}
