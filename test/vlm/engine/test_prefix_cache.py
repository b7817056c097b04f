"""What the prefix cache keeps of a view: copies only of frames without a key."""

from __future__ import annotations

from typing import Any

from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine.moment import Moment, SelectedMoments
from epvlm_ros.vlm.engine.prefix_cache import PrefixCache
from epvlm_ros.vlm.patch_grid import PatchGeometry
import numpy as np

CONFIG = VlmConfig()


def keep_one(cache: PrefixCache, moment: Moment) -> Moment:
    """Keep a view of a moment, and return what the cache has of it."""
    grid = PatchGeometry(14, 2, 784, 78400).grid(*moment.image_rgb.shape[:2])
    prefix: Any = object()
    cache.keep(SelectedMoments((moment,), grid, (), CONFIG, 1.0), prefix)
    found = cache.find([moment], 1.0, CONFIG)
    assert found is not None and found[1] is prefix
    return found[0].moments[0]


def make_moment(key: int | None) -> Moment:
    counts = np.ones((7, 7), np.float32)
    return Moment(np.zeros((28, 28, 3), np.uint8), ActivityGrid(counts, 4, 28, 28, 0, 10), key)


def test_a_frame_with_a_key_is_not_copied() -> None:
    moment = make_moment(3)
    assert keep_one(PrefixCache(), moment) is moment


def test_a_frame_without_a_key_is_copied_into_the_same_memory() -> None:
    cache, moment = PrefixCache(), make_moment(None)
    first = keep_one(cache, moment)
    assert not np.shares_memory(first.image_rgb, moment.image_rgb)
    assert first.activity is not None and moment.activity is not None
    assert not np.shares_memory(first.activity.counts, moment.activity.counts)
    assert keep_one(cache, make_moment(None)).image_rgb is first.image_rgb
    moment.image_rgb[0, 0, 0] = 1
    assert cache.find([moment], 1.0, CONFIG) is None


def test_a_cache_that_is_off_keeps_nothing() -> None:
    cache, moment = PrefixCache(enabled=False), make_moment(3)
    prefix: Any = object()
    grid = PatchGeometry(14, 2, 784, 78400).grid(28, 28)
    cache.keep(SelectedMoments((moment,), grid, (), CONFIG, 1.0), prefix)
    assert cache.find([moment], 1.0, CONFIG) is None
