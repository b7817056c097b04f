"""The change score as whole arrays of NumPy: what the compiled loops must equal."""

import numpy as np

BLOCK = 4
SIGNIFICANCE = 5.5
TAIL = (SIGNIFICANCE ** 2 - 1) / 6
LONGER = (25, 200, 800)  # intervals of 20 ms
FLOOR_INTERVALS = 1500
LARGEST_FLOOR_HZ = 20.0
INTERVAL_S = 0.02


class ChangeReference:
    """Scores of change on a grid of cells, interval by interval, not modulo anything."""

    def __init__(self, shape, pixels_per_cell):
        self.totals = np.zeros(shape)
        self.largest_floor = LARGEST_FLOOR_HZ * pixels_per_cell * BLOCK ** 2 * INTERVAL_S
        self.floor = None
        self.history = []  # counts of the intervals of the last long one
        self.credited = []  # what blocks were credited for each of them
        self.floors_at_start = {}

    def add_interval(self, counts):
        in_blocks = sum_blocks(counts)
        if self.floor is None:
            first = min(np.quantile(in_blocks, 0.25), self.largest_floor)
            self.floor = np.full(in_blocks.shape, first)
            self.floors_at_start = {length: self.floor.copy() for length in LONGER}
            self.number = 0
        self.number += 1
        excess = find_excess(
            in_blocks, self.floor, 1, min(self.number, 2 * FLOOR_INTERVALS))
        self.credit(counts, in_blocks, excess)
        quiet = np.where(excess > 0, self.floor, in_blocks)
        self.floor = np.minimum(
            self.floor + (quiet - self.floor) / min(self.number, FLOOR_INTERVALS),
            self.largest_floor)
        self.history.append(counts.astype(float))
        self.credited.append(excess)
        for length in LONGER:
            if self.number % length == 0:
                self.credited[-1] = self.credited[-1] + self.score_longer(length)
        self.history, self.credited = self.history[-LONGER[-1]:], self.credited[-LONGER[-1]:]

    def score_longer(self, length):
        more = np.zeros(self.floor.shape)
        if self.number > length:
            counts = sum(self.history[-length:])
            in_blocks, before = sum_blocks(counts), self.floors_at_start[length]
            excess = find_excess(
                in_blocks, before, length, min(self.number - length, 2 * FLOOR_INTERVALS))
            more = np.maximum(excess - sum(self.credited[-length:]), 0)
            self.credit(counts, in_blocks, more)
            lasting = np.minimum(before + 0.1 * (in_blocks / length - before), self.largest_floor)
            self.floor = np.where(excess > 0, lasting, self.floor)
        self.floors_at_start[length] = self.floor.copy()
        return more

    def credit(self, counts, in_blocks, excess):
        share = excess / np.maximum(in_blocks, 1e-6)
        rows, cols = counts.shape
        self.totals += counts * np.kron(share, np.ones((BLOCK, BLOCK)))[:rows, :cols]


def find_excess(in_blocks, floor, length, num_learned):
    expected, uncertain = floor * length, length / num_learned
    bound = SIGNIFICANCE * np.sqrt((expected + uncertain) * (1 + uncertain)) + TAIL
    return np.where(in_blocks - expected > bound, in_blocks - expected, 0.0)


def sum_blocks(counts):
    rows, cols = counts.shape
    padded = np.pad(counts.astype(float), ((0, -rows % BLOCK), (0, -cols % BLOCK)))
    return padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).sum(axis=(1, 3))
