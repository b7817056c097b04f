"""Pixel runs for tests of filters, by hand and random, and what is left of them."""

from __future__ import annotations

from epvlm_ros.events.packet.pixel_runs import PixelRuns, RUN_DTYPE
import numpy as np


def make_runs(rows, is_vertical: bool = False) -> PixelRuns:
    """Make runs of tuples (t_us, x, y, mask, polarity); the polarity is 1 if left out."""
    records = np.zeros(len(rows), RUN_DTYPE)
    for record, (t_us, x, y, mask, *polarity) in zip(records, rows):
        record['t_ns'], record['x'], record['y'], record['mask'] = t_us * 1000, x, y, mask
        record['polarity'] = polarity[0] if polarity else 1
    return pixel_runs(records, is_vertical)


def pixel_runs(records: np.ndarray, is_vertical: bool = False) -> PixelRuns:
    """Wrap records."""
    num_events = sum(int(mask).bit_count() for mask in records['mask'])
    return PixelRuns(records, num_events, is_vertical)


def random_runs(
    seed: int, num_runs: int, width: int, height: int, max_step_us: int = 30,
) -> PixelRuns:
    """Make horizontal runs inside the sensor, in order of time, a third of them single events."""
    random = np.random.default_rng(seed)
    records = np.zeros(num_runs, RUN_DTYPE)
    records['t_ns'] = np.cumsum(random.integers(0, max_step_us, num_runs)) * 1000
    records['x'] = random.integers(0, width, num_runs)
    records['y'] = random.integers(0, height, num_runs)
    masks = random.integers(0, 1 << 16, num_runs) & random.integers(0, 1 << 16, num_runs)
    masks[random.random(num_runs) < 0.33] = 1
    room = np.minimum(width - records['x'].astype(int), 16)
    records['mask'] = masks & ((1 << room) - 1)
    records['polarity'] = random.integers(0, 2, num_runs)
    return pixel_runs(records)


def transposed(runs: PixelRuns) -> PixelRuns:
    """Return the same events on the transposed sensor, in vertical runs."""
    records = runs.records.copy()
    records['x'], records['y'] = runs.records['y'], runs.records['x']
    return PixelRuns(records, runs.num_events, True)


def split(runs: PixelRuns, num_packets: int) -> list[PixelRuns]:
    """Cut runs into packets; these are copies."""
    return [pixel_runs(part.copy(), runs.is_vertical)
            for part in np.array_split(runs.records, num_packets)]


def single_events(runs: PixelRuns) -> list[tuple[int, int, int, int]]:
    """List t_ns, x, y, polarity of every event in the order of the stream."""
    events = []
    for t_ns, x, y, mask, polarity, _ in runs.records.tolist():
        for offset in range(16):
            if mask >> offset & 1:
                place = (x, y + offset) if runs.is_vertical else (x + offset, y)
                events.append((t_ns, *place, polarity))
    return events


def apply_in_packets(event_filter, runs: PixelRuns, num_packets: int = 7) -> np.ndarray:
    """Return the masks that a filter leaves of ``runs``, which do not change."""
    masks = []
    for packet in split(runs, num_packets):
        before = packet.num_events
        dropped = event_filter.apply(packet)
        assert before - dropped == pixel_runs(packet.records).num_events
        masks.append(packet.records['mask'])
    return np.concatenate(masks)


def masks_of_kept(runs: PixelRuns, kept: list[bool]) -> np.ndarray:
    """Return the masks of which only the events remain that ``kept`` says, event by event."""
    decisions = iter(kept)
    masks = []
    for mask in runs.records['mask'].tolist():
        bits = [offset for offset in range(16) if mask >> offset & 1 and next(decisions)]
        masks.append(sum(1 << bit for bit in bits))
    return np.array(masks, np.uint16)
