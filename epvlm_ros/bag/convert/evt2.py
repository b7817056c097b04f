"""
Decoders of EVT2 and EVT2.1 by Prophesee, little endian.

EVT2 has a 32-bit word for an event: polarity as the code in bits 28 to 31 (0 or 1), the low 6 bits
of the time at 22, x at 11 (11 bits), y at 0 (11 bits). EVT2.1 has a 64-bit word for up to 32
events of a row: the code at 60, the time at 54, x of the first at 43, y at 32, and a bit for each
pixel that has an event. In both a word of code 8 holds the upper 28 bits of the time in us (at 0
and at 32), and one of code 10 a trigger (https://docs.prophesee.ai, data encoding formats).
"""

from __future__ import annotations

from epvlm_ros.events.packet import Events
import numpy as np

_TIME_HIGH, _TRIGGER = 8, 10
_LOW_BITS = 6
_HIGH_BITS = 28


class _WordDecoder:
    """Keeps the upper part of the time from call to call; events before the first are dropped."""

    word_dtype: str
    _time_shift: int  # of the upper part
    _low_shift: int  # of the lower part

    def __init__(self) -> None:
        self.num_triggers = 0  # that were passed over
        self._high: int | None = None  # of the last time word, with the wraps so far

    def decode(self, data: bytes | np.ndarray) -> Events:
        """Return the events of a whole number of words; what is left of the bytes is ignored."""
        size = np.dtype(self.word_dtype).itemsize
        words = np.frombuffer(data, self.word_dtype, len(data) // size)
        codes = words >> words.dtype.type(8 * size - 4)
        self.num_triggers += int(np.count_nonzero(codes == _TRIGGER))
        high = self._fill_high(words, codes)
        is_event = (codes <= 1) & (high >= 0)
        words, high = words[is_event], high[is_event]
        low = (words >> words.dtype.type(self._low_shift)) & words.dtype.type(0x3F)
        t_ns = ((high << _LOW_BITS) | low.astype(np.int64)) * 1000
        return self._make_events(words, codes[is_event].astype(np.uint8), t_ns)

    def _fill_high(self, words: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the upper part of the time at every word, -1 before there is one."""
        at = np.flatnonzero(codes == _TIME_HIGH)
        mask = words.dtype.type(2 ** _HIGH_BITS - 1)
        values = ((words[at] >> words.dtype.type(self._time_shift)) & mask).astype(np.int64)
        before = -1 if self._high is None else self._high
        if at.size:
            first = values[0] if before < 0 else before
            steps = np.diff(values, prepend=first % 2 ** _HIGH_BITS)
            steps[steps < -2 ** (_HIGH_BITS - 1)] += 2 ** _HIGH_BITS
            values = first + np.cumsum(steps)
            self._high = int(values[-1])
        last = np.zeros(words.size, np.int64)
        last[at] = np.arange(1, at.size + 1)
        return np.concatenate([[before], values])[np.maximum.accumulate(last)]

    def _make_events(
        self, words: np.ndarray, polarity: np.ndarray, t_ns: np.ndarray,
    ) -> Events:
        raise NotImplementedError


class Evt2Decoder(_WordDecoder):
    """A word for an event."""

    word_dtype, _time_shift, _low_shift = '<u4', 0, 22

    def _make_events(
        self, words: np.ndarray, polarity: np.ndarray, t_ns: np.ndarray,
    ) -> Events:
        x, y = (words >> np.uint32(11)) & np.uint32(0x7FF), words & np.uint32(0x7FF)
        return Events(x.astype(np.uint16), y.astype(np.uint16), polarity, t_ns)


class Evt21Decoder(_WordDecoder):
    """A word for up to 32 events of one row and time."""

    word_dtype, _time_shift, _low_shift = '<u8', 32, 54

    def _make_events(
        self, words: np.ndarray, polarity: np.ndarray, t_ns: np.ndarray,
    ) -> Events:
        pixels = (words & np.uint64(0xFFFFFFFF)).astype('<u4').view(np.uint8).reshape(-1, 4)
        is_set = np.unpackbits(pixels, axis=1, bitorder='little')  # (words, 32)
        row, column = np.nonzero(is_set)
        x, y = (((words >> np.uint64(shift)) & np.uint64(0x7FF)).astype(np.uint16)
                for shift in (43, 32))
        return Events(
            x[row] + column.astype(np.uint16), y[row], polarity[row], t_ns[row])


WORD_DECODERS: dict[str, type[_WordDecoder]] = {'evt2': Evt2Decoder, 'evt21': Evt21Decoder}
