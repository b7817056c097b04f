"""What objects did over several frames, by hand."""

from epvlm_ros.sim.motion_questions import (
    APPEARED, ask_about_changes, CHANGE_FAMILIES, DISAPPEARED, find_changes, MOVED, STILL)
from epvlm_ros.sim.questions import SceneSnapshot
from epvlm_ros.sim.rearrangement import StreamFrame
import numpy as np

CIRCLE, SQUARE, STAR = 0, 1, 3
RED, GREEN, BLUE = 0, 1, 2
KINDS = {0: (CIRCLE, RED), 1: (SQUARE, GREEN), 2: (STAR, BLUE), 3: (SQUARE, RED)}


def frame(places, camera=(0.0, 0.0)):
    """Return a frame that shows objects by number at (y, x) of the world, the camera beside it."""
    camera = np.array(camera, np.float32)
    items = np.array(sorted(places), np.int64)
    kinds = np.array([KINDS[item] for item in items]).reshape(-1, 2)
    size = len(items)
    view = SceneSnapshot(
        np.array([1.0, 1.0], np.float32), kinds[:, 0], kinds[:, 1],
        np.array([places[item] for item in items], np.float32).reshape(-1, 2) - camera,
        np.full(size, -1), np.zeros(size, bool), np.zeros((size, 2), np.float32), camera=camera)
    return StreamFrame(None, None, None, 0, view, items, False)


def kinds_of(*frames):
    return {item: change.kind for item, change in find_changes(frames).items()}


def test_each_object_does_one_thing_or_nothing_clear():
    assert kinds_of(frame({0: (0.2, 0.2)}), frame({0: (0.2, 0.2)})) == {0: STILL}
    assert kinds_of(frame({0: (0.2, 0.2)}), frame({0: (0.2, 0.5)})) == {0: MOVED}
    assert kinds_of(frame({0: (0.2, 0.2)}), frame({0: (0.2, 0.25)})) == {0: ''}  # hardly
    there, moved, gone = frame({0: (0.2, 0.2)}), frame({0: (0.6, 0.2)}), frame({})
    assert kinds_of(there, moved, there) == {0: ''}  # and came back
    assert kinds_of(there, moved, gone) == kinds_of(there, gone, gone) == {0: DISAPPEARED}
    assert kinds_of(gone, gone, there) == kinds_of(gone, there, moved) == {0: APPEARED}
    assert kinds_of(there, gone, there) == kinds_of(gone, there, gone) == {0: ''}


def test_a_camera_that_pans_moves_nothing():
    # in the picture 0 goes left by 0.06, 1 by 0.02 and 2 by 0.12
    before = frame({0: (0.2, 0.7), 1: (0.5, 0.3), 2: (0.8, 0.5)}, camera=(0.0, -0.03))
    after = frame({0: (0.2, 0.7), 1: (0.5, 0.34), 2: (0.8, 0.44)}, camera=(0.0, 0.03))
    assert kinds_of(before, after) == {0: STILL, 1: '', 2: ''}
    moved = find_changes([before, frame({0: (0.2, 0.79)}, camera=(0.0, 0.03))])[0]
    assert moved.kind == MOVED  # by 0.03 in the picture
    np.testing.assert_allclose(moved.way, (0.0, 0.09), atol=1e-6)


def answers_of(*frames):
    """Return all answers to questions of each family, by family."""
    found = {family: set() for family in CHANGE_FAMILIES}
    for seed in range(40):
        for question, answer in ask_about_changes(frames, np.random.default_rng(seed)):
            found[question.family].add((question.subject.text(), answer))
    return found


def test_answers_by_hand():
    first = frame({0: (0.2, 0.2), 1: (0.5, 0.5), 2: (0.8, 0.8)})
    last = frame({0: (0.2, 0.7), 1: (0.5, 0.5), 3: (0.8, 0.3)})
    found = answers_of(first, last)
    assert found['moved'] == {('object', 'a red circle')}
    assert found['moved_count'] == {('object', 'one')}
    assert found['moved_direction'] == {('red circle', 'right')}
    assert found['stood_still'] == {('object', 'a green square')}
    assert found['appeared'] == {('object', 'a red square')}
    assert found['disappeared'] == {('object', 'a blue star')}
    assert found['did'] == {
        ('red circle', 'it moved right'), ('green square', 'it stood still'),
        ('red square', 'it appeared'), ('blue star', 'it disappeared')}


def test_nothing_happens_and_what_is_unclear_is_not_asked():
    still = frame({0: (0.2, 0.2), 1: (0.5, 0.5)})
    found = answers_of(still, still)
    assert found['moved'] == found['appeared'] == found['disappeared'] == {('object', 'nothing')}
    assert found['moved_count'] == {('object', 'zero')} and not found['moved_direction']
    hardly = answers_of(still, frame({0: (0.2, 0.24), 1: (0.5, 0.5)}))
    assert not any(hardly[family] for family in CHANGE_FAMILIES if family != 'did')
    assert hardly['did'] == {('green square', 'it stood still')}
    slanted = answers_of(still, frame({0: (0.5, 0.5), 1: (0.5, 0.9)}))
    assert slanted['moved_direction'] == {('green square', 'right')}


def test_names_that_fit_two_objects_are_not_asked_about():
    KINDS[4] = KINDS[0]
    found = answers_of(frame({0: (0.2, 0.2), 4: (0.8, 0.8)}),
                       frame({0: (0.2, 0.6), 4: (0.8, 0.8)}))
    assert not found['did'] and not found['moved_direction']
    assert found['moved'] == {('object', 'a red circle')}
