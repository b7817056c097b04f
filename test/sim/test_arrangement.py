"""Arrangements of the objects of a scene, and changes of them."""

from dataclasses import replace

from epvlm_ros.sim.arrangement import Arrangement, rearrange, same_arrangement
from epvlm_ros.sim.renderer import SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
import numpy as np
import pytest
import torch


def still_scene(index=3, num_objects=4):
    scene = sample_scene(
        'test', index, aspect_ratio=4 / 3, camera_moves=False, num_objects=num_objects)
    return replace(scene, orbit_radius=np.zeros_like(scene.orbit_radius))


@pytest.fixture(name='many')
def many_fixture():
    """Return a scene of 4 objects and what 300 changes make of it, one after the other."""
    scene = still_scene()
    assert np.count_nonzero(scene.radius) == 4
    random = np.random.default_rng(0)
    found = [Arrangement.of(scene, random)]
    for _ in range(300):
        found.append(rearrange(found[-1], random))
    return found


def test_one_object_changes_at_a_time_in_every_way(many):
    kinds = set()
    for before, after in zip(many, many[1:]):
        moved = (before.anchor != after.anchor).any(axis=1)
        resized, covered = before.radius != after.radius, before.is_covered != after.is_covered
        assert np.count_nonzero(moved | resized | covered) <= 1
        item = int(np.argmax(moved | resized | covered))
        kinds.add(
            'nothing' if same_arrangement(before, after) else
            ('covered' if after.is_covered[item] else 'uncovered') if covered.any() else
            ('gone' if after.radius[item] == 0 else 'back') if resized.any() else 'moved')
    assert kinds >= {'covered', 'uncovered', 'gone', 'back', 'moved'}


def test_something_is_always_to_be_seen_and_nothing_overlaps(many):
    for now in many[1:]:
        is_visible = (now.radius > 0) & ~now.is_covered
        assert is_visible.any()
        for item in np.flatnonzero(now.radius > 0):
            for other in np.flatnonzero(now.radius > 0):
                distance = np.hypot(*(now.anchor[item] - now.anchor[other]))
                if item != other and (many[0].anchor[[item, other]] != now.anchor[
                        [item, other]]).any():
                    assert distance > now.radius[item] + now.radius[other]


def test_a_cover_hides_the_whole_object():
    scene = still_scene()
    now = Arrangement.of(scene, np.random.default_rng(0))
    for item in range(4):
        covers = replace(now, is_covered=np.arange(6) == item)
        renderer = SceneRenderer(stack_scenes([scene]), 240, 320)
        frames = renderer.render(torch.zeros(1, 1))
        image = frames.rgb[0, 0].permute(1, 2, 0).numpy().copy()
        covers.paint_covers(image, np.zeros(2))
        is_item = (frames.owner[0, 0] == item).numpy()
        assert np.count_nonzero(is_item) > 30
        assert (image[is_item] == covers.cover_colour[item]).all()


def test_what_lies_between_two_arrangements():
    scene = still_scene()
    start = Arrangement.of(scene, np.random.default_rng(0))
    radius, covered = start.radius.copy(), start.is_covered.copy()
    radius[1], covered[2] = 0.0, True
    anchor = start.anchor.copy()
    anchor[0] += (0.2, -0.4)
    end = replace(start, anchor=anchor, radius=radius, is_covered=covered)
    assert start.way_to(end) == pytest.approx(0.4)
    early, late = start.towards(end, 0.25), start.towards(end, 0.75)
    np.testing.assert_allclose(early.anchor[0] - start.anchor[0], (0.05, -0.1), atol=1e-6)
    assert (early.radius == start.radius).all() and not early.is_covered.any()
    assert late.radius[1] == 0.0 and late.is_covered[2]
    assert start.towards(end, 1.0) is end


def test_what_is_put_back_comes_in_its_place():
    scene = still_scene()
    end = Arrangement.of(scene, np.random.default_rng(0))
    radius, anchor = end.radius.copy(), end.anchor.copy()
    radius[1] = 0.0
    anchor[1] = (0.5, 0.5)
    start = replace(end, radius=radius, anchor=anchor)
    assert start.way_to(end) == 0.0
    assert (start.towards(end, 0.5).anchor[1] == end.anchor[1]).all()
