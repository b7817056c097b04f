"""What a field of a configuration class may be, and the check of it."""

from __future__ import annotations

from dataclasses import field, fields
import math
from typing import Any


def parameter(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> Any:
    """
    Declare one field of a configuration class and the values that it may take.

    The type of ``default`` (bool, int, float, str or tuple of float) is the type of the parameter.
    ``ros2 param describe`` shows ``description``, one sentence with the unit. ``minimum`` and
    ``maximum`` are inclusive; ``choices`` are the allowed strings. A running node takes a new
    value only if the parameter is ``dynamic``.
    """
    metadata = {
        'description': description, 'minimum': minimum, 'maximum': maximum,
        'choices': choices, 'dynamic': dynamic,
    }
    return field(default=default, metadata=metadata)


class Validated:
    """Checks every field of a configuration on construction."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            object.__setattr__(self, item.name, check_value(item, value))


def check_value(item: Any, value: Any) -> Any:
    """
    Return ``value`` in the type of the field ``item``.

    Raises ValueError, naming value and remedy, if the type, the range or the choice is wrong.
    """
    name, allowed = item.name, item.metadata
    value = _coerce(name, item.default, value)
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f'{name} is {number}: give a finite number')
        if allowed['minimum'] is not None and number < allowed['minimum']:
            raise ValueError(f'{name} is {number}: give at least {allowed["minimum"]}')
        if allowed['maximum'] is not None and number > allowed['maximum']:
            raise ValueError(f'{name} is {number}: give at most {allowed["maximum"]}')
    if allowed['choices'] and value not in allowed['choices']:
        raise ValueError(f'{name} is {value!r}: give one of {", ".join(allowed["choices"])}')
    return value


def _coerce(name: str, default: Any, value: Any) -> Any:
    wanted = type(default)
    if wanted is tuple:
        try:
            numbers = tuple(float(number) for number in value)
        except (TypeError, ValueError):
            raise ValueError(f'{name} is {value!r}: give a list of numbers') from None
        if len(numbers) != len(default):
            raise ValueError(
                f'{name} has {len(numbers)} numbers: give {len(default)}, row by row')
        return numbers
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f'{name} is {value!r}: give a value of type {wanted.__name__}')
    return value
