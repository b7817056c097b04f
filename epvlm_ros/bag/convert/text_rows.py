"""Text of numbers, a line for each event, parsed by a compiled loop; no digit is lost."""

from __future__ import annotations

from typing import NamedTuple

from epvlm_ros.compiled import compiled
import numpy as np

_NEW_LINE, _POINT, _PLUS, _MINUS, _ZERO, _NINE = 10, 46, 43, 45, 48, 57
_SEPARATORS = (9, 13, 32, 44)  # tab, carriage return, space, comma
_REMARKS = (35, 37)  # '#' and '%' begin a line that is skipped
_NUM_COLUMNS = 4
_MAX_PLACES = 18
_LAST_BEFORE_OVERFLOW = (2 ** 63 - 10) // 10
_POWERS = 10.0 ** np.arange(_MAX_PLACES + 1)
_MIN_LINE_SIZE = 8  # bytes of '0 0 0 0' and its end


class TextRows(NamedTuple):
    """
    Rows of four numbers.

    The first is the whole number ``mantissa`` (num,) after ``places`` (num,) places behind its
    point, -1 without a point; ``others`` are float64 (num, 3).
    """

    mantissa: np.ndarray
    places: np.ndarray
    others: np.ndarray


def parse_text_rows(text: bytes) -> TextRows | None:
    """Parse whole lines; None if one is not four plain numbers without an exponent."""
    data = np.frombuffer(text, np.uint8)
    size = data.size // _MIN_LINE_SIZE + 1
    rows = TextRows(
        np.empty(size, np.int64), np.empty(size, np.int64), np.empty((size, _NUM_COLUMNS - 1)))
    num = _parse(data, *rows, _POWERS)
    return None if num < 0 else TextRows(*(values[:num] for values in rows))


@compiled
def _is_separator(character):  # type: ignore[no-untyped-def]
    return (character == _SEPARATORS[0] or character == _SEPARATORS[1]
            or character == _SEPARATORS[2] or character == _SEPARATORS[3])


@compiled
def _end_of_number(data, start, powers):  # type: ignore[no-untyped-def]
    """Return end, whole number and places of the number at ``start``; an end of -1 if none is."""
    i, is_negative = start, False
    if data[i] == _PLUS or data[i] == _MINUS:
        is_negative = data[i] == _MINUS
        i += 1
    mantissa, places, num_digits = np.int64(0), -1, 0
    while i < data.size:
        if _ZERO <= data[i] <= _NINE:
            if mantissa > _LAST_BEFORE_OVERFLOW:
                return -1, mantissa, places
            mantissa = mantissa * 10 + np.int64(data[i] - _ZERO)
            num_digits += 1
            if places >= 0:
                places += 1
        elif data[i] == _POINT and places < 0:
            places = 0
        else:
            break
        i += 1
    if num_digits == 0 or places >= powers.size or not (
            i == data.size or data[i] == _NEW_LINE or _is_separator(data[i])):
        return -1, mantissa, places
    return i, -mantissa if is_negative else mantissa, places


@compiled
def _parse(data, mantissas, all_places, others, powers):  # type: ignore[no-untyped-def]
    """Return the number of rows, -1 if a line is of another kind."""
    row, column, i = 0, 0, 0
    while i < data.size:
        if data[i] == _NEW_LINE:
            if column != 0 and column != _NUM_COLUMNS:
                return -1
            row += column == _NUM_COLUMNS
            column = 0
            i += 1
        elif _is_separator(data[i]):
            i += 1
        elif column == 0 and (data[i] == _REMARKS[0] or data[i] == _REMARKS[1]):
            while i < data.size and data[i] != _NEW_LINE:
                i += 1
        else:
            i, mantissa, places = _end_of_number(data, i, powers)
            if i < 0 or column == _NUM_COLUMNS:
                return -1
            if column == 0:
                mantissas[row], all_places[row] = mantissa, places
            else:
                others[row, column - 1] = mantissa / powers[max(places, 0)]
            column += 1
    if column != 0 and column != _NUM_COLUMNS:
        return -1
    return row + (column == _NUM_COLUMNS)
