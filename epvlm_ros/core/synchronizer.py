"""
Frames meet the events of their windows.

Event packets go into time bins on the sensor's clock the moment they arrive; a frame waits until
events have been seen up to the end of its window, or until its patience is over, and leaves with
the activity of the window. Nothing here knows ROS: times are integers in ns, and the caller says
what time it is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from epvlm_ros.core.activity import ActivityBins, ActivityGrid, grid_shape
from epvlm_ros.core.clock import SECOND, SensorClock
from epvlm_ros.core.config import EventSyncConfig
from epvlm_ros.core.coverage import Missing, StreamCoverage
from epvlm_ros.core.packets import ENCODINGS, EventPacket, make_decoder, PacketDecoder
from epvlm_ros.core.registration import find_pixel_density, make_cell_lookup
import numpy as np

MAX_EARLY_PACKETS = 256  # about a second, kept until the first frame tells the image's size
# Stamps of one stream come in order but for jitter; further back means that time was set back.
BACKWARD_JUMP_NS = SECOND // 10


@dataclass(frozen=True)
class Frame:
    """A camera frame: its stamp in ns of ROS time, its size in pixels, and what it is."""

    stamp_ns: int
    height: int
    width: int
    payload: Any = None


@dataclass(frozen=True)
class GuidedFrame:
    """
    A frame with the event activity around it.

    Attributes
    ----------
    frame : Frame
        The frame as it was given.
    activity : ActivityGrid
        Counts of the window; the window's bounds are ROS time in ns.
    missing : Missing
        What was missing or late.
    coverage : float
        Share of the window that events were received for, 0 to 1.
    wait_s : float
        Time that the frame waited, in seconds.

    """

    frame: Frame
    activity: ActivityGrid
    missing: Missing
    coverage: float
    wait_s: float


@dataclass
class SyncCounters:
    """What happened since the start."""

    num_packets: int = 0
    num_events: int = 0
    num_bad_packets: int = 0
    num_lost_packets: int = 0
    num_frames: int = 0
    num_incomplete_frames: int = 0
    num_resets: int = 0


@dataclass(frozen=True)
class _Waiting:
    frame: Frame
    arrival_s: float
    window: tuple[int, int]  # ROS time in ns


class FrameSynchronizer:
    """
    Accumulates event packets and hands out frames with the activity of their windows.

    Call `add_packet` and `add_frame` as messages arrive and `poll` often; `poll` returns the
    frames that are ready, in the order of their arrival. Every frame leaves exactly once.

    Parameters
    ----------
    config : EventSyncConfig
        Window, wait, grid and registration.

    """

    def __init__(self, config: EventSyncConfig) -> None:
        self.config = config
        self.counters = SyncCounters()
        self.clock = SensorClock()
        self._decoder: PacketDecoder | None = None
        self._bins: ActivityBins | None = None
        self._image_size: tuple[int, int] | None = None
        self._pixel_density = 1.0
        self._early: deque[EventPacket] = deque(maxlen=MAX_EARLY_PACKETS)
        self._waiting: deque[_Waiting] = deque()
        self._ready: list[GuidedFrame] = []
        self._last_frame_ns: int | None = None
        self._last_packet_ns: int | None = None
        self._last_seq: int | None = None
        self._round_lead = 0  # 1 when frames were set back in time and events not yet, or -1
        self._forget_stream()

    @property
    def decoder(self) -> PacketDecoder | None:
        """Return the decoder with its counters, None before the first packet."""
        return self._decoder

    @property
    def last_packet_ns(self) -> int | None:
        """Return the stamp of the latest packet in ns, None before the first one."""
        return self._last_packet_ns

    def add_packet(self, packet: EventPacket, now_s: float) -> None:
        """
        Accumulate one event packet.

        Parameters
        ----------
        packet : EventPacket
            The packet; its stamp is ROS time.
        now_s : float
            A steady clock's time in seconds.

        Raises
        ------
        ValueError
            If its encoding or size is unusable; the packet is counted and dropped, and the next
            good one is taken as usual.

        """
        self.counters.num_packets += 1
        if self._last_packet_ns is not None and \
                packet.stamp_ns < self._last_packet_ns - BACKWARD_JUMP_NS:
            self._restart_events(now_s)
        self._last_packet_ns = packet.stamp_ns
        try:
            self._prepare_decoder(packet)
        except ValueError:
            self.counters.num_bad_packets += 1
            raise
        if self._image_size is None:
            self._early.append(packet)
        else:
            self._accumulate(packet)

    def add_frame(self, frame: Frame, now_s: float) -> None:
        """
        Let a frame wait for the events of its window.

        Parameters
        ----------
        frame : Frame
            The frame.
        now_s : float
            A steady clock's time in seconds.

        Raises
        ------
        ValueError
            If the frame has no pixels; it is not taken.

        """
        if frame.height < 1 or frame.width < 1:
            raise ValueError(
                f'a frame of {frame.width} x {frame.height} pixels: the camera must send images')
        if self._last_frame_ns is not None and \
                frame.stamp_ns < self._last_frame_ns - BACKWARD_JUMP_NS:
            self._release_all(now_s)
            self._round_lead = min(self._round_lead + 1, 1)
        self._last_frame_ns = frame.stamp_ns
        if (frame.height, frame.width) != self._image_size:
            self._release_all(now_s)
            self._image_size = (frame.height, frame.width)
            self._bins = None
            while self._early:
                self._accumulate(self._early.popleft())
        self._waiting.append(_Waiting(frame, now_s, self._window_of(frame)))

    def poll(self, now_s: float) -> list[GuidedFrame]:
        """
        Return the frames that are ready, or have waited long enough, first come first.

        A frame never overtakes an earlier one, which the bound on the wait makes harmless.
        """
        while self._waiting:
            first = self._waiting[0]
            late = now_s - first.arrival_s >= self.config.max_wait
            crowded = len(self._waiting) > self.config.max_pending_frames
            if not (late or crowded or self._has_seen(first.window)):
                break
            self._ready.append(self._guide(self._waiting.popleft(), now_s))
        ready, self._ready = self._ready, []
        return ready

    def reconfigure(self, config: EventSyncConfig) -> None:
        """Take new values for window and wait; the grid stays as it was made."""
        self.config = config

    def _window_of(self, frame: Frame) -> tuple[int, int]:
        centre = frame.stamp_ns + round(self.config.window_offset * SECOND)
        half = round(self.config.window_length * SECOND / 2)
        return centre - half, centre + half

    def _prepare_decoder(self, packet: EventPacket) -> None:
        decoder = self._decoder
        if decoder is not None and (decoder.encoding, decoder.height, decoder.width) == \
                (packet.encoding, packet.height, packet.width):
            return
        self._decoder = make_decoder(packet.encoding, packet.width, packet.height)
        self._bins = None
        self._early.clear()
        self._forget_stream()
        self._last_packet_ns = packet.stamp_ns

    def _accumulate(self, packet: EventPacket) -> None:
        assert self._decoder is not None
        bins = self._bins if self._bins is not None else self._make_bins()
        if self._last_seq is not None and packet.seq > self._last_seq + 1:
            self.counters.num_lost_packets += packet.seq - self._last_seq - 1
            self._after_loss = True
        self._last_seq = packet.seq
        times = self._decoder.accumulate(packet, bins)
        self.counters.num_events += times.num_events
        if times.first_ns is None or times.last_ns is None:
            return
        if self.clock.observe(times.first_ns, packet.stamp_ns):
            # The sensor started anew. Its new time runs from the end of this packet, whose own
            # events went where the old time was.
            self.counters.num_resets += 1
            bins.reset()
            self._coverage = StreamCoverage()
            self._coverage.extend(times.last_ns, times.last_ns, False)
        else:
            self._coverage.extend(times.first_ns, times.last_ns, self._after_loss)
        self._after_loss = False

    def _make_bins(self) -> ActivityBins:
        assert self._decoder is not None and self._image_size is not None
        height, width = self._image_size
        config = self.config
        sensor_size = (self._decoder.height, self._decoder.width)
        lookup = make_cell_lookup(
            sensor_size, self._image_size, config.cell_size, config.homography,
            config.scale_to_image)
        self._pixel_density = find_pixel_density(
            sensor_size, self._image_size, config.homography, config.scale_to_image)
        self._bins = ActivityBins(
            height, width, config.cell_size, round(config.bin_length * SECOND),
            round(config.history_length * SECOND), lookup)
        self._coverage = StreamCoverage()
        return self._bins

    def _has_seen(self, window: tuple[int, int]) -> bool:
        """Whether events were seen up to the end of the window and are still remembered."""
        oldest_ns = self._bins.oldest_ns if self._bins is not None else None
        if oldest_ns is None or self.clock.offset_ns is None:
            return False
        end_ns = self.clock.to_sensor(window[1])
        # A window from before what is remembered belongs to a time that was set back: the
        # packets of that time are still on their way.
        return self._coverage.reaches(end_ns) and end_ns > oldest_ns

    def _guide(self, waiting: _Waiting, now_s: float) -> GuidedFrame:
        frame, window = waiting.frame, waiting.window
        missing, coverage = Missing.NO_EVENT_STREAM, 0.0
        cell = self.config.cell_size
        counts = np.zeros(grid_shape(frame.height, frame.width, cell), np.float32)
        if self._bins is not None and self._bins.oldest_ns is not None and \
                self.clock.offset_ns is not None:
            start_ns, end_ns = (self.clock.to_sensor(bound) for bound in window)
            missing, coverage = self._coverage.judge(start_ns, end_ns, self._bins.oldest_ns)
            if missing != Missing.NO_EVENT_STREAM:
                counts = self._bins.window(start_ns, end_ns).counts
        self.counters.num_frames += 1
        self.counters.num_incomplete_frames += missing != Missing.COMPLETE
        activity = ActivityGrid(
            counts, cell, frame.height, frame.width, *window, self._pixel_density)
        return GuidedFrame(frame, activity, missing, coverage, now_s - waiting.arrival_s)

    def _restart_events(self, now_s: float) -> None:
        """Start the event stream afresh: time was set back, as when a bag loops."""
        self.counters.num_resets += 1
        # Frames of the time before will see no more events. When the frames were set back first,
        # those that wait are of the new time, and wait on.
        if self._round_lead <= 0:
            self._release_all(now_s)
        self._round_lead = max(self._round_lead - 1, -1)
        if self._decoder is not None:
            self._decoder.reset()
        if self._bins is not None:
            self._bins.reset()
        self._early.clear()
        self._forget_stream()

    def _release_all(self, now_s: float) -> None:
        """Let all waiting frames leave at the next poll as they are."""
        while self._waiting:
            self._ready.append(self._guide(self._waiting.popleft(), now_s))

    def _forget_stream(self) -> None:
        self.clock.reset()
        self._coverage = StreamCoverage()
        self._last_packet_ns = None
        self._last_seq = None
        self._after_loss = False


def warm_up() -> None:
    """
    Compile the loops of every decoder and of the bins, so that no packet waits for it later.

    Takes seconds on a fresh machine and a fraction of one when the compiled code is in the cache.
    """
    for encoding in ENCODINGS:
        synchronizer = FrameSynchronizer(EventSyncConfig())
        synchronizer.add_frame(Frame(0, 8, 8), 0.0)
        for seq in range(2):
            payload = np.zeros(16, np.uint8)
            synchronizer.add_packet(EventPacket(0, 8, 8, seq, 0, encoding, payload), 0.0)
        bins = synchronizer._make_bins()
        bins.advance(SECOND)
        bins.window(0, 2 * SECOND)
