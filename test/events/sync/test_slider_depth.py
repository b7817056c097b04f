"""A real recording of events and frames on one clock: activity lies where the edges are."""

import cv2
from epvlm_ros.bag.offline_sync import guided_frames
from epvlm_ros.bag.reader import BagReader
from epvlm_ros.events.config import EventSyncConfig
import numpy as np
import pytest
from slider_depth_bag import make_slider_depth_bag


@pytest.fixture(scope='module')
def slider_bag(slider_depth, tmp_path_factory):
    target = tmp_path_factory.mktemp('bags') / 'slider'
    return make_slider_depth_bag(slider_depth, target)


def mean_correlation(bag, offset_ms):
    """Correlate counts per cell with the strength of the edges, averaged over the frames."""
    config = EventSyncConfig(window_length=0.010, window_offset=offset_ms * 1e-3, cell_size=2)
    values = []
    for guided in list(guided_frames(bag, config))[4:-4]:
        grey = cv2.cvtColor(bag.image(guided.frame.payload).rgb, cv2.COLOR_RGB2GRAY)
        grey = grey.astype(np.float32)
        edges = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        rows, cols = guided.activity.counts.shape
        edges = edges.reshape(rows, 2, cols, 2).mean(axis=(1, 3))
        values.append(np.corrcoef(edges.ravel(), guided.activity.counts.ravel())[0, 1])
    return float(np.mean(values))


@pytest.mark.long
def test_activity_matches_the_edges_best_at_the_known_offset(slider_bag):
    offsets_ms = list(range(-20, 21, 4))
    with BagReader(slider_bag) as bag:
        correlations = [mean_correlation(bag, offset_ms) for offset_ms in offsets_ms]
    for offset_ms, correlation in zip(offsets_ms, correlations):
        print(f'{offset_ms:+d} ms: {correlation:.4f}')
    # Frames are stamped before mid-exposure: measured on this recording by others, 8 ms.
    assert abs(offsets_ms[int(np.argmax(correlations))] - 8) <= 4
    assert max(correlations) > 0.2
