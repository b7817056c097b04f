"""
Frames meet the events of their windows.

Event packets go into time bins on the sensor's clock as they arrive; a frame waits until events
were seen up to the end of its window, or for ``max_wait``, and leaves with the activity of the
window. Times are integers in ns; the caller says what time it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median_low

from epvlm_ros.activity_grid import ActivityGrid, grid_shape
from epvlm_ros.events.config import EventSyncConfig, FilterConfig
from epvlm_ros.events.filters import EventFilter
from epvlm_ros.events.histogram.change_accumulator import ChangeAccumulator
from epvlm_ros.events.histogram.ego_motion import remove_ego_motion
from epvlm_ros.events.histogram.grid_size import find_cell_size
from epvlm_ros.events.packet import DecoderCounters, EventPacket
from epvlm_ros.events.packet_codecs import ENCODINGS, PacketDecoder
from epvlm_ros.events.registration import IDENTITY, make_registration, Registration
from epvlm_ros.events.sync.clock import SensorClock
from epvlm_ros.events.sync.completeness import describe_missing, Missing
from epvlm_ros.events.sync.event_stream import EventStream
from epvlm_ros.events.sync.guided_frame import Frame, GuidedFrame
from epvlm_ros.events.sync.image_size import ImageSize
from epvlm_ros.events.sync.packet_order import StreamCounters
from epvlm_ros.events.sync.window import exposure_begin, FrameTime, window_bounds
from epvlm_ros.time_units import is_set_back, SECOND
import numpy as np

_TURNED = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, 1.0)  # a homography that turns

_NUM_SYNC_ERRORS = 31  # latest frames


@dataclass
class SyncCounters(StreamCounters):
    """What happened to packets and frames since the start."""

    num_frames: int = 0
    num_incomplete_frames: int = 0
    num_late_frames: int = 0  # went before all was there, after max_wait or as one too many
    num_unmatched_frames: int = 0  # without a trigger edge


@dataclass
class _Waiting:
    frame: Frame
    arrival_s: float
    right_size: tuple[int, int] | None = None  # of the others, where it is of another
    time: FrameTime | None = None  # once its trigger edge was found, or found missing


class FrameSynchronizer:
    """
    Accumulates event packets and returns frames with the activity of their windows.

    Call `add_packet` and `add_frame` as messages arrive and `poll` often. Every frame leaves
    exactly once, in the order of arrival. ``registration`` is made from ``config`` if left out;
    where that is possible only later (``camera_info``), frames leave without events until
    `set_registration`.
    """

    def __init__(
        self, config: EventSyncConfig, filters: FilterConfig = FilterConfig(),
        registration: Registration | None = None,
    ) -> None:
        self.config = config
        self.counters = SyncCounters()
        self._filter_config = filters
        if registration is None:
            registration = make_registration(config)
        self._stream = EventStream(config, filters, registration, self.counters)
        self._image_size = ImageSize()
        self._waiting: deque[_Waiting] = deque()
        self._ready: list[GuidedFrame] = []
        self._sync_errors_ns: deque[int] = deque(maxlen=_NUM_SYNC_ERRORS)
        self._last_frame_ns: int | None = None
        self._round_lead = 0  # 1 when frames were set back in time and events not yet, or -1

    @property
    def clock(self) -> SensorClock:
        """Return the clock of the sensor, estimated from the stamps of the packets."""
        return self._stream.clock

    @property
    def decoder(self) -> PacketDecoder | None:
        """Return the decoder, None before the first packet."""
        return self._stream.decoder

    @property
    def decoder_counters(self) -> DecoderCounters:
        """Return what was seen and dropped in the packets, by all decoders so far."""
        return self._stream.decoder_counters

    @property
    def filters(self) -> tuple[EventFilter, ...]:
        """Return the filters that are on, none before the first packet."""
        return self._stream.filters

    @property
    def last_packet_ns(self) -> int | None:
        """Return the stamp of the latest packet in ns, None before the first one."""
        return self._stream.last_packet_ns

    @property
    def sync_error_ns(self) -> int | None:
        """Return the median of the latest frames' `GuidedFrame.sync_error_ns`, None at first."""
        return median_low(self._sync_errors_ns) if self._sync_errors_ns else None

    def add_packet(self, packet: EventPacket, now_s: float, shed: bool = False) -> None:
        """
        Accumulate one event packet, whose stamp is ROS time; ``now_s`` is of a steady clock.

        If ``shed``, only its times are read, to save time; frames whose windows lack its events
        say so. Raises ValueError if its encoding or size is unusable; the packet is counted and
        dropped, and the next good one is taken as usual.
        """
        if self._stream.is_set_back_by(packet):
            self._restart_events(now_s)
        self._stream.add(packet, shed)

    def add_frame(self, frame: Frame, now_s: float) -> None:
        """
        Let a frame wait for the events of its window, from ``now_s`` of a steady clock.

        A few frames of another size than those before leave in their turn without events. Raises
        ValueError if the frame has no pixels, or so many that its grid would take more than
        ``max_grid_memory``; it is not taken.
        """
        if frame.height < 1 or frame.width < 1:
            raise ValueError(
                f'a frame of {frame.width} x {frame.height} pixels: the camera must send images')
        find_cell_size(self.config, frame.height, frame.width)  # refuses what is too large
        size = self._image_size.size
        if not self._image_size.take((frame.height, frame.width)):
            self._waiting.append(_Waiting(frame, now_s, right_size=size))
            return
        if is_set_back(frame.stamp_ns, self._last_frame_ns):
            self._release_all(now_s)
            self._round_lead = min(self._round_lead + 1, 1)
        self._last_frame_ns = frame.stamp_ns
        if (frame.height, frame.width) != size:
            self._release_all(now_s)
            self._stream.set_image_size((frame.height, frame.width))
        self._waiting.append(_Waiting(frame, now_s))

    def poll(self, now_s: float) -> list[GuidedFrame]:
        """Return the frames that are ready, or have waited long enough, first come first."""
        while self._waiting:
            first = self._waiting[0]
            late = now_s - first.arrival_s >= self.config.max_wait
            crowded = len(self._waiting) > self.config.max_pending_frames
            has_seen = first.right_size is not None or self._has_seen(first)
            if not (late or crowded or has_seen):
                break
            self.counters.num_late_frames += not has_seen
            self._ready.append(self._guide(self._waiting.popleft(), now_s))
        ready, self._ready = self._ready, []
        return ready

    def reconfigure(self, config: EventSyncConfig, filters: FilterConfig | None = None) -> None:
        """Take new values for window and wait; the grid and the other filters stay."""
        self.config = config
        self._filter_config = filters or self._filter_config
        self._stream.reconfigure(config)

    def set_registration(self, registration: Registration | None) -> None:
        """Count events where this registration puts them; those counted so far are forgotten."""
        self._stream.set_registration(registration)

    def _find_time(self, waiting: _Waiting, must_be_settled: bool) -> FrameTime | None:
        """Return when a frame was stamped; None if that cannot be known, or only later."""
        stream = self._stream
        if waiting.time is not None or not stream.has_time:
            return waiting.time
        stamp_ns = stream.to_sensor(waiting.frame.stamp_ns)
        if self.config.sync_mode != 'hardware_trigger':
            # Of the clock as it is now: not kept.
            return FrameTime(stamp_ns, waiting.frame.stamp_ns, None)
        if must_be_settled and not (
                stream.latest_ns is not None
                and stream.triggers.is_settled(stamp_ns, stream.latest_ns)):
            return None
        edge_ns = stream.triggers.match(stamp_ns)
        late_ns = stamp_ns - edge_ns if edge_ns is not None else stream.triggers.delay_ns or 0
        waiting.time = FrameTime(
            stamp_ns - late_ns, waiting.frame.stamp_ns - late_ns,
            late_ns if edge_ns is not None else None)
        return waiting.time

    def _has_seen(self, waiting: _Waiting) -> bool:
        """Whether events were seen up to the end of the window and are still remembered."""
        stream = self._stream
        time = self._find_time(waiting, must_be_settled=True)
        if time is None or stream.oldest_ns is None or stream.latest_ns is None:
            return False
        # A window from before what is remembered belongs to a time that was set back: the
        # packets of that time are still on their way.
        end_ns = time.sensor_ns + window_bounds(self.config)[1]
        return stream.oldest_ns < end_ns <= stream.latest_ns

    def _guide(self, waiting: _Waiting, now_s: float) -> GuidedFrame:
        frame, config = waiting.frame, self.config
        if waiting.right_size is not None:
            return self._guide_foreign(waiting, waiting.right_size, now_s)
        time = self._find_time(waiting, must_be_settled=False)
        missing, completeness = Missing.NO_EVENT_STREAM, 0.0
        activity, change = self._make_silence(frame), None
        if time is not None:
            change = self._stream.score_until(time.sensor_ns + exposure_begin(config))
            start_ns, end_ns = (time.sensor_ns + bound for bound in window_bounds(config))
            start_ns = self._stream.find_start(start_ns, end_ns)
            missing, completeness = self._stream.judge(start_ns, end_ns)
            if completeness > 0.0:
                activity = self._stream.window(start_ns, end_ns)
                if self._filter_config.ego_motion_filter:
                    activity = remove_ego_motion(activity)
            to_ros_ns = time.ros_ns - time.sensor_ns
            activity = replace(
                activity, pixel_density=self._stream.pixel_density,
                window_start_ns=start_ns + to_ros_ns, window_end_ns=end_ns + to_ros_ns)
        sync_error_ns = time.sync_error_ns if time is not None else None
        if sync_error_ns is not None:
            self._sync_errors_ns.append(sync_error_ns)
        elif config.sync_mode == 'hardware_trigger':
            missing |= Missing.NOT_TRIGGERED
            self.counters.num_unmatched_frames += 1
        self.counters.num_frames += 1
        self.counters.num_incomplete_frames += missing != Missing.COMPLETE
        return GuidedFrame(
            frame, activity, missing, completeness, now_s - waiting.arrival_s, sync_error_ns,
            self._find_reason(missing), change)

    def _guide_foreign(
        self, waiting: _Waiting, right_size: tuple[int, int], now_s: float,
    ) -> GuidedFrame:
        frame = waiting.frame
        self.counters.num_frames += 1
        self.counters.num_incomplete_frames += 1
        return GuidedFrame(
            frame, self._make_silence(frame), Missing.NO_EVENT_STREAM, 0.0,
            now_s - waiting.arrival_s, reason=(
                f'the frame is {frame.width} x {frame.height} px, those before are '
                f'{right_size[1]} x {right_size[0]} px: let each camera have its own topic'))

    def _find_reason(self, missing: Missing) -> str:
        reason, decoder = describe_missing(missing), self.decoder
        if missing & Missing.EVENTS_DISCARDED and decoder is not None:
            reason += (f' ({decoder.width} x {decoder.height} px): let the driver state the size '
                       'of its sensor')
        return reason

    def _make_silence(self, frame: Frame) -> ActivityGrid:
        """Return the activity of a frame without events."""
        cell_size = find_cell_size(self.config, frame.height, frame.width)
        start_ns, end_ns = window_bounds(self.config)
        return ActivityGrid(
            np.zeros(grid_shape(frame.height, frame.width, cell_size), np.float32), cell_size,
            frame.height, frame.width, frame.stamp_ns + start_ns, frame.stamp_ns + end_ns,
            self._stream.pixel_density)

    def _restart_events(self, now_s: float) -> None:
        """Start the event stream afresh: time was set back, as when a bag loops."""
        # Frames of the time before will see no more events. When the frames were set back first,
        # those that wait are of the new time, and wait on.
        if self._round_lead <= 0:
            self._release_all(now_s)
        self._round_lead = max(self._round_lead - 1, -1)
        self._stream.restart()

    def _release_all(self, now_s: float) -> None:
        """Let all waiting frames leave at the next poll as they are."""
        while self._waiting:
            self._ready.append(self._guide(self._waiting.popleft(), now_s))


