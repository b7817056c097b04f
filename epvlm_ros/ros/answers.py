"""Queries, and the messages that answer them."""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Callable

from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_ros.core.engine import EngineAnswer
from epvlm_ros.ros.conversions import to_duration

STATUS_NAMES = {getattr(Answer, name): name for name in (
    'OK', 'NO_FRAME', 'STALE_FRAME', 'BUSY', 'INVALID', 'ERROR')}


@dataclass(frozen=True)
class Query:
    """
    A question and the frame that it is about.

    Attributes
    ----------
    query_id, question : str
        As they were given.
    keep_ratio : float or None
        Share of the visual tokens to compute on, None for the parameter of the node.
    max_new_tokens : int or None
        Most tokens of the answer, None for the parameter of the node.
    frame : EventGuidedFrame or None
        The latest guided frame when the query arrived.
    frame_age_ns : int
        Its age then.
    reply : callable
        Takes the answer; called once, from any thread.

    """

    query_id: str
    question: str
    keep_ratio: float | None
    max_new_tokens: int | None
    frame: EventGuidedFrame | None
    frame_age_ns: int
    reply: Callable[[Answer], None]


def refuse(query: Query, status: int, message: str) -> Answer:
    """Return the answer of a query that got none, with the reason."""
    answer = Answer(
        query_id=query.query_id, question=query.question, status=status, message=message)
    if query.frame is not None:
        answer.header = query.frame.header
        answer.window_start = query.frame.window_start
        answer.window_end = query.frame.window_end
        answer.num_events = query.frame.num_events
        answer.frame_age = to_duration(query.frame_age_ns)
    return answer


def accept(query: Query, result: EngineAnswer) -> Answer:
    """Return the answer of a query that the engine answered."""
    answer = refuse(query, Answer.OK, '')
    answer.text = result.text
    answer.tokens = result.num_tokens
    answer.tokens_kept = result.num_tokens_kept
    answer.rows = result.rows
    answer.cols = result.cols
    answer.kept_indices = array.array('I', [int(index) for index in result.kept_indices])
    answer.flops_dense = result.flops_dense
    answer.flops_used = result.flops_used
    answer.time_to_first_token = result.time_to_first_token_s
    answer.total_time = result.total_time_s
    answer.generated_tokens = result.num_generated_tokens
    answer.fallback = result.fallback
    return answer
