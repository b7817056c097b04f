"""Frames are chained as a robot's description has them."""

from types import SimpleNamespace

from epvlm_ros.events.registration import pose_from_message, TransformTree
import numpy as np
import pytest


def pose(x=0.0, y=0.0, z=0.0, quarter_turns=0):
    """Return a pose shifted, and turned about z by quarter turns."""
    matrix = np.eye(4)
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns % 4]
    matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    matrix[:3, 3] = x, y, z
    return matrix


@pytest.fixture
def tree():
    """Build base -> mast -> (camera, event -> lens), and a tree of its own: map -> marker."""
    tree = TransformTree()
    tree.set_pose('event', 'lens', pose(x=0.25, z=0.5))
    tree.set_pose('base', 'mast', pose(z=2.0))
    tree.set_pose('mast', 'camera', pose(x=1.0))
    tree.set_pose('mast', 'event', pose(y=3.0, quarter_turns=1))
    tree.set_pose('map', 'marker', pose(x=9.0))
    return tree


def apply(matrix, *point):
    return (matrix @ (*point, 1.0))[:3].tolist()


def test_chains_up_down_and_across(tree):
    assert apply(tree.find('base', 'camera'), 0, 0, 0) == [1, 0, 2]
    assert apply(tree.find('camera', 'base'), 1, 0, 2) == [0, 0, 0]
    # A step along x in the event frame is one along y in the mast's.
    assert apply(tree.find('mast', 'event'), 1, 0, 0) == [0, 4, 0]
    assert apply(tree.find('camera', 'lens'), 1, 0, 0) == [-1, 4.25, 0.5]
    np.testing.assert_allclose(
        tree.find('lens', 'camera') @ tree.find('camera', 'lens'), np.eye(4), atol=1e-12)


def test_frames_that_nothing_connects(tree):
    assert tree.find('camera', 'marker') is None
    assert tree.find('camera', 'unknown') is None
    assert tree.find('unknown', 'camera') is None
    np.testing.assert_array_equal(tree.find('unknown', 'unknown'), np.eye(4))


def test_a_new_pose_replaces_the_old_one_and_a_new_parent_too(tree):
    tree.set_pose('mast', 'camera', pose(x=5.0))
    assert apply(tree.find('mast', 'camera'), 0, 0, 0) == [5, 0, 0]
    tree.set_pose('map', 'camera', pose(x=1.0))
    assert tree.find('mast', 'camera') is None
    assert apply(tree.find('map', 'camera'), 0, 0, 0) == [1, 0, 0]


def test_loops_are_refused_and_change_nothing(tree):
    for parent, child in (('lens', 'base'), ('event', 'mast'), ('base', 'base')):
        with pytest.raises(ValueError, match='own ancestor'):
            tree.set_pose(parent, child, pose())
    with pytest.raises(ValueError, match='give both a name'):
        tree.set_pose('', 'camera', pose())
    assert apply(tree.find('base', 'lens'), 0, 0, 0) == [0, 3.25, 2.5]


def test_names_without_end_are_refused_and_not_repeated(tree):
    with pytest.raises(ValueError, match='at most 256 characters') as refusal:
        tree.set_pose('base', '\n' * 1_000_000, pose())
    assert len(str(refusal.value)) < 1000 and str(refusal.value).isprintable()
    for number in range(10_000 - 5):
        tree.set_pose('base', f'frame {number}', pose())
    with pytest.raises(ValueError, match='at most 10000 frames'):
        tree.set_pose('base', 'one too many', pose())
    tree.set_pose('map', 'frame 7', pose())


def message(rotation, translation=(0.0, 0.0, 0.0)):
    return SimpleNamespace(
        rotation=SimpleNamespace(**dict(zip('xyzw', rotation))),
        translation=SimpleNamespace(**dict(zip('xyz', translation))))


@pytest.mark.parametrize('length', [1.0, 3.0])
@pytest.mark.parametrize(('axis', 'x_goes_to', 'y_goes_to'), [
    ((1, 0, 0), (1, 0, 0), (0, 0, 1)), ((0, 1, 0), (0, 0, -1), (0, 1, 0)),
    ((0, 0, 1), (0, 1, 0), (-1, 0, 0))])
def test_quaternions_of_quarter_turns(axis, x_goes_to, y_goes_to, length):
    half = np.sqrt(0.5) * length
    matrix = pose_from_message(message([*(half * part for part in axis), half], (1, 2, 3)))
    np.testing.assert_allclose(matrix[:3, 3], (1, 2, 3))
    np.testing.assert_allclose(matrix[:3, 0], x_goes_to, atol=1e-12)
    np.testing.assert_allclose(matrix[:3, 1], y_goes_to, atol=1e-12)


@pytest.mark.parametrize(('rotation', 'translation'), [
    ((0, 0, 0, 0), (0, 0, 0)), ((0, 0, np.nan, 1), (0, 0, 0)), ((0, 0, 0, 1), (np.inf, 0, 0))])
def test_unusable_messages(rotation, translation):
    with pytest.raises(ValueError, match='no transform'):
        pose_from_message(message(rotation, translation))
