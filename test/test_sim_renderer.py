"""Pictures show what the scene says: areas and places by hand, drawn alone or in a batch."""

import dataclasses
import math

from epvlm_ros.sim.renderer import luminance, SceneRenderer, stack_scenes
from epvlm_ros.sim.scene import sample_scene, Scene, SHAPES
from epvlm_ros.sim.shapes import BOUNDING_RADIUS, signed_distance
import numpy as np
import pytest
import torch

SIZE = 200
# Areas of the shapes of radius 1. The triangle's sides are 0.56 from its centre; the star is ten
# triangles with sides 1.1 and 0.46 that enclose 36 degrees.
AREAS = {
    'circle': math.pi * 0.95 ** 2,
    'square': 1.6 ** 2,
    'triangle': 3 * math.sqrt(3) * 0.56 ** 2,
    'star': 10 * 0.5 * 1.1 * 0.46 * math.sin(math.pi / 5),
    'cross': 2 * 2.1 * 0.64 - 0.64 ** 2,
    'ring': math.pi * (1.0 ** 2 - 0.48 ** 2),
}


def single_object(shape: str, **changes) -> Scene:
    """Return a still scene with one object of radius 0.2 in the middle."""
    scene = sample_scene('train', 1, camera_moves=False, num_objects=1)
    number = SHAPES.index(shape)
    scene.shape[0], scene.radius[0] = number, 0.2
    scene.anchor[0] = 0.5
    scene.orbit_radius[:] = scene.spin[:] = scene.angle[:] = 0.0
    return dataclasses.replace(scene, **changes)


def render(scene, time_s=0.0, height=SIZE, width=SIZE):
    frames = SceneRenderer(stack_scenes([scene]), height, width).render(torch.tensor([[time_s]]))
    return frames.rgb[0, 0].numpy(), frames.owner[0, 0].numpy()


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('angle', [0.0, 0.7])
def test_area_of_every_shape(shape, angle):
    scene = single_object(shape)
    scene.angle[0] = angle
    _, owner = render(scene, height=600, width=600)
    expected = AREAS[shape] * (0.2 * 600) ** 2
    assert (owner == 0).sum() == pytest.approx(expected, rel=0.015)
    assert ((owner == 0) | (owner == -1)).all()


@pytest.mark.parametrize('shape', SHAPES)
def test_distances_are_negative_inside_and_nothing_lies_beyond_the_bound(shape):
    grid = torch.linspace(-2, 2, 401)
    y, x = torch.meshgrid(grid, grid, indexing='ij')
    inside = signed_distance(shape, y, x) < 0
    assert torch.hypot(y, x)[inside].max() <= BOUNDING_RADIUS
    centre = signed_distance(shape, torch.zeros(1), torch.zeros(1))
    assert bool(centre > 0) == (shape == 'ring')


def test_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="shape is 'blob': give one of circle"):
        signed_distance('blob', torch.zeros(1), torch.zeros(1))


def test_a_triangle_points_up_and_a_star_to_the_right():
    _, triangle = render(single_object('triangle'))
    rows = np.flatnonzero((triangle == 0).any(axis=1))
    # From its tip 1.12 radii above the centre to its base 0.56 below.
    assert rows[0] == pytest.approx(100 - 1.12 * 40, abs=1.5)
    assert rows[-1] == pytest.approx(100 + 0.56 * 40, abs=1.5)
    _, star = render(single_object('star'))
    cols = np.flatnonzero((star == 0).any(axis=0))
    assert cols[-1] == pytest.approx(100 + 1.1 * 40, abs=3)  # less than half a pixel is wide
    assert cols[0] == pytest.approx(100 - 1.1 * math.cos(math.pi / 5) * 40, abs=1.5)


