"""Between messages and standing questions."""

from __future__ import annotations

from epvlm_interfaces.msg import Query, StandingQuestion as StandingQuestionMessage
from epvlm_ros.time_units import stamp_to_ns
from epvlm_ros.watches import (
    ACTIVITY, APPEARED, INTERVAL, Region, StandingQuestion)
from sensor_msgs.msg import RegionOfInterest

_CONDITIONS = {
    StandingQuestionMessage.ACTIVITY: ACTIVITY, StandingQuestionMessage.APPEARED: APPEARED,
    StandingQuestionMessage.INTERVAL: INTERVAL}
_NUMBERS = {value: number for number, value in _CONDITIONS.items()}
_PASSED_ON = (
    'question', 'keep_ratio', 'max_new_tokens', 'deadline', 'choices', 'camera', 'num_moments')


def to_standing_question(message: StandingQuestionMessage, new_id: str) -> StandingQuestion:
    """
    Return the standing question of a message; one without an id gets ``new_id``.

    Raises
    ------
    ValueError
        If a value is not allowed, or is one that a standing question cannot use.

    """
    query, roi = message.query, message.region
    if message.condition not in _CONDITIONS:
        raise ValueError(
            f'condition is {message.condition}: give ' + ', '.join(
                f'{number} ({name})' for number, name in _CONDITIONS.items()))
    for name, is_set in (('query_id', query.query_id), ('seconds_ago', query.seconds_ago != 0.0),
                         ('at', stamp_to_ns(query.at) != 0)):
        if is_set:
            raise ValueError(
                f'query.{name} is set: leave it empty, since a standing question is asked again '
                'and again, each time about that moment')
    if roi.do_rectify:
        raise ValueError(
            'region.do_rectify is true: give the region in pixels of the image as it comes')
    values = {name: getattr(query, name) for name in _PASSED_ON}
    return StandingQuestion(
        message.watch_id or new_id,
        {**values, 'choices': [str(choice) for choice in query.choices]},
        _CONDITIONS[message.condition], message.level,
        Region(roi.x_offset, roi.y_offset, roi.width, roi.height), message.interval,
        message.min_gap, message.max_rate)


def to_query_message(standing: StandingQuestion) -> Query:
    """Return what a standing question asks each time."""
    return Query(**{name: float(value) if name in ('keep_ratio', 'deadline') else value
                    for name, value in standing.query.items()})


def to_message(standing: StandingQuestion) -> StandingQuestionMessage:
    """Return the message of a standing question."""
    region = standing.region
    return StandingQuestionMessage(
        watch_id=standing.watch_id, query=to_query_message(standing),
        condition=_NUMBERS[standing.condition], level=float(standing.level),
        region=RegionOfInterest(
            x_offset=region.x, y_offset=region.y, width=region.width, height=region.height),
        interval=float(standing.interval), min_gap=float(standing.min_gap),
        max_rate=float(standing.max_rate))
