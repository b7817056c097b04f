"""What a page may ask for, read from its messages; whatever else comes is refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
import json
import math
from typing import Any, Union

MAX_MESSAGE_BYTES = 64 * 1024
MAX_TEXT_LENGTH = 20_000
MAX_CHOICES = 256
LARGEST_UINT32 = 2 ** 32 - 1
LARGEST_SECONDS = 1e9
CONDITIONS = ('activity', 'appeared', 'interval')  # in the order of StandingQuestion


@dataclass(frozen=True)
class Question:
    """A question and its limits; 0 and empty stand for the parameters of the node."""

    question: str
    choices: tuple[str, ...] = ()
    seconds_ago: float = 0.0
    keep_ratio: float = 0.0
    max_new_tokens: int = 0
    deadline: float = 0.0
    camera: str = ''
    num_moments: int = 0


@dataclass(frozen=True)
class AskRequest:
    """Answer a question."""

    request_id: int
    question: Question


@dataclass(frozen=True)
class CancelRequest:
    """End the answer to the question of the request ``asked``."""

    request_id: int
    asked: int


@dataclass(frozen=True)
class WatchRequest:
    """Set up a standing question; ``region`` is left, top, width, height in image pixels."""

    request_id: int
    question: Question
    condition: str
    level: float = 0.0
    interval: float = 0.0
    min_gap: float = 0.0
    max_rate: float = 0.0
    region: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class UnwatchRequest:
    """End a standing question."""

    request_id: int
    watch_id: str


@dataclass(frozen=True)
class SetRequest:
    """Change a parameter of a node while it runs."""

    request_id: int
    node: str
    name: str
    value: Union[bool, int, float, str, tuple[float, ...]] = field(default='')


@dataclass(frozen=True)
class LiveRequest:
    """Send the live picture of a camera, or stop to: nobody looks."""

    request_id: int
    on: bool
    camera: str = ''


Request = Union[AskRequest, CancelRequest, WatchRequest, UnwatchRequest, SetRequest, LiveRequest]


def parse_request(text: str) -> Request:
    """
    Return what a message of a page asks for.

    Raises
    ------
    ValueError
        In one line with the field, if the message is not JSON of a known kind.

    """
    fields = _Fields(_load(text))
    kind, request_id = fields.text('type', 40), fields.integer('id')
    request = _parse(kind, request_id, fields)
    fields.check_all_read()
    return request


def find_id(text: str) -> int | None:
    """Return the id of a message that is at fault, None if it has none."""
    try:
        return _Fields(_load(text)).integer('id')
    except ValueError:
        return None


def _load(text: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f'{constant} is no number of JSON')

    try:
        message = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError('the message is nested too deeply') from None
    except ValueError as error:
        raise ValueError(f'the message is not JSON: {str(error)[:200]}') from None
    if not isinstance(message, dict):
        raise ValueError(f'the message is a {type(message).__name__}: send a JSON object')
    return message


def _parse(kind: str, request_id: int, fields: _Fields) -> Request:
    if kind == 'ask':
        return AskRequest(request_id, _question(fields))
    if kind == 'cancel':
        return CancelRequest(request_id, fields.integer('asked'))
    if kind == 'watch':
        condition = fields.text('condition', 40)
        if condition not in CONDITIONS:
            raise ValueError(f'condition is {condition!r}: give one of {", ".join(CONDITIONS)}')
        numbers = {name: fields.number(name) for name in (
            'level', 'interval', 'min_gap', 'max_rate')}
        return WatchRequest(
            request_id, _question(fields), condition, region=fields.region('region'), **numbers)
    if kind == 'unwatch':
        return UnwatchRequest(request_id, fields.text('watch_id', 1000))
    if kind == 'set':
        return SetRequest(request_id, fields.text('node', 300), fields.text('name', 300),
                          fields.value('value'))
    if kind == 'live':
        return LiveRequest(request_id, fields.truth('on'), fields.text('camera', 1000, ''))
    raise ValueError(f'type is {kind!r}: give ask, cancel, watch, unwatch, set or live')


def _question(fields: _Fields) -> Question:
    return Question(
        fields.text('question', MAX_TEXT_LENGTH), fields.texts('choices'),
        fields.number('seconds_ago'), fields.number('keep_ratio'),
        fields.integer('max_new_tokens', 0), fields.number('deadline'),
        fields.text('camera', 1000, ''), fields.integer('num_moments', 0))


class _Fields:
    """Takes the fields of a message one by one, each of its type."""

    def __init__(self, message: dict[str, Any]) -> None:
        self._message = message
        self._read: set[str] = set()

    def text(self, name: str, max_length: int, default: str | None = None) -> str:
        return _text(name, self._take(name, default), max_length)

    def texts(self, name: str) -> tuple[str, ...]:
        items = self._take(name, [])
        if not isinstance(items, list) or len(items) > MAX_CHOICES:
            raise ValueError(f'{name}: give a list of up to {MAX_CHOICES} texts')
        return tuple(_text(name, item, MAX_TEXT_LENGTH) for item in items)

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._take(name, default)
        if type(value) is not int or not 0 <= value <= LARGEST_UINT32:
            raise ValueError(f'{name} is {_show(value)}: give a whole number from 0 on')
        return value

    def number(self, name: str) -> float:
        return _number(name, self._take(name, 0.0), LARGEST_SECONDS)

    def truth(self, name: str) -> bool:
        value = self._take(name)
        if not isinstance(value, bool):
            raise ValueError(f'{name} is {_show(value)}: give true or false')
        return value

    def region(self, name: str) -> tuple[int, int, int, int]:
        items = self._take(name, [0, 0, 0, 0])
        if not isinstance(items, list) or len(items) != 4 or not all(
                type(item) is int and 0 <= item <= LARGEST_UINT32 for item in items):
            raise ValueError(
                f'{name} is {_show(items)}: give left, top, width and height in whole pixels')
        return items[0], items[1], items[2], items[3]

    def value(self, name: str) -> bool | int | float | str | tuple[float, ...]:
        """Return the value of a parameter."""
        value = self._take(name)
        if isinstance(value, list):
            return tuple(_number(name, item, math.inf) for item in value[:1000])
        if isinstance(value, (bool, int)):
            if abs(value) >= 2 ** 63:
                raise ValueError(f'{name} is {_show(value)}: give a number of at most 64 bits')
            return value
        if isinstance(value, float):
            return _number(name, value, math.inf)
        return _text(name, value, MAX_TEXT_LENGTH)

    def check_all_read(self) -> None:
        unknown = sorted(self._message.keys() - self._read)
        if unknown:
            raise ValueError(f'{_show(unknown[0])} is no field of this message: leave it out')

    def _take(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        value = self._message.get(name, default)
        if value is None:
            raise ValueError(f'{name} is missing: give it')
        return value


def _text(name: str, value: Any, max_length: int) -> str:
    if not isinstance(value, str):
        raise ValueError(f'{name} is {_show(value)}: give a text')
    if len(value) > max_length:
        raise ValueError(f'{name} has {len(value)} characters: give at most {max_length}')
    if '\0' in value or any('\ud800' <= character <= '\udfff' for character in value):
        raise ValueError(f'{name} has characters that no text has: leave them out')
    return value


def _number(name: str, value: Any, largest: float) -> float:
    if type(value) not in (int, float) or not abs(value) <= largest or math.isinf(float(value)):
        raise ValueError(f'{name} is {_show(value)}: give a finite number')
    return float(value)


def _show(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f'{text[:60]}...'