@pytest.mark.parametrize('time_s', [0.0, 0.37, 1.9])
def test_objects_are_where_the_scene_says(time_s):
    for index in range(6):
        scene = sample_scene('test', index, aspect_ratio=1.5)
        scene.shape[:] = SHAPES.index('circle')
        _, owner = render(scene, time_s, 160, 240)
        for item, centre in enumerate(scene.positions(time_s)):
            rows, cols = np.nonzero(owner == item)
            # Pixel (i, j) has its centre at (i + 0.5, j + 0.5).
            found = (rows.mean() + 0.5, cols.mean() + 0.5)
            np.testing.assert_allclose(found, centre * 160, atol=0.35)


def test_batches_and_times_give_the_pictures_of_one_scene_at_one_time():
    scenes = [sample_scene('train', index) for index in range(5)]
    times_s = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    batch = SceneRenderer(stack_scenes(scenes), 96, 96).render(times_s)
    for row, scene in enumerate(scenes):
        for column in range(3):
            rgb, owner = render(scene, float(times_s[row, column]), 96, 96)
            # The window and the margins about it differ in size, hence the rounding.
            difference = np.abs(batch.rgb[row, column].numpy() - rgb)
            assert np.quantile(difference, 0.99) < 1e-4 and difference.mean() < 1e-3
            assert (batch.owner[row, column].numpy() != owner).mean() < 1e-3


def test_later_objects_lie_on_top_and_colours_are_theirs():
    scene = sample_scene('train', 2, camera_moves=False, num_objects=3)
    scene.shape[:2] = SHAPES.index('square')
    scene.radius[:2], scene.radius[2:] = 0.2, 0.0
    scene.anchor[0], scene.anchor[1] = (0.5, 0.45), (0.5, 0.55)
    for array in (scene.orbit_radius, scene.spin, scene.angle, scene.shading, scene.texture):
        array[:] = 0.0
    scene.tint[0], scene.tint[1] = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    rgb, owner = render(scene)
    # Squares of 64 px: columns 58 to 122 and, on top, 78 to 142; rows 68 to 132.
    assert (owner[70:130, 60:76] == 0).all() and (owner[70:130, 80:140] == 1).all()
    assert (owner[:66] == -1).all() and (owner[:, 144:] == -1).all()
    assert rgb[0, 100, 65] > 0.8 and rgb[2, 100, 65] == 0.0
    assert rgb[2, 100, 100] > 0.8 and rgb[0, 100, 100] == 0.0


def test_borders_are_smooth():
    scene = single_object('circle')
    rgb, owner = render(scene)
    values = np.unique(np.round(luminance(torch.from_numpy(rgb)).numpy()[100], 3))
    assert len(values) > 10  # shading and soft borders, not two levels


def test_a_still_scene_does_not_change_and_a_moving_camera_moves_the_background():
    still = single_object('ring')
    assert np.array_equal(render(still, 0.0)[0], render(still, 1.0)[0])
    moving = dataclasses.replace(
        still, radius=np.zeros_like(still.radius),
        camera=np.array([0.025, np.pi, 0.0], dtype=np.float32))
    # In half a turn the camera goes from 5 px right to 5 px left: the view shifts by 10 px.
    before, after = render(moving, 0.0)[0], render(moving, 1.0)[0]
    np.testing.assert_allclose(before[:, :, :-10], after[:, :, 10:], atol=2e-3)
    assert np.abs(before - after).mean() > 1e-3


def test_bad_sizes_and_times_are_refused():
    fields = stack_scenes([sample_scene('train', 0)])
    with pytest.raises(ValueError, match='give at least 16 pixels a side'):
        SceneRenderer(fields, 8, 64)
    with pytest.raises(ValueError, match='give one row for each scene'):
        SceneRenderer(fields, 32, 32).render(torch.zeros(2, 1))
    with pytest.raises(ValueError, match='give at least one'):
        stack_scenes([])


def test_luminance_by_hand():
    rgb = torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    assert luminance(rgb).item() == pytest.approx(0.299 + 0.2935 + 0.0285)
