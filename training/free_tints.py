"""
Scenes of training whose objects have colours without a name.

With ten colours a shape, a shape is learned together with its colours, and missed in another one.
In some of the scenes all tints are drawn freely instead, nothing is asked by colour, and no token
is to tell its colour. Combinations of shape and colour that only the split 'hard' has stay
unseen: no tint of a shape comes near the colour that it never has.
"""

from __future__ import annotations

from dataclasses import replace

from epvlm_ros.sim.questions import Question
from epvlm_ros.sim.sampling import choose_ink
from epvlm_ros.sim.scene import COLOUR_VALUES, COLOURS, is_unseen, MAX_OBJECTS, Scene, SHAPES
import numpy as np

LEAST_DISTANCE = 0.5  # of a tint from the unseen colour of its shape, in RGB from 0 to 1
LEAST_CONTRAST = 0.3  # of a tint with the greys of the ground and of the boxes on it
_DULL_GREYS = (0.15, 0.65)
_CANDIDATES = 48
_ABOUT_COLOURS = ('colour', 'description', 'moving', 'still')  # their answers name colours
# of each shape, the colour that it never has
_UNSEEN = is_unseen(np.arange(len(SHAPES))[:, None], np.arange(len(COLOURS))).argmax(axis=1)


def paint_freely(scene: Scene, random: np.random.Generator) -> Scene:
    """
    Return the scene with other tints, and ink to go with them.

    Tints are drawn evenly from all colours that are ``LEAST_DISTANCE`` from the one colour that
    the object's shape never has, and ``LEAST_CONTRAST`` from all greys of grounds and boxes.
    ``colour`` stays as it is and no longer says anything.
    """
    tints = random.uniform(0.02, 1.0, (MAX_OBJECTS, _CANDIDATES, 3))
    unseen = COLOUR_VALUES[_UNSEEN[scene.shape]][:, None]
    fits = np.linalg.norm(tints - unseen, axis=2) >= LEAST_DISTANCE
    grey = tints.mean(axis=2, keepdims=True).clip(*_DULL_GREYS)
    fits &= np.linalg.norm(tints - grey, axis=2) >= LEAST_CONTRAST
    assert fits.any(axis=1).all(), 'no tint fits'
    tint = tints[np.arange(MAX_OBJECTS), fits.argmax(axis=1)].astype(np.float32)
    return replace(scene, tint=tint, ink=choose_ink(tint))


def names_a_colour(question: Question, answer: str) -> bool:
    """Tell whether colours matter to a question or its answer."""
    words = f'{question.text} {answer}'.replace(',', ' ').split()
    return question.about in _ABOUT_COLOURS or any(word in COLOURS for word in words)
