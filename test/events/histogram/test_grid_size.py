"""Cells of an image, and what their counts may take."""

from epvlm_ros.events.config import EventSyncConfig
from epvlm_ros.events.histogram.grid_size import find_cell_size
from epvlm_ros.events.sync.guided_frame import Frame
from epvlm_ros.events.sync.synchronizer import FrameSynchronizer
import pytest


@pytest.mark.parametrize(('height', 'width', 'cell_size'), [
    (1, 1, 4), (180, 240, 4), (480, 640, 4), (720, 1280, 4), (800, 1280, 4), (1080, 1920, 8),
    (1536, 2048, 8), (2160, 3840, 16), (4320, 7680, 32)])
def test_large_images_have_larger_cells(height, width, cell_size):
    assert find_cell_size(EventSyncConfig(), height, width) == cell_size


def test_a_given_cell_size_is_taken():
    assert find_cell_size(EventSyncConfig(cell_size=7), 2160, 3840) == 7


@pytest.mark.parametrize(('values', 'height', 'width', 'megabytes'), [
    # 468,750 columns, a row and three spare ones, 1001 bins, 2 bytes.
    ({}, 1, 30_000_000, '3,754 MB'),
    # 640 columns, 483 rows, 100,001 bins.
    ({'cell_size': 1, 'bin_length': 0.0001, 'history_length': 10.0}, 480, 640, '61,825 MB'),
    ({'cell_size': 1, 'max_grid_memory': 600.0}, 480, 640, '619 MB'),
])
def test_a_frame_beyond_the_memory_is_refused_with_the_remedy(values, height, width, megabytes):
    synchronizer = FrameSynchronizer(EventSyncConfig(**values))
    with pytest.raises(ValueError, match=f'{width} x {height} px .* takes {megabytes} .*larger '
                                         'cell_size or bin_length.*max_grid_memory'):
        synchronizer.add_frame(Frame(0, height, width), 0.0)
    assert synchronizer.poll(10.0) == []
    synchronizer.add_frame(Frame(0, 48, 64), 10.0)
    guided, = synchronizer.poll(20.0)
    assert guided.frame.height == 48


def test_no_side_is_longer_than_messages_can_say():
    with pytest.raises(ValueError, match='6400000 x 1 px'):
        find_cell_size(EventSyncConfig(), 1, 6_400_000)