def warm_up(
    filters: FilterConfig = FilterConfig(), should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """
    Compile the loops of every decoder, of the bins and of the filters that are on.

    Then no packet waits for it later. Takes seconds on a fresh machine, a fraction of one with a
    cache; ends early once ``should_stop`` says so.
    """
    for encoding in ENCODINGS:
        if should_stop():
            return
        # Both kinds of look-up tables, with and without filters.
        for mode, homography, used in (
                ('count', IDENTITY, filters), ('activity', _TURNED, filters),
                ('count', IDENTITY, FilterConfig()), ('activity', _TURNED, FilterConfig())):
            synchronizer = FrameSynchronizer(EventSyncConfig(
                window_mode=mode, homography=homography, max_wait=0.0), used)
            synchronizer.add_frame(Frame(0, 8, 8), 0.0)
            # A libcaer event; in the other formats at least it passes through the loops.
            payload = np.array([1, 0, 0, 0, 0, 0, 0, 0] * 2, np.uint8)
            if encoding == 'evt3':  # skims only once it knows the time
                payload = np.array([0x8000, 0x6000, 0x0001, 0x2001], '<u2').view(np.uint8)
            for seq in range(4):
                synchronizer.add_packet(
                    EventPacket(0, 8, 8, seq, 0, encoding, payload), 0.0, shed=seq == 3)
            synchronizer.poll(0.0)
            bins = synchronizer._stream._make_bins()
            bins.advance(SECOND)
            bins.window(0, 2 * SECOND)
            bins.count_back(SECOND, 0, num_events=1)
    change = ChangeAccumulator(bins.shape, 1.0)
    for counts in (bins.sum_bins(0, 1), np.zeros(bins.shape, np.float32)):
        for num_events in (0, 1000):
            counts[0, 0] = num_events
            change.add_interval(counts)
    assert change.scores.size == counts.size
