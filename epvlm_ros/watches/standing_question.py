"""What a standing question asks, and when; checked on construction."""

from __future__ import annotations

from dataclasses import dataclass, fields
import math
from typing import Any

from epvlm_ros.clean_text import clean_text
from epvlm_ros.watches.event_rates import Region

ACTIVITY, APPEARED, INTERVAL = 'activity', 'appeared', 'interval'
CONDITIONS = (ACTIVITY, APPEARED, INTERVAL)
MAX_ID_LENGTH = 128
RATE_SPAN_S = 60.0  # max_rate is about any span of this length
# What a query may have: of each, the types that it may come in.
_QUERY_FIELDS: dict[str, tuple[type, ...]] = {
    'question': (str,), 'keep_ratio': (float, int), 'max_new_tokens': (int,),
    'deadline': (float, int), 'choices': (list,), 'camera': (str,), 'num_moments': (int,)}
_LARGEST_UINT32 = 2 ** 32 - 1


@dataclass(frozen=True)
class WatchDefaults:
    """
    What holds where a standing question says nothing.

    ``level`` is in events per sensor pixel and second, ``min_gap`` in seconds, ``max_rate`` in
    questions in any 60 seconds.
    """

    level: float = 0.2
    min_gap: float = 1.0
    max_rate: float = 60.0


@dataclass(frozen=True)
class StandingQuestion:
    """
    A question and the condition under which it is asked again.

    Parameters
    ----------
    watch_id : str
        Not empty, at most 128 characters, all of which print.
    query : dict
        What is asked: question, and where they are given keep_ratio, max_new_tokens, deadline,
        choices, camera and num_moments. Passed on as it is.
    condition : str
        One of ``CONDITIONS``.
    level : float
        Least activity, in events per sensor pixel and second; 0 takes the default.
    region : Region
        Where.
    interval : float
        In seconds, for ``INTERVAL``.
    min_gap : float
        Least seconds between two questions; 0 takes the default, with ``INTERVAL`` the interval.
    max_rate : float
        Most questions in any 60 seconds; 0 takes the default.

    Raises
    ------
    ValueError
        If a value is out of its range, or is none of this condition.

    """

    watch_id: str
    query: dict[str, Any]
    condition: str
    level: float = 0.0
    region: Region = Region()
    interval: float = 0.0
    min_gap: float = 0.0
    max_rate: float = 0.0

    def __post_init__(self) -> None:
        self._check_id()
        self._check_query()
        if self.condition not in CONDITIONS:
            raise ValueError(
                f'condition is {self.condition!r}: give one of {", ".join(CONDITIONS)}')
        self._check_region()
        for name in ('level', 'interval', 'min_gap', 'max_rate'):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ValueError(f'{name} is {value}: give a finite number from 0 on')
        if 0.0 < self.max_rate < 1.0:
            raise ValueError(
                f'max_rate is {self.max_rate}: give at least 1 question in 60 seconds, or a '
                'longer min_gap')
        if self.condition == INTERVAL:
            self._check_interval()
        elif self.interval:
            raise ValueError(
                f'interval is {self.interval}, which condition {self.condition} does not use: '
                'leave it 0')

    @property
    def question(self) -> str:
        """Return what is asked."""
        return self.query['question']

    @property
    def camera(self) -> str:
        """Return which camera it is about; empty where there is one."""
        return self.query.get('camera', '')

    def check_pace(self, defaults: WatchDefaults) -> None:
        """Raise a ValueError if an interval is shorter than questions may follow each other."""
        if self.condition != INTERVAL:
            return
        shortest_s = RATE_SPAN_S / (self.max_rate or defaults.max_rate)
        if self.interval < shortest_s:
            raise ValueError(
                f'interval is {self.interval}, which max_rate does not allow: give at least '
                f'{shortest_s:g} seconds, or a max_rate of {RATE_SPAN_S / self.interval:g}')

    def to_dict(self) -> dict[str, Any]:
        """Return it as names and values that JSON has."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {**values, 'region': [self.region.x, self.region.y, self.region.width,
                                     self.region.height]}

    @classmethod
    def from_dict(cls, values: Any) -> StandingQuestion:
        """Return what ``to_dict`` made its result of; a ValueError if there is no such thing."""
        known = {item.name for item in fields(cls)}
        if not isinstance(values, dict) or not {'watch_id', 'query', 'condition'} <= set(values):
            raise ValueError('a standing question has no watch_id, query or condition')
        if set(values) - known:
            raise ValueError(f'a standing question has {", ".join(sorted(set(values) - known))}, '
                             'which are not known')
        values = dict(values)
        region = values.pop('region', [0, 0, 0, 0])
        if not isinstance(region, list) or len(region) != 4 or \
                not all(type(number) is int for number in region):
            raise ValueError(f'region is {clean_text(str(region), 80)}: give x, y, width, height')
        for name in ('level', 'interval', 'min_gap', 'max_rate'):
            if type(values.get(name, 0.0)) not in (int, float):
                raise ValueError(f'{name} is {clean_text(str(values[name]), 80)}: give a number')
        return cls(**values, region=Region(*region))

    def _check_id(self) -> None:
        if not isinstance(self.watch_id, str) or not self.watch_id:
            raise ValueError('watch_id is empty: give a name')
        if len(self.watch_id) > MAX_ID_LENGTH:
            raise ValueError(
                f'watch_id has {len(self.watch_id)} characters: give at most {MAX_ID_LENGTH}')
        if not self.watch_id.isprintable():
            raise ValueError(
                f'watch_id {clean_text(self.watch_id)} holds characters that do not print: leave '
                'them out')

    def _check_query(self) -> None:
        query = self.query
        if not isinstance(query, dict) or 'question' not in query:
            raise ValueError('the query of a standing question has no question')
        for name, value in query.items():
            if type(value) not in _QUERY_FIELDS.get(name, ()):
                raise ValueError(
                    f'the query has {name} {clean_text(repr(value), 80)}: give values of '
                    f'{", ".join(_QUERY_FIELDS)}, each of its type')
        for name in ('max_new_tokens', 'num_moments'):
            if not 0 <= query.get(name, 0) <= _LARGEST_UINT32:
                raise ValueError(f'the query has {name} out of range')
        if not all(isinstance(choice, str) for choice in query.get('choices', [])):
            raise ValueError('the query has choices that are no text')

    def _check_region(self) -> None:
        region = self.region
        numbers = region.x, region.y, region.width, region.height
        if min(numbers) < 0:
            raise ValueError(f'region {region} has a negative number: give image pixels')
        if region.is_whole and (region.x or region.y) or \
                not region.is_whole and 0 in (region.width, region.height):
            raise ValueError(
                f'region {region} is empty: give width and height, or 0 for all four numbers for '
                'the whole image')

    def _check_interval(self) -> None:
        if self.interval == 0.0:
            raise ValueError('interval is 0: give the seconds from one question to the next')
        if self.min_gap > self.interval:
            raise ValueError(
                f'min_gap is {self.min_gap}, longer than interval {self.interval}: leave it 0')
        if self.level:
            raise ValueError(
                f'level is {self.level}, which condition {INTERVAL} does not use: leave it 0')
        if not self.region.is_whole:
            raise ValueError(
                f'region is {self.region}, which condition {INTERVAL} does not use: leave it 0')
