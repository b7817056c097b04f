"""Scenes are what their numbers say, the same for equal seeds, and never collide."""

from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import (
    COLOURS, GROUNDS, is_unseen, MAX_OBJECTS, SCENE_FIELDS, SHAPES, SPLITS, UNSEEN_GROUNDS)
import numpy as np
import pytest

pytestmark = pytest.mark.long


def same(first, second):
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in SCENE_FIELDS)


def test_equal_arguments_give_equal_scenes():
    assert same(sample_scene('train', 5), sample_scene('train', 5))


def test_splits_and_numbers_have_nothing_in_common():
    scenes = [sample_scene(split, index) for split in SPLITS for index in range(20)]
    anchors = {scene.anchor.tobytes() for scene in scenes}
    backgrounds = {scene.fine.tobytes() for scene in scenes}
    assert len(anchors) == len(backgrounds) == len(scenes) == 160


@pytest.mark.parametrize('aspect_ratio', [0.75, 1.0, 4 / 3, 1.8])
def test_objects_stay_in_view_and_hide_little_of_each_other(aspect_ratio):
    num_near = 0
    for index in range(40):
        scene = sample_scene('test', index, aspect_ratio=aspect_ratio)
        for time_s in np.linspace(0.0, 5.0, 60):
            radius = scene.radius[scene.is_there(time_s)]
            centres = scene.positions(time_s)
            assert (centres - radius[:, None] > 0).all()
            assert (centres + radius[:, None] < scene.extent).all()
            distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
            apart = distance / (radius[:, None] + radius)
            apart = apart[~np.eye(len(radius), dtype=bool)]
            assert (apart > 0.78).all()  # 0.82 where nothing zooms
            num_near += bool((apart < 1.0).any())
    assert 20 < num_near < 1200


def test_a_position_by_hand():
    scene = sample_scene('train', 0, camera_moves=False, num_objects=1)
    scene.anchor[0] = (0.5, 0.25)
    scene.orbit_radius[0], scene.orbit_rate[0], scene.orbit_phase[0] = 0.125, 2.0, 0.0
    scene.camera[:], scene.appears_s[:] = (0.0625, np.pi, 0.0), 0.0
    # At 0 the object is right of its anchor and the camera has gone right by half as much.
    np.testing.assert_allclose(scene.positions(0.0), [(0.5, 0.3125)], atol=1e-6)
    # A quarter of the object's round later it is below; the camera has turned by pi^2 / 4.
    turned = np.pi ** 2 / 4
    expected = (0.625 - 0.0625 * np.sin(turned), 0.25 - 0.0625 * np.cos(turned))
    np.testing.assert_allclose(scene.positions(np.pi / 4), [expected], atol=1e-6)


def test_speed_is_the_same_at_every_moment():
    scenes = (sample_scene('train', index, camera_moves=False) for index in range(50))
    scene = next(
        scene for scene in scenes
        if (scene.orbit_radius[:scene.num_objects] > 0).all() and not scene.appears_s.any())
    step_s = 1e-4
    speeds = [
        np.linalg.norm(scene.positions(t + step_s) - scene.positions(t), axis=-1) / step_s
        for t in (0.1, 0.9, 2.3)]
    np.testing.assert_allclose(speeds[0], speeds[1], rtol=0.02)
    np.testing.assert_allclose(speeds[0], speeds[2], rtol=0.02)
    assert (speeds[0] >= 0.19).all() and (speeds[0] <= 0.72).all()
    np.testing.assert_allclose(
        np.linalg.norm(scene.velocities(0.9), axis=-1), speeds[1], rtol=0.02)
    assert scene.max_speed >= speeds[0].max() * 0.98


def test_cameras_move_in_about_half_of_the_scenes_or_as_told():
    moving = [sample_scene('train', index).camera_moves for index in range(200)]
    assert 70 < sum(moving) < 130
    told = [sample_scene('train', index, camera_moves=True) for index in range(40)]
    assert all(scene.camera_moves for scene in told)
    # some drive, the others pan (slowly and far) or shake (fast and little)
    assert 5 < sum(scene.zoom[0] > 0 for scene in told) < 25
    rates = [abs(scene.camera[1]) for scene in told if scene.camera[0] > 0.0]
    assert min(rates) < 20 < 40 < max(rates)
    assert not any(sample_scene('train', i, camera_moves=False).camera_moves for i in range(10))


def test_every_number_of_objects_occurs_and_can_be_asked_for():
    numbers = [sample_scene('train', index).num_objects for index in range(200)]
    assert set(numbers) == set(range(1, MAX_OBJECTS + 1))
    assert sample_scene('train', 3, num_objects=1).num_objects == 1


def test_one_of_every_shape_and_colour_is_kept_for_the_hard_split():
    shape, colour = np.divmod(np.arange(100), 10)
    unseen = is_unseen(shape, colour)
    assert len(SHAPES) == len(COLOURS) == 10 and unseen.sum() == 10
    assert sorted(shape[unseen]) == sorted(colour[unseen]) == list(range(10))


@pytest.mark.parametrize('split', ['train', 'validation', 'test', 'demo', 'hard'])
def test_unseen_combinations_and_grounds_are_in_the_hard_split_only(split):
    scenes = [sample_scene(split, index) for index in range(60)]
    there = [scene.radius > 0 for scene in scenes]
    rare = np.concatenate([
        is_unseen(scene.shape, scene.colour)[mask] for scene, mask in zip(scenes, there)])
    grounds = {GROUNDS[int(scene.ground[0])] for scene in scenes}
    if split == 'hard':
        assert grounds == set(UNSEEN_GROUNDS)
        assert 0.4 < rare.mean() < 0.85
        assert all(is_unseen(scene.shape[:1], scene.colour[:1]).all() for scene in scenes)
    else:
        assert grounds == set(GROUNDS) - set(UNSEEN_GROUNDS)
        assert not rare.any()


def test_what_is_written_has_room_and_does_not_turn():
    scenes = [sample_scene('train', index) for index in range(300)]
    written = np.concatenate([scene.symbol >= 0 for scene in scenes])
    radius = np.concatenate([scene.radius for scene in scenes])
    spin = np.concatenate([scene.spin for scene in scenes])
    shapes = {SHAPES[item] for scene in scenes for item in scene.shape[scene.symbol >= 0]}
    assert 60 < written.sum() < 400
    assert radius[written].min() >= 0.075 and not spin[written].any()
    assert shapes == {'circle', 'square', 'triangle', 'heart'}


def test_an_object_that_appears_is_not_there_before():
    scene = next(scene for scene in (sample_scene('train', index) for index in range(200))
                 if scene.appears_s[:scene.num_objects].any())
    appears_s = scene.appears_s[:scene.num_objects].max()
    before, after = scene.is_there(appears_s - 0.01), scene.is_there(appears_s + 0.01)
    assert after.sum() == before.sum() + 1
    assert len(scene.positions(appears_s - 0.01)) == before.sum()
    assert not scene.appears_s[0]  # there is always something to see


@pytest.mark.parametrize('arguments, message', [
    (('holiday', 0), 'give one of train, validation, test, demo, hard'),
    (('train', -1), 'give at least 0')])
def test_what_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_scene(*arguments)


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match='num_objects is 7: give 1 to 6'):
        sample_scene('train', 0, num_objects=7)
    with pytest.raises(ValueError, match='aspect_ratio is 9'):
        sample_scene('train', 0, aspect_ratio=9)
