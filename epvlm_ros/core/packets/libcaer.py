"""
libcaer: the polarity events of libcaer as they lie in memory, 8 bytes each.

A 32-bit word of address and polarity, then a signed 32-bit time stamp in microseconds after
the packet's ``time_base``.
"""

from __future__ import annotations

from epvlm_ros.core.compiled import compiled
from epvlm_ros.core.packets.decoder import PacketDecoder
from epvlm_ros.core.packets.packet import EventPacket
import numpy as np

_WRAP_US = 1 << 31  # the time stamp wraps after this
_HALF_WRAP_US = 1 << 30  # a step back by more than this is a wrap, by less it is disorder


class LibcaerDecoder(PacketDecoder):
    """
    Decoder of ``libcaer``.

    Time stamps that wrap inside a packet are continued; behind the wrap the driver moves
    ``time_base``. Events that the sensor marked as invalid, or with a negative time stamp, are
    dropped and counted.
    """

    encoding = 'libcaer'
    _word_dtype = 'u8'

    def _words(self, packet: EventPacket) -> np.ndarray:
        words = super()._words(packet)
        if packet.is_bigendian:  # two 32-bit numbers: the swap of 64 bits exchanged them
            words = words << np.uint64(32) | words >> np.uint64(32)
        return words

    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        _parse_words(words, self.width, self.height, time_base, runs, tally)


@compiled
def _parse_words(words, width, height, time_base, runs, tallies):  # type: ignore[no-untyped-def]
    tally = tallies[0]
    num_runs, num_out, num_invalid = 0, 0, 0
    wrapped_us, last_us = 0, 0
    for i in range(words.size):
        data = np.int64(words[i] & np.uint64(0xFFFFFFFF))
        stamp_us = np.int64(words[i] >> np.uint64(32))
        if not data & 1 or stamp_us >= _WRAP_US:
            num_invalid += 1
            continue
        if last_us - stamp_us > _HALF_WRAP_US:
            wrapped_us += _WRAP_US
        elif wrapped_us and stamp_us - last_us > _HALF_WRAP_US:
            wrapped_us -= _WRAP_US  # disorder at the moment of the wrap
        last_us = stamp_us
        t_ns = time_base + (wrapped_us + stamp_us) * 1000
        if not tally.has_first:
            tally.first_ns, tally.has_first = t_ns, True
        tally.last_ns, tally.has_last = t_ns, True
        x, y = data >> 17 & 0x7FFF, data >> 2 & 0x7FFF
        if x < width and y < height:
            run = runs[num_runs]
            run.t_ns, run.x, run.y, run.mask = t_ns, x, y, 1
            run.polarity = data >> 1 & 1
            num_runs += 1
        else:
            num_out += 1
    tally.num_runs, tally.num_events = num_runs, num_runs
    tally.num_out_of_range, tally.num_invalid = num_out, num_invalid
