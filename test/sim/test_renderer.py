"""Pictures show what the scene says: areas and places by hand, drawn alone or in a batch."""

import dataclasses
import math

from epvlm_ros.sim.ground import draw_ground
from epvlm_ros.sim.renderer import luminance, SceneRenderer, stack_scenes
from epvlm_ros.sim.sampling import sample_scene
from epvlm_ros.sim.scene import GROUNDS, Scene, SHAPES, SYMBOLS
from epvlm_ros.sim.shapes import BOUNDING_RADIUS, signed_distance
from epvlm_ros.sim.symbols import stroke_distance
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.long

SIZE = 200


def lens_area(first: float, second: float, apart: float) -> float:
    """Return the area that two discs share: two sectors less two triangles."""
    to_chord = (apart ** 2 + first ** 2 - second ** 2) / (2 * apart)
    half_chord = math.sqrt(first ** 2 - to_chord ** 2)
    angles = math.atan2(half_chord, to_chord), math.atan2(half_chord, apart - to_chord)
    return first ** 2 * angles[0] + second ** 2 * angles[1] - apart * half_chord


# Areas of the shapes of radius 1. The triangle's sides are 0.56 from its centre; the star is ten
# triangles with sides 1.1 and 0.46 that enclose 36 degrees.
AREAS = {
    'circle': math.pi * 0.95 ** 2,
    'square': 1.6 ** 2,
    'triangle': 3 * math.sqrt(3) * 0.56 ** 2,
    'star': 10 * 0.5 * 1.1 * 0.46 * math.sin(math.pi / 5),
    'cross': 2 * 2.1 * 0.64 - 0.64 ** 2,
    'ring': math.pi * (1.0 ** 2 - 0.48 ** 2),
    # A square of half diagonal 0.75 and two half discs on its sides.
    'heart': 2 * 0.75 ** 2 + math.pi * (0.75 ** 2 * 2) / 4,
    # A shaft of 1.05 x 0.44 and a tip of 0.95 x 1.4.
    'arrow': 1.05 * 0.44 + 0.5 * 0.95 * 1.4,
    # A disc of radius 0.95 without what it shares with one of radius 0.8 at a distance of 0.45.
    'moon': math.pi * 0.95 ** 2 - lens_area(0.95, 0.8, 0.45),
    'bar': 2.1 * 0.6,
}


def single_object(shape: str, **changes) -> Scene:
    """Return a still scene with one object of radius 0.2 in the middle."""
    scene = sample_scene('train', 1, camera_moves=False, num_objects=1)
    number = SHAPES.index(shape)
    scene.shape[0], scene.radius[0] = number, 0.2
    scene.anchor[0] = 0.5
    scene.orbit_radius[:] = scene.spin[:] = scene.angle[:] = scene.appears_s[:] = 0.0
    scene.symbol[:], scene.light[0], scene.shadow[2] = -1, 0.0, 0.0
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
    assert bool(centre > 0) == (shape in ('ring', 'moon'))


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


def owner_alone(scene, item, time_s):
    radius = np.where(np.arange(len(scene.radius)) == item, scene.radius, 0.0)
    alone = dataclasses.replace(scene, radius=radius.astype(np.float32))
    return render(alone, time_s, 160, 240)[1]


@pytest.mark.parametrize('time_s', [0.0, 0.37, 1.9])
def test_objects_are_where_the_scene_says(time_s):
    for index in range(6):
        scene = sample_scene('test', index, aspect_ratio=1.5)
        scene.shape[:] = SHAPES.index('circle')
        scene.appears_s[:] = 0.0
        _, owner = render(scene, time_s, 160, 240)
        for item, centre in enumerate(scene.positions(time_s)):
            rows, cols = np.nonzero(owner == item)
            if len(rows) < 0.99 * (owner_alone(scene, item, time_s) == item).sum():
                continue  # another one lies on it
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
    scene.symbol[:], scene.light[0], scene.shadow[2], scene.appears_s[:] = -1, 0.0, 0.0, 0.0
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


def test_a_camera_that_drives_scales_everything_about_the_middle():
    zoom = np.array([0.04, np.pi, -np.pi / 2], np.float32)  # from the smallest to the largest
    scene = single_object('circle', zoom=zoom)
    scene.anchor[0] = (0.5, 0.7)
    small, large = (render(scene, time_s, 600, 600)[1] for time_s in (0.0, 1.0))
    ratio = (large == 0).sum() / (small == 0).sum()
    assert ratio == pytest.approx(math.exp(2 * 2 * 0.04), rel=0.01)
    for owner, scale in ((small, math.exp(-0.04)), (large, math.exp(0.04))):
        rows, cols = np.nonzero(owner == 0)
        assert cols.mean() + 0.5 == pytest.approx(300 + scale * 0.2 * 600, abs=0.5)
        assert rows.mean() + 0.5 == pytest.approx(300, abs=0.5)


