"""Queries, and the messages that answer them."""

from __future__ import annotations

from dataclasses import dataclass, field
import threading
import time
from typing import Callable

from epvlm_interfaces.msg import Answer
from epvlm_ros.clean_text import clean_text
from epvlm_ros.ros.answer_status import STATUS_NAMES
from epvlm_ros.ros.buffered_frame import BufferedFrame
from epvlm_ros.ros.conversions import to_duration, to_seconds
from epvlm_ros.ros.index_ranges import pack_indices
from epvlm_ros.vlm.engine import EngineAnswer
from epvlm_ros.vlm.engine.answer import AT_DEADLINE, AT_TOKEN_LIMIT

MAX_ID_LENGTH = 128
MAX_REASON_LENGTH = 500
MAX_MESSAGE_LENGTH = 1000
Reply = Callable[[Answer], None]


@dataclass(frozen=True, eq=False)
class Query:
    """
    A question and what it is about.

    ``keep_ratio``, ``max_new_tokens`` and ``deadline_s`` (from arrival to the end of the answer)
    are None for the parameters of the node.

    Attributes
    ----------
    query_id, shown_question : str
        Made fit for logs and answers by ``clean_text``; ``question`` is as it came.
    frames : tuple of BufferedFrame
        What it is about, oldest first; empty if no frame had come.
    frame_age_ns : int
        Age of the latest of them when the query arrived.
    reply : callable
        Takes the answer; called once, from any thread.
    on_text : callable or None
        Takes each further piece of the text, from any thread.
    choices : tuple of str
        What the answer is one of; empty for any text.
    is_past : bool
        Whether it is about frames that were not the latest when it came.
    camera : str
        Which it is about; empty for that without a name.
    watch_id : str
        Of the standing question that asks; empty if somebody does.
    arrival_s : float
        In the time of ``time.monotonic``.
    cancelled : threading.Event
        Set when the answer is not wanted any more.

    """

    query_id: str
    question: str
    shown_question: str
    keep_ratio: float | None
    max_new_tokens: int | None
    deadline_s: float | None
    frames: tuple[BufferedFrame, ...]
    frame_age_ns: int
    reply: Reply
    on_text: Callable[[str], None] | None = None
    choices: tuple[str, ...] = ()
    is_past: bool = False
    camera: str = ''
    watch_id: str = ''
    arrival_s: float = field(default_factory=time.monotonic)
    cancelled: threading.Event = field(default_factory=threading.Event)
    _outcome: threading.Lock = field(default_factory=threading.Lock)

    def settle(self) -> bool:
        """Return True for the first outcome, which is the one that counts; for any thread."""
        return self._outcome.acquire(blocking=False)


def check_query_id(query_id: str) -> None:
    """Raise a ValueError if an id could fill a log or forge lines of it."""
    if len(query_id) > MAX_ID_LENGTH:
        raise ValueError(
            f'query_id has {len(query_id)} characters: give at most {MAX_ID_LENGTH}')
    if not query_id.isprintable():
        raise ValueError(
            f'query_id {clean_text(query_id)} holds characters that do not print: leave them out')


def refuse(query: Query, status: int, message: str) -> Answer:
    """Return the answer of a query that got none, with the reason."""
    answer = Answer(
        query_id=query.query_id, camera=query.camera, watch_id=query.watch_id,
        question=query.shown_question, status=status,
        message=clean_text(message, MAX_MESSAGE_LENGTH))
    if query.frames:
        latest = query.frames[-1].message
        answer.header = latest.header
        answer.window_start = latest.window_start
        answer.window_end = latest.window_end
        answer.num_events = latest.num_events
        answer.frame_age = to_duration(query.frame_age_ns)
    return answer


def accept(query: Query, result: EngineAnswer) -> Answer:
    """Return the answer of a query that the engine worked on, whole or cut off."""
    status, message = _judge(query, result)
    answer = refuse(query, status, message)
    if status == Answer.ERROR:
        return answer
    answer.text = result.text
    answer.truncated = result.ending == AT_TOKEN_LIMIT
    answer.moments = result.num_moments
    answer.tokens = result.num_tokens
    answer.tokens_kept = result.num_tokens_kept
    answer.rows = result.rows
    answer.cols = result.cols
    answer.kept_tokens = pack_indices(result.kept_indices)
    answer.flops_dense = result.flops_dense
    answer.flops_used = result.flops_used
    answer.flops_reused = result.flops_reused
    answer.time_to_first_token = result.time_to_first_token_s
    answer.total_time = result.total_time_s
    answer.generated_tokens = result.num_generated_tokens
    answer.mean_log_probability = result.mean_log_probability
    answer.first_token_margin = result.first_token_margin
    if result.probabilities:
        answer.choices = list(query.choices)
        answer.probabilities = list(result.probabilities)
    answer.model = result.model
    answer.fallback = result.fallback
    scene = result.scene
    if scene is not None:
        answer.scene = scene.use
        answer.tokens_refreshed = scene.num_refreshed
        answer.tokens_stale = scene.num_stale
        answer.tokens_doubtful = scene.num_doubtful
        answer.oldest_token_age = to_duration(scene.oldest_age_ns)
        answer.flops_updates = scene.flops_updates
    reason = query.frames[-1].message.reason
    if result.fallback and reason:
        answer.fallback += f' ({clean_text(reason, MAX_REASON_LENGTH)})'
    return answer


def describe(query: Query, answer: Answer) -> str:
    """Return what came of a query, in a line for the log."""
    asked = f"{query.query_id}: '{clean_text(query.question, 80)}'"
    if query.watch_id:
        asked = f'watch {query.watch_id}, {asked}'
    if query.camera:
        asked += f' of {query.camera}'
    if query.is_past:
        asked += f' {to_seconds(answer.frame_age):.3f} s ago'
    if answer.status == Answer.CANCELLED:
        return f'{asked}: {answer.message}'
    if answer.status != Answer.OK:
        return f'{asked}: {STATUS_NAMES[answer.status]}: {answer.message}'
    text = clean_text(answer.text, MAX_MESSAGE_LENGTH)
    if answer.choices:
        text += (f', of {len(answer.choices)} choices, with a probability of '
                 f'{max(answer.probabilities):.3f}')
    return (f'{asked}: {text} ({answer.tokens_kept} of {answer.tokens} tokens, the first word '
            f'after {answer.time_to_first_token:.3f} s, the last after {answer.total_time:.3f} s)')


def _judge(query: Query, result: EngineAnswer) -> tuple[int, str]:
    """Return status and message of what the engine returned."""
    if result.ending == AT_DEADLINE:
        return Answer.DEADLINE, (
            f'the deadline came after {result.num_generated_tokens} tokens, '
            f'{time.monotonic() - query.arrival_s:.3f} s after the query: give a later one, a '
            'lower keep_ratio or a shorter question')
    if not result.stopped:
        return Answer.OK, ''
    if query.cancelled.is_set():
        return Answer.CANCELLED, f'cancelled after {result.num_generated_tokens} tokens'
    return Answer.ERROR, 'the node stopped in the middle of the answer'
