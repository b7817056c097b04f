"""Scenes are what their numbers say, the same for equal seeds, and never collide."""

from epvlm_ros.sim.scene import MAX_OBJECTS, sample_scene, SCENE_FIELDS, SPLITS
import numpy as np
import pytest


def same(first, second):
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in SCENE_FIELDS)


def test_equal_arguments_give_equal_scenes():
    assert same(sample_scene('train', 5), sample_scene('train', 5))


def test_splits_and_numbers_have_nothing_in_common():
    scenes = [sample_scene(split, index) for split in SPLITS for index in range(20)]
    anchors = {scene.anchor.tobytes() for scene in scenes}
    backgrounds = {scene.fine.tobytes() for scene in scenes}
    assert len(anchors) == len(backgrounds) == len(scenes) == 80


@pytest.mark.parametrize('aspect_ratio', [0.75, 1.0, 4 / 3, 1.8])
def test_objects_stay_in_view_and_never_touch(aspect_ratio):
    for index in range(25):
        scene = sample_scene('test', index, aspect_ratio=aspect_ratio)
        radius = scene.radius[scene.radius > 0]
        for time_s in np.linspace(0.0, 5.0, 60):
            centres = scene.positions(time_s)
            assert (centres - radius[:, None] > 0).all()
            assert (centres + radius[:, None] < scene.extent).all()
            distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
            needed = radius[:, None] + radius + 0.02
            assert (distance[~np.eye(len(radius), dtype=bool)]
                    > needed[~np.eye(len(radius), dtype=bool)]).all()


def test_a_position_by_hand():
    scene = sample_scene('train', 0, camera_moves=False, num_objects=1)
    scene.anchor[0] = (0.5, 0.25)
    scene.orbit_radius[0], scene.orbit_rate[0], scene.orbit_phase[0] = 0.125, 2.0, 0.0
    scene.camera[:] = (0.0625, np.pi, 0.0)
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
        if (scene.orbit_radius[:scene.num_objects] > 0).all())
    step_s = 1e-4
    speeds = [
        np.linalg.norm(scene.positions(t + step_s) - scene.positions(t), axis=-1) / step_s
        for t in (0.1, 0.9, 2.3)]
    np.testing.assert_allclose(speeds[0], speeds[1], rtol=0.02)
    np.testing.assert_allclose(speeds[0], speeds[2], rtol=0.02)
    assert (speeds[0] >= 0.14).all() and (speeds[0] <= 0.82).all()
    assert scene.max_speed >= speeds[0].max() * 0.98


def test_cameras_move_in_about_half_of_the_scenes_or_as_told():
    moving = [sample_scene('train', index).camera[0] > 0 for index in range(200)]
    assert 70 < sum(moving) < 130
    assert all(sample_scene('train', i, camera_moves=True).camera[0] > 0 for i in range(10))
    assert not any(sample_scene('train', i, camera_moves=False).camera[0] > 0 for i in range(10))


def test_every_number_of_objects_occurs_and_can_be_asked_for():
    numbers = [sample_scene('train', index).num_objects for index in range(200)]
    assert set(numbers) == set(range(1, MAX_OBJECTS + 1))
    assert sample_scene('train', 3, num_objects=1).num_objects == 1


@pytest.mark.parametrize('arguments, message', [
    (('holiday', 0), 'give one of train, validation, test, demo'),
    (('train', -1), 'give at least 0')])
def test_what_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_scene(*arguments)


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match='num_objects is 7: give 1 to 6'):
        sample_scene('train', 0, num_objects=7)
    with pytest.raises(ValueError, match='aspect_ratio is 9'):
        sample_scene('train', 0, aspect_ratio=9)
