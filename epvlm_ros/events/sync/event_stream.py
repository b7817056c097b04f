"""
One event stream: packets go in, the activity of any recent time window comes out.

Packets are decoded, filtered and counted into time bins as they arrive.
"""

from __future__ import annotations

from collections import deque

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.change_score import ChangeScore
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.filters import EventFilter, make_filters
from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.histogram.grid_size import find_cell_size
from epvlm_ros.events.packet import DecoderCounters, EventPacket, PacketTimes
from epvlm_ros.events.packet_codecs import make_decoder, PacketDecoder
from epvlm_ros.events.registration import find_pixel_density, make_cell_lookup, Registration
from epvlm_ros.events.sync.change_tracker import ChangeTracker
from epvlm_ros.events.sync.clock import SensorClock
from epvlm_ros.events.sync.completeness import Missing, StreamCompleteness
from epvlm_ros.events.sync.packet_order import PacketOrder, StreamCounters
from epvlm_ros.events.sync.triggers import TriggerMatcher
from epvlm_ros.time_units import is_set_back, SECOND

MAX_EARLY_PACKETS = 256  # about a second, kept until the size of the image is known
# So many packets of another encoding or sensor size in a row are another camera's stream; some
# among others are refused, since every change makes all tables anew.
_MAX_FOREIGN_PACKETS = 8


