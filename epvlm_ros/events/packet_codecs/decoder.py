"""The interface of all decoders, and what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, Sequence

from epvlm_ros.events.histogram.bin_kernels import PixelCounter
from epvlm_ros.events.packet.event_packet import (
    DecodedPacket, DecoderCounters, EventPacket, NO_TRIGGERS, PacketTimes)
from epvlm_ros.events.packet.pixel_runs import (
    PixelRuns, records_to_triggers, RUN_DTYPE, runs_to_events, TALLY_DTYPE, TRIGGER_DTYPE)
import numpy as np

# A time base beyond this (the year 2116) is garbage; sums of times below it stay within int64.
_MAX_TIME_BASE_NS = 1 << 62
# Tables and filters have an entry for every pixel: a size that makes no sense must not fill the
# memory. Sensors have up to 1632 x 1224 pixels today.
MAX_SENSOR_SIDE = 4096


class RunFilter(Protocol):
    """Drops events of runs, as `epvlm_ros.events.filters` do."""

    def apply(self, runs: PixelRuns) -> int:
        """Clear the bits of dropped events in place and return their number."""


class RunCounter(Protocol):
    """Counts events, as `epvlm_ros.events.histogram.activity_bins.ActivityBins` does."""

    def check_sensor_size(self, height: int, width: int) -> None:
        """Raise ValueError if this counts the events of a sensor of another size."""

    def advance(self, sensor_time_ns: int) -> None:
        """Let time pass without events."""

    def add_runs(self, runs: PixelRuns) -> None:
        """Count the events of runs."""

    def pixel_counter(self) -> PixelCounter:
        """Return what a compiled loop over single events counts with."""


class PacketDecoder(ABC):
    """
    Decoder of the packets of one stream: one encoding, one sensor size.

    Stateful: it needs every packet of the stream, in order. Bytes that make no sense are counted
    in ``counters`` and never stop the decoding; so are events outside of the sensor, whose width
    and height are in pixels and may be 0. Raises ValueError for a size that no sensor has.
    """

    encoding: ClassVar[str]
    _word_dtype: ClassVar[str]
    _number_dtype: ClassVar[str] = ''  # whose bytes big endian reverses, if not a whole word
    _is_vertical: ClassVar[bool] = False
    _counts_pixels: ClassVar[bool] = False  # whether `_count_words` is there
    _uses_time_base: ClassVar[bool] = True
    _runs_per_word: ClassVar[int] = 1  # at most

    def __init__(self, width: int, height: int) -> None:
        if not (0 <= width <= MAX_SENSOR_SIDE and 0 <= height <= MAX_SENSOR_SIDE):
            raise ValueError(
                f'sensor size is {width} x {height}: give width and height in pixels, 0 to '
                f'{MAX_SENSOR_SIDE}')
        self.width = width
        self.height = height
        self.counters = DecoderCounters()
        self.first_time_ns: int | None = None
        self.last_time_ns: int | None = None
        self._runs = np.empty(0, RUN_DTYPE)
        self._triggers = np.empty(0, TRIGGER_DTYPE)
        self._payload = np.empty(0, np.uint8)
        self._tally = np.zeros(1, TALLY_DTYPE)

    def matches(self, packet: EventPacket) -> bool:
        """Return whether ``packet`` has the encoding and the sensor size of this decoder."""
        return (packet.encoding, packet.width, packet.height) == (
            self.encoding, self.width, self.height)

    def decode(self, packet: EventPacket) -> DecodedPacket:
        """
        Decode all events inside the sensor, and all triggers, of the next packet of the stream.

        Raises ValueError if the packet has another encoding or sensor size.
        """
        runs = self._next_runs(packet, *self._next_words(packet))
        triggers = self._triggers[:self._tally[0]['num_triggers']]
        return DecodedPacket(runs_to_events(runs), records_to_triggers(triggers))

    def accumulate(
        self, packet: EventPacket, bins: RunCounter, filters: Sequence[RunFilter] = (),
    ) -> PacketTimes:
        """
        Count the events of the next packet of the stream, without making arrays of them.

        Parameters
        ----------
        packet : EventPacket
            The next packet of the stream.
        bins : RunCounter
            Takes the counts, and is advanced to the sensor time at the end of the packet.
        filters : sequence of RunFilter
            Applied in this order to the events inside the sensor before they are counted.

        Raises
        ------
        ValueError
            If the packet or ``bins`` is for another encoding or sensor size.

        """
        bins.check_sensor_size(self.height, self.width)
        words, time_base = self._next_words(packet)
        if self._counts_pixels and not filters:
            self._count_words(words, time_base, bins.pixel_counter())
            self._count(packet)
            times = self._packet_times(int(self._tally[0]['num_events']))
            if times.last_ns is not None:
                bins.advance(times.last_ns)
            return times
        runs = self._next_runs(packet, words, time_base)
        times = self._packet_times(runs.num_events)
        if times.first_ns is not None:
            # The silence before the first event of a packet was seen as well.
            bins.advance(times.first_ns)
        for event_filter in filters:
            event_filter.apply(runs)
        bins.add_runs(runs)
        if times.last_ns is not None:
            bins.advance(times.last_ns)
        return times

    def skim(self, packet: EventPacket) -> PacketTimes:
        """
        Read times, triggers and state of the next packet of the stream, but not its events.

        For shedding load: much cheaper than `accumulate`, and later packets decode as if this one
        had been decoded. ``num_events`` of the result is 0. Raises ValueError as `decode` does.
        """
        words, time_base = self._next_words(packet)
        self._skim(words, time_base, self._triggers, self._tally)
        # What a skim happened to find out about the events means nothing.
        for name in ('num_events', 'num_unknown_words', 'num_out_of_range', 'num_before_time'):
            self._tally[name] = 0
        self._count(packet)
        self.counters.num_skimmed_packets += 1
        return self._packet_times(0)

    def reset(self) -> None:
        """Forget the state of the stream, as after a jump in time; the counters stay."""
        self.first_time_ns = None
        self.last_time_ns = None

    @abstractmethod
    def _parse(
        self, words: np.ndarray, time_base: int, runs: np.ndarray, triggers: np.ndarray,
        tally: np.ndarray,
    ) -> None:
        """Parse ``words`` into ``runs`` and ``triggers``, both with one record for each word."""

    def _count_words(self, words: np.ndarray, time_base: int, counter: PixelCounter) -> None:
        """Count the events of ``words`` without runs, for formats of single events."""
        raise NotImplementedError

    def _skim(
        self, words: np.ndarray, time_base: int, triggers: np.ndarray, tally: np.ndarray,
    ) -> None:
        """Do what `_parse` does but for the runs, and the tallies of events."""
        self._parse(words, time_base, self._runs, triggers, tally)

    def _packet_times(self, num_events: int) -> PacketTimes:
        tally = self._take_tally()
        num_triggers = tally['num_triggers']
        return PacketTimes(
            tally['first_ns'] if tally['has_first'] else None,
            tally['last_ns'] if tally['has_last'] else None,
            num_events,
            records_to_triggers(self._triggers[:num_triggers]) if num_triggers else NO_TRIGGERS,
            tally['num_out_of_range'] + tally['num_invalid'])

    def _next_runs(self, packet: EventPacket, words: np.ndarray, time_base: int) -> PixelRuns:
        self._parse(words, time_base, self._runs, self._triggers, self._tally)
        self._count(packet)
        tally = self._tally[0]
        return PixelRuns(
            self._runs[:tally['num_runs']], int(tally['num_events']), self._is_vertical)

    def _next_words(self, packet: EventPacket) -> tuple[np.ndarray, int]:
        """Return the words and the time base of a packet, with room for what they hold."""
        if not self.matches(packet):
            raise ValueError(
                f'packet is {packet.encoding} of {packet.width} x {packet.height}, this decoder '
                f'is for {self.encoding} of {self.width} x {self.height}: make one for it with '
                'make_decoder')
        self._tally.fill(0)
        words = self._words(packet)
        time_base = packet.time_base if self._uses_time_base else 0
        if not 0 <= time_base <= _MAX_TIME_BASE_NS:
            self.counters.num_invalid += words.size
            words, time_base = words[:0], 0
        if self._runs.size < words.size * self._runs_per_word:
            self._runs = np.empty(words.size * self._runs_per_word, RUN_DTYPE)
            self._triggers = np.empty(words.size, TRIGGER_DTYPE)
        return words, time_base

    def _words(self, packet: EventPacket) -> np.ndarray:
        """View the payload as aligned native words, in place where possible."""
        dtype = np.dtype(self._word_dtype)
        num_bytes = packet.events.size // dtype.itemsize * dtype.itemsize
        payload = packet.events[:num_bytes]
        number = np.dtype(self._number_dtype or self._word_dtype)
        wire = number.newbyteorder('>' if packet.is_bigendian else '<')
        is_aligned = payload.ctypes.data % dtype.alignment == 0 and payload.strides == (1,)
        if wire.isnative and is_aligned:
            return payload.view(dtype)
        if self._payload.size < num_bytes:
            self._payload = np.empty(num_bytes, np.uint8)
        copy = self._payload[:num_bytes]
        copy[:] = payload
        if not wire.isnative:
            copy.view(number).byteswap(inplace=True)
        copy.flags.writeable = False  # as a payload is: the loops are compiled for one kind
        return copy.view(dtype)

    def _count(self, packet: EventPacket) -> None:
        tally, counters = self._take_tally(), self.counters
        counters.num_packets += 1
        counters.num_truncated_bytes += packet.events.size % np.dtype(self._word_dtype).itemsize
        for name in ('num_events', 'num_triggers', 'num_unknown_words', 'num_out_of_range',
                     'num_invalid', 'num_before_time'):
            setattr(counters, name, getattr(counters, name) + tally[name])
        if tally['has_first'] and self.first_time_ns is None:
            self.first_time_ns = tally['first_ns']
        if tally['has_last']:
            self.last_time_ns = tally['last_ns']

    def _take_tally(self) -> dict[str, int]:
        """Return the tally of the packet as Python numbers."""
        return dict(zip(TALLY_DTYPE.names or (), self._tally.item()))
