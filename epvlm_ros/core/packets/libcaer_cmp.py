"""
libcaer_cmp: 16-bit words that libcaer_driver makes of the events of iniVation sensors.

Like EVT3 with rows and columns exchanged: the column holds, vectors run down it. Nothing is
carried from packet to packet: time restarts at the packet's ``time_base``.
"""

from __future__ import annotations

from epvlm_ros.core.compiled import compiled
from epvlm_ros.core.packets.decoder import PacketDecoder
from epvlm_ros.core.packets.runs import clip_mask, count_bits
import numpy as np

TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8, VECT_12 = range(7)
_UNKNOWN = -1 << 40  # no vector advances from here to a real row


class LibcaerCmpDecoder(PacketDecoder):
    """
    Decoder of ``libcaer_cmp``.

    Event time is ``time_base`` + 1000 x (TIME_HIGH, TIME_LOW), both 0 at the start of a packet.
    Events before the first column of the packet are dropped and counted.
    """

    encoding = 'libcaer_cmp'
    _word_dtype = 'u2'
    _is_vertical = True

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(words, self.width, self.height, time_base, runs, tally)


@compiled
def _parse_words(words, width, height, time_base, runs, tallies):  # type: ignore[no-untyped-def]
    tally = tallies[0]
    time_high, time_low = 0, 0
    x, base_y, polarity = _UNKNOWN, _UNKNOWN, 0
    t_ns = np.int64(time_base)
    num_runs, num_events, num_out, num_before, num_unknown = 0, 0, 0, 0, 0
    for i in range(words.size):
        word = np.int64(words[i])
        code = word >> 12
        if code == ADDR_Y:
            y = word & 0x7FF
            if x < 0:
                num_before += 1
            elif x < width and y < height:
                run = runs[num_runs]
                run.t_ns, run.x, run.y, run.mask = t_ns, x, y, 1
                run.polarity = word >> 11 & 1
                num_runs += 1
                num_events += 1
            else:
                num_out += 1
        elif code == ADDR_X:
            x = word & 0x7FF
        elif code == TIME_LOW:
            time_low = word & 0xFFF
            t_ns = time_base + (time_high << 12 | time_low) * 1000
        elif code == TIME_HIGH:
            time_high = word & 0xFFF
            t_ns = time_base + (time_high << 12 | time_low) * 1000
        elif code == VECT_8 or code == VECT_12:
            mask = word & (0xFFF if code == VECT_12 else 0xFF)
            count = count_bits(mask)
            if x < 0 or base_y < 0:
                num_before += count
            else:
                kept = clip_mask(mask, base_y, height) if x < width else 0
                if kept:
                    run = runs[num_runs]
                    run.t_ns, run.x, run.y, run.mask = t_ns, x, base_y, kept
                    run.polarity = polarity
                    num_runs += 1
                num_kept = count_bits(kept)
                num_events += num_kept
                num_out += count - num_kept
            base_y += 12 if code == VECT_12 else 8
        elif code == VECT_BASE_Y:
            base_y, polarity = word & 0x7FF, word >> 11 & 1
        else:
            num_unknown += 1
    if words.size:
        tally.first_ns, tally.has_first = time_base, True
        tally.last_ns, tally.has_last = t_ns, True
    tally.num_runs, tally.num_events = num_runs, num_events
    tally.num_out_of_range, tally.num_before_time = num_out, num_before
    tally.num_unknown_words = num_unknown
