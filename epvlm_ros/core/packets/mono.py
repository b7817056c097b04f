"""
mono (legacy): 64-bit words of time after ``time_base`` in ns, column, row and polarity.

Bits 0 to 31 are the time, 32 to 47 the column, 48 to 62 the row, 63 the polarity.
"""

from __future__ import annotations

from epvlm_ros.core.compiled import compiled
from epvlm_ros.core.packets.decoder import PacketDecoder
import numpy as np


class MonoDecoder(PacketDecoder):
    """Decoder of ``mono``; nothing is carried from packet to packet."""

    encoding = 'mono'
    _word_dtype = 'u8'

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(words, self.width, self.height, time_base, runs, tally)


@compiled
def _parse_words(words, width, height, time_base, runs, tallies):  # type: ignore[no-untyped-def]
    tally = tallies[0]
    num_runs, num_out = 0, 0
    for i in range(words.size):
        t_ns = time_base + np.int64(words[i] & np.uint64(0xFFFFFFFF))
        address = np.int64(words[i] >> np.uint64(32))
        if not tally.has_first:
            tally.first_ns, tally.has_first = t_ns, True
        tally.last_ns, tally.has_last = t_ns, True
        x, y = address & 0xFFFF, address >> 16 & 0x7FFF
        if x < width and y < height:
            run = runs[num_runs]
            run.t_ns, run.x, run.y, run.mask = t_ns, x, y, 1
            run.polarity = address >> 31 & 1
            num_runs += 1
        else:
            num_out += 1
    tally.num_runs, tally.num_events, tally.num_out_of_range = num_runs, num_runs, num_out
