"""
trigger (legacy): 64-bit words of external trigger edges, without events.

Bits 0 to 31 are the time after ``time_base`` in ns, 48 to 62 the input, 63 the edge.
"""

from __future__ import annotations

from epvlm_ros.compiled import compiled
from epvlm_ros.events.packet_codecs.decoder import PacketDecoder
import numpy as np


class TriggerDecoder(PacketDecoder):
    """Decoder of ``trigger``; nothing is carried from packet to packet."""

    encoding = 'trigger'
    _word_dtype = 'u8'

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(words, time_base, triggers, tally)


@compiled
def _parse_words(words, time_base, triggers, tallies):  # type: ignore[no-untyped-def]
    tally = tallies[0]
    for i in range(words.size):
        t_ns = time_base + np.int64(words[i] & np.uint64(0xFFFFFFFF))
        if not tally.has_first:
            tally.first_ns, tally.has_first = t_ns, True
        tally.last_ns, tally.has_last = t_ns, True
        upper = np.int64(words[i] >> np.uint64(32))
        trigger = triggers[i]
        trigger.t_ns, trigger.edge, trigger.index = t_ns, upper >> 31 & 1, upper >> 16 & 0xFF
    tally.num_triggers = words.size