class EventStream:
    """
    Counts the events of one stream on the grid of an image.

    While ``registration`` is None or the image size unknown, packets wait, within bounds.
    ``counters`` is counted up in place.
    """

    def __init__(
        self, config: EventSyncConfig, filters: FilterConfig, registration: Registration | None,
        counters: StreamCounters,
    ) -> None:
        self.counters = counters
        self.decoder_counters = DecoderCounters()
        self.decoder: PacketDecoder | None = None
        self.filters: tuple[EventFilter, ...] = ()
        self.clock = SensorClock()
        self.triggers = TriggerMatcher(config.trigger_input, config.trigger_edge)
        self.last_packet_ns: int | None = None
        self.pixel_density = 1.0
        self._config = config
        self._filter_config = filters
        self._registration = registration
        self._image_size: tuple[int, int] | None = None
        self._bins: ActivityBins | None = None
        self._early: deque[tuple[EventPacket, bool]] = deque(maxlen=MAX_EARLY_PACKETS)
        self._completeness = StreamCompleteness()
        self._change: ChangeTracker | None = None  # of the bins
        self._order = PacketOrder(counters)
        self._last_stamp_ns: int | None = None  # of the packets that were taken
        self._num_foreign = 0  # packets in a row

    @property
    def has_time(self) -> bool:
        """Return whether events were counted, and their time can be told in ROS time."""
        return self._bins is not None and self._bins.oldest_ns is not None and (
            self._is_common_clock or self.clock.offset_ns is not None)

    @property
    def latest_ns(self) -> int | None:
        """Return how far the stream got, in sensor time; None before the first packet."""
        return self._completeness.latest_ns

    @property
    def oldest_ns(self) -> int | None:
        """Return the sensor time from which on events are remembered; None before any."""
        return self._bins.oldest_ns if self._bins is not None else None

    def to_sensor(self, ros_ns: int) -> int:
        """Return the sensor time of a ROS time, both in ns; there must be one: `has_time`."""
        if self._is_common_clock:
            return ros_ns - round(self._config.clock_offset * SECOND)
        return self.clock.to_sensor(ros_ns)

    def to_ros(self, sensor_ns: int) -> int:
        """Return the ROS time of a sensor time, both in ns; there must be one: `has_time`."""
        if self._is_common_clock:
            return sensor_ns + round(self._config.clock_offset * SECOND)
        return self.clock.to_ros(sensor_ns)

    def is_set_back_by(self, packet: EventPacket) -> bool:
        """Return whether ``packet`` is of a time long before that of the last one."""
        is_ours = self.decoder is not None and self.decoder.matches(packet)
        return is_ours and is_set_back(packet.stamp_ns, self._last_stamp_ns)

    def add(self, packet: EventPacket, shed: bool = False) -> None:
        """
        Count the events of the next packet, or if ``shed`` only read its times.

        Raises ValueError if its encoding or size is unusable, by itself or with this registration;
        the packet is counted and dropped, and the next good one is taken as usual.
        """
        self.counters.num_packets += 1
        self.counters.num_bytes += packet.events.size
        self.last_packet_ns = packet.stamp_ns
        try:
            self._prepare_decoder(packet)
            self._last_stamp_ns = packet.stamp_ns
            if self._image_size is None or self._registration is None:
                self._early.append((packet, shed))
            else:
                self._accumulate(packet, shed)
        except ValueError:
            self.counters.num_bad_packets += 1
            raise

    def set_image_size(self, size: tuple[int, int]) -> None:
        """Count on the grid of an image of this height and width from now on."""
        if size != self._image_size:
            self._image_size = size
            self._start_bins()

    def set_registration(self, registration: Registration | None) -> None:
        """Count where this registration puts events; what was counted so far is forgotten."""
        self._registration = registration
        self._start_bins()

    def reconfigure(self, config: EventSyncConfig) -> None:
        """Take new values for what may change in a running node."""
        is_moved = config.clock_offset != self._config.clock_offset
        self._config = config
        if is_moved and self._is_common_clock:
            self._begin_change()

    def restart(self) -> None:
        """Forget everything about time, as when it was set back; counters and grid stay."""
        self._early.clear()
        self._restart()

    def judge(self, start_ns: int, end_ns: int) -> tuple[Missing, float]:
        """Say what a window of sensor time lacks, as `StreamCompleteness.judge` does."""
        oldest_ns = self.oldest_ns
        if oldest_ns is None:
            return Missing.NO_EVENT_STREAM, 0.0
        return self._completeness.judge(start_ns, end_ns, oldest_ns)

    def find_start(self, start_ns: int, end_ns: int) -> int:
        """
        Return where a window of sensor time, given as in mode time, starts by the window mode.

        It is no earlier than ``max_window_length`` before the end.
        """
        config = self._config
        if config.window_mode == 'time' or self._bins is None:
            return start_ns
        earliest_ns = end_ns - round(config.max_window_length * SECOND)
        if config.window_mode == 'count':
            return self._bins.count_back(end_ns, earliest_ns, num_events=config.window_events)
        rows, cols = self._bins.shape
        num_cells = max(1, round(config.window_activity * rows * cols))
        return self._bins.count_back(end_ns, earliest_ns, num_active_cells=num_cells)

    def window(self, start_ns: int, end_ns: int) -> ActivityGrid:
        """Return the activity of a window of sensor time."""
        assert self._bins is not None
        return self._bins.window(start_ns, end_ns)

    def score_until(self, sensor_ns: int) -> ChangeScore | None:
        """Return the change up to a sensor time, as `ChangeTracker.score_until` does."""
        return self._change.score_until(sensor_ns) if self._change is not None else None

    @property
    def _is_common_clock(self) -> bool:
        return self._config.sync_mode == 'common_clock'

    def _prepare_decoder(self, packet: EventPacket) -> None:
        present = self.decoder
        if present is not None and present.matches(packet):
            self._num_foreign = 0
            return
        decoder = make_decoder(packet.encoding, packet.width, packet.height)
        if present is not None and self._num_foreign < _MAX_FOREIGN_PACKETS:
            self._num_foreign += 1
            raise ValueError(
                f'it is {packet.encoding} of {packet.width} x {packet.height} px, those before '
                f'are {present.encoding} of {present.width} x {present.height} px: let each event '
                'camera have its own topic')
        self._num_foreign = 0
        decoder.counters = self.decoder_counters
        self.decoder = decoder
        filters = make_filters(self._filter_config, packet.width, packet.height)
        for old, new in zip(self.filters, filters):
            new.num_removed = old.num_removed
        self.filters = filters
        self._early.clear()
        self._bins = self._change = None
        self._forget_times()

    def _start_bins(self) -> None:
        self._bins = self._change = None
        if self._image_size is not None and self._registration is not None:
            early, self._early = self._early, deque(maxlen=MAX_EARLY_PACKETS)
            try:
                for packet, shed in early:
                    self._accumulate(packet, shed)
            except ValueError:  # the next packet, whose own error it is, will say so
                self.counters.num_bad_packets += len(early)

    def _make_bins(self) -> ActivityBins:
        assert self.decoder is not None and self._image_size is not None
        assert self._registration is not None
        config = self._config
        sensor_size = (self.decoder.height, self.decoder.width)
        cell_size_px = find_cell_size(config, *self._image_size)
        lookup = make_cell_lookup(
            self._registration, sensor_size, self._image_size, cell_size_px)
        if lookup.size and lookup.max() < 0:
            raise ValueError(
                f'no pixel of the event sensor ({sensor_size[1]} x {sensor_size[0]} px) sees the '
                f'image ({self._image_size[1]} x {self._image_size[0]} px): correct the '
                'registration')
        self.pixel_density = find_pixel_density(
            self._registration, sensor_size, self._image_size)
        self._bins = ActivityBins(
            *self._image_size, cell_size_px, round(config.bin_length * SECOND),
            round(config.history_length * SECOND), lookup)
        self._completeness = StreamCompleteness()
        self._begin_change()
        return self._bins

    def _begin_change(self) -> None:
        """Start the next epoch of the change score, if there are bins."""
        self._change = None
        if self._bins is not None:
            self._change = ChangeTracker(
                self._bins, self._completeness, self.pixel_density, self.counters)

    def _accumulate(self, packet: EventPacket, shed: bool) -> None:
        assert self.decoder is not None
        bins = self._bins if self._bins is not None else self._make_bins()
        if self._order.has_restarted(packet.seq):
            self._restart()
        is_late = self._order.take(packet.seq)
        assert self._change is not None
        self._change.before_packet(packet.stamp_ns)
        latest_ns = bins.latest_ns if not is_late else None  # a late one may begin long before it
        if shed:
            self.counters.num_shed_packets += 1
            times = self.decoder.skim(packet)
        else:
            times = self.decoder.accumulate(packet, bins, self.filters)
        self.counters.num_events += times.num_events
        if times.last_ns is not None:
            self._note_times(times, packet.stamp_ns, bins, latest_ns, shed)
        self.triggers.add(times.triggers)

    def _note_times(
        self, times: PacketTimes, stamp_ns: int, bins: ActivityBins, latest_ns: int | None,
        shed: bool,
    ) -> None:
        assert times.last_ns is not None
        # In silence there may be no complete time stamp, and nothing to compare clocks by.
        first_ns = times.first_ns if times.first_ns is not None else times.last_ns
        if times.first_ns is not None and self._has_jumped(first_ns, stamp_ns, latest_ns):
            # The sensor started anew. Its new time runs from the end of this packet, whose own
            # events went where the old time was.
            self.counters.num_resets += 1
            self._forget_sensor_time()
            self._completeness.extend(times.last_ns, times.last_ns, False)
            bins.advance(times.last_ns)
        else:
            uncounted = Missing.EVENTS_SHED if shed else Missing.COMPLETE
            # A few may be noise of the wire; of most of them the scene cannot be told.
            if times.num_discarded > times.num_events:
                uncounted = Missing.EVENTS_DISCARDED
            self._completeness.extend(first_ns, times.last_ns, self._order.after_loss, uncounted)
            if shed:  # time passed there as well
                bins.advance(first_ns)
                bins.advance(times.last_ns)
            assert self._change is not None
            self._change.after_packet(first_ns, stamp_ns)
        self._order.after_loss = False

    def _has_jumped(self, first_ns: int, stamp_ns: int, latest_ns: int | None) -> bool:
        """Return whether time began anew; events were counted up to ``latest_ns`` before."""
        jumped = self.clock.observe(first_ns, stamp_ns)
        if self._is_common_clock:  # then the stamps of packets say nothing
            jumped = is_set_back(first_ns, self._completeness.latest_ns)
        # One event of a corrupt time, anywhere in a packet, takes the bins to that time. All that
        # comes then would be too old for them, until time itself got there.
        return jumped or is_set_back(first_ns, latest_ns)

    def _restart(self) -> None:
        self.counters.num_resets += 1
        if self.decoder is not None:
            self.decoder.reset()
        self._forget_times()

    def _forget_times(self) -> None:
        self.clock.reset()
        self._forget_sensor_time()
        self._order.reset()

    def _forget_sensor_time(self) -> None:
        if self._bins is not None:
            self._bins.reset()
        for event_filter in self.filters:
            event_filter.reset()
        self._completeness = StreamCompleteness()
        self._begin_change()
        self.triggers.reset()
