"""What the handler makes of a model that cannot answer: an outcome with the reason."""

from types import SimpleNamespace

from epvlm_interfaces.msg import Answer, EventGuidedFrame
from epvlm_ros.ros.query import Query
from epvlm_ros.ros.query_handler import QueryHandler
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import Moment, OutOfMemory
from epvlm_ros.vlm.model_error import NonFiniteLogits
import numpy as np
import pytest


class Engine:
    """An engine whose model fails."""

    config = VlmConfig()

    def __init__(self, error):
        self._error = error

    def answer_about(self, *_, **__):
        raise self._error


def handle(error):
    """Return the answer to a query, and the error lines of the log."""
    lines = []
    logger = SimpleNamespace(error=lines.append)
    frame = SimpleNamespace(
        message=EventGuidedFrame(), moment=Moment(np.zeros((28, 28, 3), np.uint8), None, 1))
    query = Query('id', '?', '?', None, None, None, (frame,), 0, lambda answer: None)
    handler = QueryHandler(Engine(error), logger, lambda: None)
    return handler.answer(query, lambda: False), lines


@pytest.mark.parametrize('error, words', [
    (NonFiniteLogits(), 'logits that are NaN or infinite'), (OutOfMemory('too big'), 'too big')])
def test_what_the_model_cannot_do_is_an_error_with_the_reason_and_no_traceback(error, words):
    answer, lines = handle(error)
    assert answer.status == Answer.ERROR and words in answer.message and answer.text == ''
    assert lines == []


def test_what_nobody_foresaw_is_an_error_with_a_traceback():
    answer, lines = handle(KeyError('logits'))
    assert answer.status == Answer.ERROR and answer.message == "KeyError: 'logits'"
    assert len(lines) == 1 and 'Traceback' in lines[0]
