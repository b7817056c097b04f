"""The tables behind the counting of runs give the cells of the look-up table, pixel by pixel."""

from epvlm_ros.events.histogram.activity_bins import ActivityBins
from epvlm_ros.events.histogram.run_tables import (
    make_separable_table, make_stretch_table, SeparableTable, StretchTable)
from epvlm_ros.events.packet.pixel_runs import PixelRuns, RUN_DTYPE
from epvlm_ros.events.registration import HomographyRegistration, make_cell_lookup
import numpy as np
import pytest

pytestmark = pytest.mark.long

SENSOR = (35, 107)  # several blocks of 32 pixels and a part of one
REGISTRATIONS = {  # homography, image size, whether it keeps rows rows and columns columns
    'identity': ([1, 0, 0, 0, 1, 0, 0, 0, 1], SENSOR, True),
    'doubled': ([2, 0, 0.5, 0, 2, 0.5, 0, 0, 1], (70, 214), True),
    'third': ([1 / 3, 0, 0, 0, 1 / 3, 0, 0, 0, 1], (12, 36), True),
    'shifted': ([1, 0, -21, 0, 1, 13, 0, 0, 1], SENSOR, True),
    'narrow': ([1, 0, -50, 0, 1, 0, 0, 0, 1], (35, 9), True),
    'turned': ([-1, 0, 106, 0, -1, 34, 0, 0, 1], SENSOR, False),
    'transposed': ([0, 1, 0, 1, 0, 0, 0, 0, 1], (107, 35), False),
    'homography': ([0.9, 0.2, -5, -0.1, 1.1, 3, 1e-3, 2e-3, 1], (30, 90), False)}


def lookup_of(name, cell_size):
    homography, image_size, is_separable = REGISTRATIONS[name]
    registration = HomographyRegistration(homography, scale_to_image=False)
    return make_cell_lookup(registration, SENSOR, image_size, cell_size), image_size, is_separable


@pytest.mark.parametrize('name', REGISTRATIONS)
def test_random_runs_count_as_their_pixels_do(name):
    random = np.random.default_rng(3)
    for cell_size in range(1, 33):
        lookup, image_size, _ = lookup_of(name, cell_size)
        for is_vertical in (False, True):
            records = np.zeros(300, RUN_DTYPE)
            records['x'] = random.integers(0, SENSOR[1], records.size)
            records['y'] = random.integers(0, SENSOR[0], records.size)
            position = records['y' if is_vertical else 'x'].astype(int)
            room = SENSOR[0 if is_vertical else 1] - position
            mask = random.integers(0, 1 << 16, records.size)
            mask[:40] = 0xFFFF
            records['mask'] = mask & (1 << np.minimum(room, 16)) - 1
            cells = [
                lookup[run['y'] + bit * is_vertical, run['x'] + bit * (not is_vertical)]
                for run in records for bit in range(16) if run['mask'] >> bit & 1]
            bins = ActivityBins(*image_size, cell_size, 1000, 1000, lookup)
            bins.add_runs(PixelRuns(records, len(cells), is_vertical))
            num_cells = bins.shape[0] * bins.shape[1]
            expected = np.bincount(np.array(cells) + 1, minlength=num_cells + 1)
            counts = bins.window(0, 1000).counts
            np.testing.assert_array_equal(counts.reshape(-1), expected[1:])
            assert bins.num_out_of_image == expected[0]
            assert bins.count_back(1000, -1, num_events=max(int(expected[1:].sum()), 1)) == (
                0 if expected[1:].any() else -1)


@pytest.mark.parametrize('name', REGISTRATIONS)
def test_small_tables_are_used_where_they_can_be(name):
    lookup, _, is_separable = lookup_of(name, 4)
    num_cols = -(-REGISTRATIONS[name][1][1] // 4)
    assert (make_separable_table(lookup, 1) is not None) == is_separable
    assert (make_separable_table(lookup.T, num_cols) is not None) == is_separable


def test_a_separable_table_by_hand():
    lookup = np.array([[-1, 0, 0, 1, -1], [-1, -1, -1, -1, -1], [-1, 2, 2, 3, -1]], np.int32)
    table = make_separable_table(lookup, 1)
    assert isinstance(table, SeparableTable)
    assert table.line_cells.tolist() == [0, -1, 2]
    assert table.positions['cell'][1:4].tolist() == [0, 0, 1]
    assert (table.start, table.stop, table.step, table.cells_per_run) == (1, 4, 1, 2)
    assert [bin(ends & 0b11111) for ends in table.positions['ends'].tolist()[1:4]] == [
        '0b11110', '0b11111', '0b11111']


@pytest.mark.parametrize('cells', [
    [[0, 1], [2, 4]],  # not a sum
    [[1, 0], [3, 2]],  # backwards
    [[0, 2], [4, 6]],  # a cell passed over
    [[0, -1, 1]],  # a gap
    [[0, 1], [2, -1]],  # outside by itself
    [[-1, -1]],  # nothing
    np.zeros((0, 4)), np.zeros((4, 0))])
def test_what_small_tables_cannot_hold(cells):
    lookup = np.array(cells, np.int32)
    assert make_separable_table(lookup, 1) is None
    table = make_stretch_table(lookup)
    assert isinstance(table, StretchTable)
    assert table.blocks.shape == (lookup.shape[0], -(-lookup.shape[1] // 32))


def test_a_stretch_table_by_hand():
    line = np.zeros(40, np.int32)
    line[3:] = 7
    line[33:36] = -1
    table = make_stretch_table(np.stack([line, line]))
    assert table.cells[:10].tolist() == [0, 7, -1, 7, 0, 7, -1, 7, -1, -1]
    assert table.blocks['first'].tolist() == [[0, 1], [4, 5]]
    ends = table.blocks['ends'][0].tolist()
    assert ends[0] & (1 << 40) - 1 == 1 << 2 | 1 << 32 | 1 << 35 | 1 << 39
    assert ends[1] & 0xFF == 1 << 0 | 1 << 3 | 1 << 7
