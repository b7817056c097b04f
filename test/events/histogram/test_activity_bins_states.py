"""Any sequence of runs and times: the ring of bins against a list of events."""

from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.packet.pixel_runs import PixelRuns, RUN_DTYPE
from hypothesis import settings, strategies
from hypothesis.stateful import initialize, precondition, rule, RuleBasedStateMachine
import numpy as np

BIN_NS, NUM_BINS = 4, 6  # fractions of a bin are exact
WIDTH, HEIGHT, COLS = 20, 3, 4
CELL_PX = 5
SHIFT = strategies.integers(-30, 12)  # in ns from the latest time, 24 of which are remembered
RUNS = strategies.lists(
    strategies.tuples(SHIFT, strategies.integers(0, WIDTH - 1), strategies.integers(0, HEIGHT - 1),
                      strategies.integers(1, 0xFFFF)), min_size=1, max_size=4)


class BinStates(RuleBasedStateMachine):
    """Keeps the time and the cell of every event whose bin is remembered."""

    @initialize(is_turned=strategies.booleans())
    def begin(self, is_turned):
        x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        # An image that misses the first two columns of the sensor, as it is and upside down.
        x = WIDTH - 1 - x if is_turned else x
        self.lookup = np.where(x < 2, -1, y * COLS + x // CELL_PX).astype(np.int32)
        self.bins = ActivityBins(
            HEIGHT * CELL_PX, WIDTH, CELL_PX, BIN_NS, (NUM_BINS - 1) * BIN_NS, self.lookup)
        self.num_too_old = self.num_out_of_image = 0
        self.base = 100
        self.forget()

    def forget(self):
        self.events, self.seen, self.latest = [], [], None

    def first_bin(self):
        return self.latest // BIN_NS - NUM_BINS + 1

    def pass_time(self, time):
        self.latest = max(time, time if self.latest is None else self.latest)
        self.base = self.latest
        self.events = [event for event in self.events if event[0] // BIN_NS >= self.first_bin()]

    @rule(runs=RUNS)
    def add(self, runs):
        records = np.zeros(len(runs), RUN_DTYPE)
        base = self.base
        for record, (shift, x, y, mask) in zip(records, runs):
            mask &= (1 << WIDTH - x) - 1  # as parsers clip it
            record['t_ns'], record['x'], record['y'], record['mask'] = base + shift, x, y, mask
            pixels = [x + bit for bit in range(16) if mask >> bit & 1]
            time = base + shift
            self.pass_time(time)
            if time // BIN_NS < self.first_bin():
                self.num_too_old += len(pixels)
                continue
            self.seen.append(time)
            cells = [self.lookup[y, pixel] for pixel in pixels]
            self.num_out_of_image += cells.count(-1)
            self.events += [(time, cell) for cell in cells if cell >= 0]
        self.bins.add_runs(PixelRuns(records, 0, False))

    @rule(shift=SHIFT)
    def advance(self, shift):
        time = self.base + shift
        self.bins.advance(time)
        if self.latest is None or time > self.latest:
            self.pass_time(time)
            self.seen.append(time)

    @precondition(lambda self: self.latest is not None)
    @rule()
    def reset(self):
        self.bins.reset()
        self.forget()

    def count(self, start, end):
        counts = np.zeros(HEIGHT * COLS)
        for time, cell in self.events:
            begin = time // BIN_NS * BIN_NS
            counts[cell] += max(min(end, begin + BIN_NS) - max(start, begin), 0) / BIN_NS
        return counts

    @rule(shift=SHIFT, length=strategies.integers(0, 40))
    def window(self, shift, length):
        start, end = self.base + shift, self.base + shift + length
        found = self.bins.window(start, end).counts
        np.testing.assert_array_equal(found.ravel(), self.count(start, end))

    @rule(shift=SHIFT, length=strategies.integers(0, 40), num_events=strategies.integers(0, 30),
          num_cells=strategies.integers(1, 6))
    def count_back(self, shift, length, num_events, num_cells):
        start, end = self.base + shift, self.base + shift + length
        expected = start
        for begin in range(start, end):
            counts = self.count(begin, end)
            if begin % BIN_NS == 0 and counts.sum() >= num_events and \
                    np.count_nonzero(counts) >= num_cells:
                expected = begin
        assert self.bins.count_back(
            end, start, num_events=num_events or None, num_active_cells=num_cells) == expected

    @rule()
    def numbers(self):
        assert self.bins.latest_ns == self.latest
        if self.latest is not None:
            remembered = self.first_bin() * BIN_NS
            assert self.bins.oldest_ns == max(min(self.seen), remembered)
        assert self.bins.num_too_old == self.num_too_old
        assert self.bins.num_out_of_image == self.num_out_of_image


TestBinStates = BinStates.TestCase
TestBinStates.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
