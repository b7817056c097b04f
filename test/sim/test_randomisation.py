"""Scenes whose looks say little: what they show can still be seen and named."""

import colorsys
from dataclasses import replace

import cv2
from epvlm_ros.sim.photographs import NEUTRAL, Photographs
from epvlm_ros.sim.randomisation import has_twin
from epvlm_ros.sim.renderer import SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import (
    COLOUR_VALUES, COLOURS, GROUNDS, is_unseen, SCENE_FIELDS, UNSEEN_GROUNDS)
import numpy as np
import pytest
import torch


@pytest.fixture(scope='module', name='photographs')
def photographs_fixture(tmp_path_factory):
    """Return photographs of noise, and where they are."""
    folder = tmp_path_factory.mktemp('photographs')
    random = np.random.default_rng(0)
    for number in range(3):
        coarse = random.integers(256, size=(12, 16, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f'{number}.png'), cv2.resize(coarse, (320, 240)))
    return Photographs(folder)


def render(scene, height=144, width=192):
    return SceneRenderer(stack_scenes([scene]), height, width).render(torch.zeros(1, 1))


def test_equal_arguments_give_equal_scenes_and_photographs_change_looks_alone(photographs):
    scene, again = (sample_scene('randomised', 3, photographs=photographs) for _ in range(2))
    assert all(np.array_equal(getattr(scene, name), getattr(again, name))
               for name in SCENE_FIELDS)
    plain = sample_scene('randomised', 3)
    for name in ('shape', 'radius', 'anchor', 'orbit_radius', 'camera', 'appears_s'):
        np.testing.assert_array_equal(getattr(scene, name), getattr(plain, name))
    assert plain.photograph.size == plain.surface.size == 0
    assert scene.photograph.shape == (3, 320, 320) and scene.surface.shape == (6, 48, 48)


def test_objects_differ_from_what_lies_around_them(photographs):
    num_alike, num_objects = 0, 0
    for index in range(60):
        scene = sample_scene('randomised', index, aspect_ratio=4 / 3, photographs=photographs)
        frames = render(scene)
        rgb, owner = frames.rgb[0, 0].permute(1, 2, 0).numpy(), frames.owner[0, 0].numpy()
        for item in range(scene.num_objects):
            inside = owner == item
            around = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7))) > 0
            around &= owner < 0
            if inside.sum() < 20 or not around.any():
                continue
            distance = np.linalg.norm(rgb[around] - np.median(rgb[inside], axis=0), axis=1)
            num_objects += 1
            num_alike += np.median(distance) < 0.2
    assert num_objects > 120
    assert num_alike < 0.04 * num_objects


def test_grounds_are_as_colourful_as_objects():
    def spread(split):
        scenes = [replace(sample_scene(split, index), radius=np.zeros(6, np.float32))
                  for index in range(40)]
        means = [render(scene, 64, 64).rgb[0, 0].mean(dim=(1, 2)).numpy() for scene in scenes]
        return np.mean([np.ptp(mean) for mean in means])

    assert spread('test') < 0.08 and spread('randomised') > 0.2


def test_dull_colours_keep_their_names():
    scenes = [sample_scene('randomised', index) for index in range(300)]
    least = 1.0
    for scene in scenes:
        there = scene.radius > 0
        assert not is_unseen(scene.shape, scene.colour)[there].any()
        for tint, colour in zip(scene.tint[there], scene.colour[there]):
            if COLOURS[colour] == 'white':
                assert tint.min() > 0.75
            elif COLOURS[colour] == 'black':
                assert tint.max() < 0.15
            else:
                named, seen = (colorsys.rgb_to_hsv(*map(float, value))
                               for value in (COLOUR_VALUES[colour], tint))
                # orange is at 30 degrees, red and yellow 25 and 30 beside it
                assert abs((seen[0] - named[0] + 0.5) % 1.0 - 0.5) * 360 < 13, COLOURS[colour]
                least = min(least, seen[1] / named[1])
    assert least < 0.65
    assert {GROUNDS[int(scene.ground[0])] for scene in scenes} == \
        set(GROUNDS) - set(UNSEEN_GROUNDS)


def test_some_of_what_moves_has_a_twin_that_stands_still():
    scenes = [sample_scene('randomised', index) for index in range(300)]
    moving = [scene for scene in scenes if scene.moves.any() and scene.num_objects > 1]
    assert 0.4 < np.mean([has_twin(scene) for scene in moving]) < 0.75


def test_a_twin_by_hand():
    scene = sample_scene('test', 0, num_objects=2)
    same = {'shape': np.array([1, 1, 0, 0, 0, 0]), 'colour': np.full(6, 2),
            'radius': np.array([0.1, 0.1, 0, 0, 0, 0], np.float32),
            'spin': np.zeros(6, np.float32)}
    one_moves = np.array([0.05, 0, 0, 0, 0, 0], np.float32)
    assert has_twin(replace(scene, **same, orbit_radius=one_moves))
    assert not has_twin(replace(scene, **same, orbit_radius=np.zeros(6, np.float32)))
    assert not has_twin(replace(scene, **same | {'shape': np.arange(6)}, orbit_radius=one_moves))


def test_a_photograph_is_the_ground(tmp_path):
    cv2.imwrite(str(tmp_path / 'blue.png'), np.full((50, 60, 3), (204, 102, 51), np.uint8))
    scenes = [sample_scene('randomised', index, photographs=Photographs(tmp_path))
              for index in range(20)]
    on_photograph = [scene for scene in scenes if scene.ground[0] == -1]
    assert 4 < len(on_photograph) < 16
    bare = replace(
        on_photograph[0], radius=np.zeros(6, np.float32),
        light=np.zeros(3, np.float32), clutter=np.zeros((12, 8), np.float32))
    rgb = render(bare).rgb[0, 0].numpy()
    np.testing.assert_allclose(rgb, np.broadcast_to(
        np.array([0.2, 0.4, 0.8])[:, None, None], rgb.shape), atol=1e-5)
    assert (on_photograph[0].surface == NEUTRAL).all()  # nothing on it is brighter


def test_a_surface_is_a_factor_of_the_brightness():
    scene = replace(sample_scene('test', 1, num_objects=1, camera_moves=False),
                    symbol=np.full(6, -1), tint=np.full((6, 3), 0.4, np.float32),
                    texture=np.zeros((6, 4), np.float32), shading=np.zeros((6, 2), np.float32))
    plain, lit = (
        render(replace(scene, surface=np.full((6, 48, 48), value, np.uint8)))
        for value in (NEUTRAL, NEUTRAL * 3 // 2))
    inside = plain.owner[0, 0] == 0
    ratio = lit.rgb[0, 0] / plain.rgb[0, 0]
    assert ratio[:, inside].median().item() == pytest.approx(1.5, abs=0.01)
    assert ratio[:, plain.owner[0, 0] < 0].median().item() == 1.0


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match='no image in .*: give a folder'):
        Photographs(tmp_path)
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='broken.jpg cannot be read'):
        Photographs(tmp_path).crop(np.random.default_rng(0), 8, 8)
