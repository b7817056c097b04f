"""Background activity: events that come alone are noise."""

from __future__ import annotations

from epvlm_ros.compiled import compiled, count_bits
from epvlm_ros.events.config import FilterConfig
from epvlm_ros.events.filters.event_filter import EventFilter
import numpy as np

# A time is divided into slots; an event is supported by those of its own and of so many before.
_SLOTS_BEFORE = 4
_NUM_SLOTS = _SLOTS_BEFORE + 1
_NEVER = -1 << 62


class BackgroundFilter(EventFilter):
    """
    Drops events that none of the 8 pixels around has had an event shortly before.

    The criterion of Delbruck, "Frame-free dynamic digital vision" (2008), in stream order: of two
    neighbours at the same time the first one does not know of the second, and dropped events
    support others all the same. The pixel's own past does not count.

    Instead of a time for each pixel it keeps a bit for each pixel and each of the last 5 slots of
    a quarter of ``background_filter_time``, so that all pixels of a run are checked at once. An
    event supports its neighbours for 1 to 1.25 times ``background_filter_time``.
    """

    name = 'background'

    def __init__(self, width: int, height: int, config: FilterConfig) -> None:
        super().__init__(width, height, config)
        self._slot_ns = max(1, round(config.background_filter_time * 1e9 / _SLOTS_BEFORE))
        self._forget()

    def reset(self) -> None:
        """Forget which pixels had events."""
        self._line_slots.fill(_NEVER)

    def _forget(self) -> None:
        # A line before the first, one after the last and a pixel before the first of each line
        # never have an event: nothing has to look for the edge of the sensor.
        num_lines, num_words = self._num_lines + 2, (self._line_length >> 5) + 2
        self._slots = np.zeros((num_lines, _NUM_SLOTS, num_words), np.uint32)
        self._recent = np.zeros((num_lines, num_words), np.uint32)  # any bit of any slot
        self._line_slots = np.zeros(num_lines, np.int64)  # the newest slot of each line
        self.reset()

    def _apply(self, records: np.ndarray) -> int:
        return int(_drop_unsupported(
            records, self._is_vertical, self._slot_ns, self._recent, self._slots,
            self._line_slots))


@compiled
def _drop_unsupported(  # type: ignore[no-untyped-def]
    records, is_vertical, slot_ns, recent, slots, line_slots,
):
    num_dropped = 0
    slot, t_ns = np.int64(0), np.int64(0)
    for i in range(records.size):
        run = records[i]
        mask = np.int64(run.mask)
        if mask == 0:
            continue
        if i == 0 or run.t_ns != t_ns:
            t_ns = run.t_ns
            slot = t_ns // slot_ns
        before = np.int64(run.x if is_vertical else run.y)
        start = np.int64(run.y if is_vertical else run.x)
        for near in range(before, before + 3):
            if line_slots[near] != slot:
                _turn_line(recent, slots, line_slots, near, slot)
        # Bit i of these is the pixel before pixel i of the run.
        line = before + 1
        word, shift = start >> 5, start & 31
        around = _read(recent, before, word, shift) | _read(recent, before + 2, word, shift)
        beside = _read(recent, line, word, shift)
        support = around | around >> 1 | around >> 2 | beside | beside >> 2 | mask << 1
        dropped = mask & ~support
        if dropped:
            run.mask = mask ^ dropped
            num_dropped += count_bits(dropped)
        word, shift = start + 1 >> 5, start + 1 & 31
        bits = mask << shift
        lower, upper = np.uint32(bits & 0xFFFFFFFF), np.uint32(bits >> 32)
        index = line_slots[line] % _NUM_SLOTS
        recent[line, word] |= lower
        slots[line, index, word] |= lower
        if upper:
            recent[line, word + 1] |= upper
            slots[line, index, word + 1] |= upper
    return num_dropped


@compiled
def _read(bits, line, word, shift):  # type: ignore[no-untyped-def]
    """Return 32 bits of a line, or more, from bit ``shift`` of a word on."""
    return (np.int64(bits[line, word]) | np.int64(bits[line, word + 1]) << 32) >> shift


@compiled
def _turn_line(recent, slots, line_slots, line, slot):  # type: ignore[no-untyped-def]
    """Let time pass in a line, up to a slot; a little step back in time changes nothing."""
    age = slot - line_slots[line]
    if -_NUM_SLOTS < age <= 0:
        return
    if 0 < age < _NUM_SLOTS:
        for fresh in range(slot - age + 1, slot + 1):
            slots[line, fresh % _NUM_SLOTS, :] = 0
        for word in range(recent.shape[1]):
            bits = slots[line, 0, word]
            for index in range(1, _NUM_SLOTS):
                bits |= slots[line, index, word]
            recent[line, word] = bits
    else:
        slots[line] = 0
        recent[line] = 0
    line_slots[line] = slot
