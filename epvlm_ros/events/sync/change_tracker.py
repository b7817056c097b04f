"""Running change of the cells of an image, kept up with the time bins that it is taken from."""

from __future__ import annotations

import secrets

from epvlm_ros.change_score import ChangeScore
from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.histogram.bin_kernels import NO_TIME_NS
from epvlm_ros.events.histogram.change_accumulator import ChangeAccumulator, INTERVAL_NS
from epvlm_ros.events.sync.completeness import Missing, StreamCompleteness
from epvlm_ros.events.sync.packet_order import StreamCounters

_KEPT_SHARE = 0.75  # of the history: bins that wait for a frame; the rest is for the next packet
_MAX_SILENCE = 400  # intervals that are scored of a long silence; more of it teaches nothing


class ChangeTracker:
    """
    Scores time bins, interval by interval, as late as frames and the history allow.

    All times are sensor time in ns. Call `before_packet` and `after_packet` around the counting of
    each packet, so that no bin is forgotten before it was scored. A tracker is one epoch: make a
    new one where bins or time begin anew.

    Parameters
    ----------
    bins : ActivityBins
        Read only.
    completeness : StreamCompleteness
        Of the packets that are counted in the bins; read only.
    pixel_density : float
        Sensor pixels that see one pixel of the image.
    counters : StreamCounters
        Epochs and doubts are counted up in place.

    """

    def __init__(
        self, bins: ActivityBins, completeness: StreamCompleteness, pixel_density: float,
        counters: StreamCounters,
    ) -> None:
        self._epoch = secrets.randbits(64)  # two starts of a node have different ones as well
        self._num_doubts = 0  # intervals of which events were lost, frames that came too late
        counters.num_change_epochs += 1
        self._counters = counters
        self._bins, self._completeness = bins, completeness
        self._bins_per_interval = max(1, round(INTERVAL_NS / bins.bin_length_ns))
        self._interval_ns = self._bins_per_interval * bins.bin_length_ns
        self._kept_ns = round(_KEPT_SHARE * bins.history_length_ns)
        self._accumulator = ChangeAccumulator(
            bins.shape, pixel_density * bins.cell_size_px ** 2, self._interval_ns)
        self._next: int | None = None  # interval, time divided by its length
        self._latest_ns: int | None = None  # how far packets got
        self._stamp_ns: int | None = None  # of the packet that got there
        self._is_silent = False  # all was scored before a long silence
        self._silent_until_ns = self._doubtful_until_ns = NO_TIME_NS
        self._num_saturated, self._num_late = bins.num_saturated, bins.num_late
        bins.close_before(NO_TIME_NS)

    def score_until(self, end_ns: int) -> ChangeScore | None:
        """
        Return the score of whole intervals that ended by ``end_ns``, as far as events came.

        Where a later score was returned before, or the epoch began later, it is the present one,
        and what comes after ``end_ns`` is doubtful for the next. None before any event.
        """
        latest_ns = self._completeness.latest_ns
        if latest_ns is None:
            return None
        self._score_up_to(min(end_ns, latest_ns) // self._interval_ns)
        if self._next is None:
            return None
        bins = self._bins
        score = ChangeScore(
            self._accumulator.scores, bins.cell_size_px, bins.image_height, bins.image_width,
            self._epoch, self._num_doubts)
        self._doubt(end_ns // self._interval_ns < self._next)
        return score

    def before_packet(self, stamp_ns: int) -> None:
        """Score what would be forgotten when time goes on as far as the stamps of packets do."""
        latest_ns = self._completeness.latest_ns
        pause_ns = stamp_ns - self._stamp_ns if self._stamp_ns is not None else 0
        if latest_ns is None or pause_ns <= 0:
            return
        keep_ns = latest_ns + pause_ns - self._kept_ns
        if keep_ns <= latest_ns:
            self._score_up_to(keep_ns // self._interval_ns)
        else:  # all of it, and an interval that silence ends
            self._score_up_to(latest_ns // self._interval_ns + 1)
            self._is_silent = self._next is not None

    def after_packet(self, first_ns: int, stamp_ns: int) -> None:
        """Take the first time and the stamp of what was counted; score what is about to go."""
        self._notice_losses()
        latest_ns = self._completeness.latest_ns
        if latest_ns is None or latest_ns == self._latest_ns:  # a late packet: time went not on
            return
        self._latest_ns, self._stamp_ns = latest_ns, stamp_ns
        if self._is_silent:
            self._silent_until_ns, self._is_silent = first_ns, False
        self._score_up_to((latest_ns - self._kept_ns) // self._interval_ns)

    def _score_up_to(self, end: int) -> None:
        """Score all intervals before one, a time divided by their length."""
        if self._next is None:
            begin_ns, oldest_ns = self._completeness.begin_ns, self._bins.oldest_ns
            if begin_ns is None or oldest_ns is None:
                return
            self._next = -(-max(begin_ns, oldest_ns) // self._interval_ns)
            self._bins.close_before(self._next * self._bins_per_interval)
        if end <= self._next:
            return
        longest = max(_MAX_SILENCE, self._bins.history_length_ns // self._interval_ns + 1)
        if end - self._next > longest:
            self._doubt(self._is_doubtful(self._next, end - longest))
            self._next = end - longest
        has_doubts = self._is_doubtful(self._next, end)
        for interval in range(self._next, end):
            self._doubt(has_doubts and self._is_doubtful(interval, interval + 1))
            first_bin = interval * self._bins_per_interval
            self._accumulator.add_interval(
                self._bins.sum_bins(first_bin, first_bin + self._bins_per_interval))
        self._next = end
        self._bins.close_before(end * self._bins_per_interval)

    def _notice_losses(self) -> None:
        """Look for events that were not counted, or were counted where it is too late."""
        bins = self._bins
        if bins.num_saturated != self._num_saturated:  # somewhere up to now
            self._num_saturated = bins.num_saturated
            assert bins.latest_ns is not None
            self._doubtful_until_ns = bins.latest_ns + 1
        if bins.num_late != self._num_late:
            self._num_late = bins.num_late
            self._doubt(True)

    def _doubt(self, is_doubtful: bool) -> None:
        if is_doubtful:
            self._num_doubts += 1
            self._counters.num_change_doubts += 1

    def _is_doubtful(self, first: int, end: int) -> bool:
        """Return whether events of the intervals [first, end) were lost."""
        start_ns, end_ns = first * self._interval_ns, end * self._interval_ns
        oldest_ns = self._bins.oldest_ns
        if start_ns < self._doubtful_until_ns or oldest_ns is None:
            return True
        if start_ns < oldest_ns and end_ns > self._silent_until_ns:
            return True
        missing, _ = self._completeness.judge(start_ns, end_ns, start_ns)
        return bool(missing & ~Missing.WINDOW_END_MISSING)