def test_light_changes_the_whole_picture_by_its_amplitude():
    light = np.array([0.1, np.pi, 0.0], np.float32)
    scene = single_object('circle', light=light)
    scene.tint[0] = 0.5
    dark, bright = (render(scene, time_s)[0] for time_s in (1.5, 0.5))
    np.testing.assert_allclose(bright / dark, 1.1 / 0.9, rtol=1e-3)


def test_a_shadow_lies_beside_its_object():
    dark = single_object('circle', shadow=np.array([0.0, 0.5, 0.5], np.float32))
    light = single_object('circle')
    share = render(dark)[0].mean(axis=0) / render(light)[0].mean(axis=0)
    # The centre of the shadow, 0.5 radii or 20 px to the right, is under the object, which it
    # does not darken; at 1.1 radii it is 0.6 radii from there: 0.5 * (1 - 0.6 ** 4) are taken.
    assert share[100, 120] == pytest.approx(1.0, abs=1e-6)
    assert share[100, 144] == pytest.approx(1.0 - 0.5 * (1.0 - 0.6 ** 4), abs=0.02)
    assert share[100, 50] == pytest.approx(1.0, abs=1e-6)


def test_an_object_appears_when_it_should():
    scene = single_object('circle')
    scene.appears_s[0] = 0.5
    assert (render(scene, 0.49)[1] == -1).all()
    assert (render(scene, 0.51)[1] == 0).any()


@pytest.mark.parametrize('symbol', SYMBOLS)
def test_what_is_written_is_upright_whatever_the_orientation(symbol):
    pictures = []
    for angle in (0.0, 2.0):
        scene = single_object('circle', texture=np.zeros((6, 4), np.float32))
        scene.symbol[0], scene.symbol_tilt[0], scene.ink[0] = SYMBOLS.index(symbol), 0.0, 0.0
        scene.tint[0], scene.shading[0], scene.angle[0] = 1.0, 0.0, angle
        pictures.append(render(scene)[0].mean(axis=0))
    ink = pictures[0][75:125, 80:120] < 0.3
    assert np.abs(pictures[0] - pictures[1]).mean() < 1e-3
    # 24 px wide and 34 px high in the middle of the picture
    rows, cols = np.nonzero(ink)
    assert 14 <= rows.max() - rows.min() <= 36 and 14 <= cols.max() - cols.min() <= 28
    assert 0.05 < ink.mean() < 0.3


def test_symbols_differ():
    y, x = torch.meshgrid(torch.linspace(-0.7, 0.7, 43), torch.linspace(-0.5, 0.5, 31),
                          indexing='ij')
    numbers = torch.arange(len(SYMBOLS))
    shape = (len(SYMBOLS), *y.shape)
    ink = stroke_distance(numbers, y.expand(shape), x.expand(shape)) < 0
    shared = (ink[:, None] & ink).sum(dim=(2, 3)) / (ink[:, None] | ink).sum(dim=(2, 3))
    assert shared[~torch.eye(len(SYMBOLS), dtype=torch.bool)].max() < 0.75


@pytest.mark.parametrize('ground', GROUNDS)
def test_every_ground_has_its_own_pattern(ground):
    fields = stack_scenes([single_object('circle', clutter=np.zeros((12, 8), np.float32))])
    fields['ground'][:], fields['fine'][:], fields['coarse'][:] = GROUNDS.index(ground), 0.0, 0.0
    fields['ground_pattern'][0, 0], fields['background'][:] = 0.1, 0.4
    picture = draw_ground(fields, (120, 120), (0.0, 0.0), 120.0)[0]
    assert picture.min() >= 0.1 and picture.max() <= 0.72
    if ground in ('soft', 'speckled'):
        assert picture.std() < 1e-6
    else:
        assert 0.01 < picture.std() < 0.15
        assert torch.equal(picture[0], picture[2])  # patterns are grey


def test_boxes_on_the_ground_are_where_they_should_be():
    clutter = np.zeros((12, 8), np.float32)
    clutter[0] = (0.25, 0.5, 0.1, 0.2, 0.0, 0.3, 0.35, 0.4)
    fields = stack_scenes([single_object('circle', clutter=clutter)])
    picture = draw_ground(fields, (100, 100), (0.0, 0.0), 100.0)[0]
    for channel, value in enumerate((0.3, 0.35, 0.4)):
        # rows 15 to 35, columns 30 to 70
        assert picture[channel, 16:34, 31:69].sub(value).abs().max() < 1e-5
        assert picture[channel, 40:, 31:69].sub(value).abs().max() > 1e-3


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
