"""Which objects are kept, in pictures whose events and objects are placed by hand."""

import cv2
from epvlm_ros.activity_grid import ActivityGrid
from epvlm_ros.eval.kept_objects import (
    ActivityCache, BOXES, CAMERA_MOVES, CAMERA_STILL, KeptObjects, moving_pictures, Picture,
    still_pictures)
from epvlm_ros.eval.moving_objects import MovingObject
from epvlm_ros.eval.photographs import Photograph
from epvlm_ros.eval.question_set import Observation
import numpy as np
import pytest

SIZE = (112, 140)  # 4 x 5 tokens


def make_picture(number: int, kept_left: bool) -> Picture:
    """Return a picture whose events are in one half, objects of 784, 2,352 and 100 pixels."""
    counts = np.zeros((28, 35), np.float32)
    counts[:, slice(0, 14) if kept_left else slice(21, 35)] = 9.0  # columns of tokens 0-1 or 3-4
    masks = np.zeros((3, *SIZE), np.float32)
    masks[0, 28:56, 0:28] = 1.0  # token (1, 0)
    masks[1, 56:84, 28:112] = 1.0  # tokens (2, 1) to (2, 3), middle in (2, 2)
    masks[2, :10, :10] = 1.0  # too small to count
    activity = ActivityGrid(counts, 4, *SIZE, 0, 40_000_000)
    return Picture(Observation(np.zeros((*SIZE, 3), np.uint8), activity), list(masks),
                   [BOXES] * 3, number)


def test_whole_and_centre_by_size():
    kept = KeptObjects([make_picture(0, True), make_picture(1, False)], ['events'], [0.4, 0.99])
    assert kept.sizes.tolist() == ['small', 'medium'] * 2
    assert kept.whole['events', 0.4].tolist() == [True, False, False, False]
    assert kept.centre['events', 0.4].tolist() == [True, False, False, False]
    assert kept.centre['events', 0.99].all()
    summary = kept.summarise(['events'])
    assert summary['boxes, small']['objects'] == 2
    assert summary['boxes, small']['events']['0.4']['whole'] == (0.5, 0.0, 1.0)
    assert summary['boxes, small and medium']['events']['0.4']['whole'][0] == 0.25
    assert set(summary) == {
        'boxes, small and medium', 'boxes, small', 'boxes, medium', 'boxes, all'}


def test_differences_are_paired():
    kept = KeptObjects(
        [make_picture(number, True) for number in range(4)], ['events', 'uniform'], [0.4])
    found = kept.summarise(['uniform'])['boxes, small']['events']['0.4']
    # the same in every picture: no resample differs
    gained = 1.0 - float(kept.whole['uniform', 0.4][0])
    assert found['whole less uniform'] == (gained, gained, gained)
    itself = kept.summarise(['uniform'])['boxes, small']['uniform']['0.4']
    assert 'whole less uniform' not in itself


def make_photograph(tmp_path, name: str, seed: int) -> Photograph:
    """Return a photograph of 120 x 160 pixels with a disc of 1,257 pixels as its only object."""
    image = np.random.default_rng(seed).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    path = tmp_path / name
    cv2.imwrite(str(path), cv2.resize(image, (160, 120), interpolation=cv2.INTER_CUBIC))
    angle = np.linspace(0.0, 2.0 * np.pi, 60)
    disc = np.stack([60 + 20 * np.cos(angle), 48 + 20 * np.sin(angle)], axis=1)
    return Photograph(path, outlines=[[disc.ravel().tolist()]])


def test_events_of_a_still_photograph_come_from_the_cache(tmp_path, monkeypatch):
    photograph = make_photograph(tmp_path, 'a.png', 1)
    cache = ActivityCache(tmp_path / 'cache')
    first, = still_pictures([photograph], cache)
    assert first.observation.activity.num_events > 1000
    monkeypatch.setattr('epvlm_ros.eval.kept_objects.still_image_activity', None)
    again, = still_pictures([photograph], cache)
    activity, known = first.observation.activity, again.observation.activity
    np.testing.assert_array_equal(activity.counts, known.counts)
    assert (activity.pixel_density, activity.window_end_ns) == (
        known.pixel_density, known.window_end_ns)
    with pytest.raises(TypeError):  # None cannot be called: nothing is kept without a folder
        list(still_pictures([photograph], ActivityCache(None)))


def test_moving_pictures_of_every_ground(tmp_path):
    photographs = [make_photograph(tmp_path, f'{name}.png', ord(name)) for name in 'abc']
    found = list(moving_pictures(photographs, ActivityCache(None), num_each=1))
    assert [picture.photograph for picture in found] == [0, 0, 1, 1, 2, 2]
    assert [kind for picture in found for kind in picture.kinds] == [
        CAMERA_STILL, CAMERA_MOVES] * 3
    for still, moves in zip(found[::2], found[1::2]):
        np.testing.assert_array_equal(still.masks[0], moves.masks[0])
        assert still.masks[0].sum() == pytest.approx(1257, rel=0.05)


def test_events_of_a_moving_object_lie_on_it_if_the_camera_is_still():
    random = np.random.default_rng(4)
    ground, source = random.integers(0, 256, (2, 96, 128, 3)).astype(np.uint8)
    mask = np.zeros((96, 128), np.float32)
    mask[10:40, 20:60] = 1.0
    scene = MovingObject(ground, source, mask, camera_moves=False, seed=2)
    rows, cols = np.flatnonzero(scene.mask.any(axis=1)), np.flatnonzero(scene.mask.any(axis=0))
    assert (len(rows), len(cols)) == (30, 40)
    inside = scene.mask[rows[0] + 3:rows[-1] - 2, cols[0] + 3:cols[-1] - 2]
    assert inside.all()
    picture = scene.view(0.0)
    np.testing.assert_array_equal(
        picture[rows[0] + 4:rows[-1] - 3, cols[0] + 4:cols[-1] - 3], source[14:36, 24:56])
    far = np.ones((96, 128), bool)
    far[max(rows[0] - 12, 0):rows[-1] + 13, max(cols[0] - 12, 0):cols[-1] + 13] = False
    np.testing.assert_array_equal(picture[far], ground[far])
    counts = scene.watch().counts
    on_object = counts.repeat(4, axis=0).repeat(4, axis=1)[:96, :128]
    # noise outside of it: 1 Hz and less a pixel
    assert on_object[scene.mask > 0].mean() > 50 * on_object[far].mean()
    moving = MovingObject(ground, source, mask, camera_moves=True, seed=2)
    assert moving.watch().counts.repeat(4, axis=0).repeat(4, axis=1)[:96, :128][far].mean() > (
        50 * on_object[far].mean())
    with pytest.raises(ValueError, match='give a smaller object'):
        MovingObject(ground[:20], source, mask, camera_moves=False, seed=2)
