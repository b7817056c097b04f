"""The interface of all decoders, and what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TYPE_CHECKING

from epvlm_ros.core.packets.packet import DecodedPacket, DecoderCounters, EventPacket, PacketTimes
from epvlm_ros.core.packets.runs import (
    PixelRuns, records_to_triggers, RUN_DTYPE, runs_to_events, TALLY_DTYPE, TRIGGER_DTYPE)
import numpy as np

if TYPE_CHECKING:
    from epvlm_ros.core.activity import ActivityBins

# A time base beyond this (the year 2116) is garbage; sums of times below it stay within int64.
_MAX_TIME_BASE_NS = 1 << 62


class PacketDecoder(ABC):
    """
    Decoder of the packets of one stream: one encoding, one sensor size.

    Stateful: every packet of the stream has to pass through it, in order. Bytes that make no
    sense are counted in ``counters`` and never stop the decoding.

    Parameters
    ----------
    width, height : int
        Size of the sensor, in pixels; events outside are counted and dropped. May be 0.

    Raises
    ------
    ValueError
        If the size is negative.

    """

    encoding: ClassVar[str]
    _word_dtype: ClassVar[str]  # of the unit whose bytes a big-endian payload has reversed
    _is_vertical: ClassVar[bool] = False
    _uses_time_base: ClassVar[bool] = True

    def __init__(self, width: int, height: int) -> None:
        if width < 0 or height < 0:
            raise ValueError(
                f'sensor size is {width} x {height}: give width and height in pixels, 0 or more')
        self.width = width
        self.height = height
        self.counters = DecoderCounters()
        self.first_time_ns: int | None = None
        self.last_time_ns: int | None = None
        self._runs = np.empty(0, RUN_DTYPE)
        self._triggers = np.empty(0, TRIGGER_DTYPE)
        self._tally = np.zeros(1, TALLY_DTYPE)

    def matches(self, packet: EventPacket) -> bool:
        """Return whether ``packet`` has the encoding and the sensor size of this decoder."""
        return (packet.encoding, packet.width, packet.height) == (
            self.encoding, self.width, self.height)

    def decode(self, packet: EventPacket) -> DecodedPacket:
        """
        Decode all events and triggers of the next packet of the stream.

        Returns
        -------
        DecodedPacket
            Events inside the sensor's geometry, and triggers; arrays of size 0 if there are none.

        Raises
        ------
        ValueError
            If the packet is of another encoding or sensor size: make a decoder for it.

        """
        runs = self._next_runs(packet)
        triggers = self._triggers[:self._tally[0]['num_triggers']]
        return DecodedPacket(runs_to_events(runs), records_to_triggers(triggers))

    def accumulate(self, packet: EventPacket, bins: ActivityBins) -> PacketTimes:
        """
        Count the events of the next packet of the stream, without making arrays of them.

        Parameters
        ----------
        packet : EventPacket
            The next packet of the stream.
        bins : ActivityBins
            Takes the counts, and is advanced to the sensor time at the end of the packet.

        Returns
        -------
        PacketTimes
            Sensor times in the packet and the number of its events.

        Raises
        ------
        ValueError
            If the packet is of another encoding or sensor size, or ``bins`` of another sensor.

        """
        bins.check_sensor_size(self.height, self.width)
        runs = self._next_runs(packet)
        tally = self._tally[0]
        first_ns = int(tally['first_ns']) if tally['has_first'] else None
        last_ns = int(tally['last_ns']) if tally['has_last'] else None
        if first_ns is not None:
            # The silence before the first event of a packet was seen as well.
            bins.advance(first_ns)
        bins.add_runs(runs)
        if last_ns is not None:
            bins.advance(last_ns)
        return PacketTimes(first_ns, last_ns, int(tally['num_events']))

    def reset(self) -> None:
        """Forget the state of the stream, as after a jump in time; the counters go on."""
        self.first_time_ns = None
        self.last_time_ns = None

    @abstractmethod
    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        """Parse ``words`` into ``runs`` and ``triggers``, both with one record for each word."""

    def _next_runs(self, packet: EventPacket) -> PixelRuns:
        if not self.matches(packet):
            raise ValueError(
                f'packet is {packet.encoding} of {packet.width} x {packet.height}, this decoder '
                f'is for {self.encoding} of {self.width} x {self.height}: make one for it with '
                'make_decoder')
        words = self._words(packet)
        if self._runs.size < words.size:
            self._runs = np.empty(words.size, RUN_DTYPE)
            self._triggers = np.empty(words.size, TRIGGER_DTYPE)
        self._tally.fill(0)
        time_base = packet.time_base if self._uses_time_base else 0
        if not 0 <= time_base <= _MAX_TIME_BASE_NS:
            self.counters.num_invalid += words.size
            words, time_base = words[:0], 0
        self._parse(words, time_base, self._runs, self._triggers, self._tally)
        self._count(packet, words.dtype.itemsize)
        tally = self._tally[0]
        return PixelRuns(
            self._runs[:tally['num_runs']], int(tally['num_events']), self._is_vertical)

    def _words(self, packet: EventPacket) -> np.ndarray:
        """Copy the payload into aligned words in the byte order of this machine."""
        dtype = np.dtype(self._word_dtype)
        num_words = packet.events.size // dtype.itemsize
        words = np.empty(num_words, dtype)
        words.view(np.uint8)[:] = packet.events[:num_words * dtype.itemsize]
        words = words.view(dtype.newbyteorder('>' if packet.is_bigendian else '<'))
        return words.astype(dtype.newbyteorder('='), copy=False)

    def _count(self, packet: EventPacket, word_size: int) -> None:
        tally, counters = self._tally[0], self.counters
        counters.num_packets += 1
        counters.num_truncated_bytes += packet.events.size % word_size
        for name in ('num_events', 'num_triggers', 'num_unknown_words', 'num_out_of_range',
                     'num_invalid', 'num_before_time'):
            setattr(counters, name, getattr(counters, name) + int(tally[name]))
        if tally['has_first'] and self.first_time_ns is None:
            self.first_time_ns = int(tally['first_ns'])
        if tally['has_last']:
            self.last_time_ns = int(tally['last_ns'])
