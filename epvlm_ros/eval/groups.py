"""Groups of questions that are reported separately."""

from __future__ import annotations

from epvlm_ros.sim.camera_sampling import CAMERA_CONDITIONS
from epvlm_ros.sim.motion_questions import CHANGE_FAMILIES
from epvlm_ros.sim.questions import MOTION_FAMILIES, ONE_FRAME_FAMILIES, REFUSAL_FAMILIES

# What a question asks for decides what its answer can be known from.
ONE_FRAME_GROUP = 'answerable from one frame'
FAMILY_GROUPS = {
    ONE_FRAME_GROUP: ONE_FRAME_FAMILIES,
    'motion: knowable only by blur and by which patches are kept': MOTION_FAMILIES,
    'answerable by no picture': REFUSAL_FAMILIES,
    'what happened over several frames': CHANGE_FAMILIES}
STILL_GROUP = 'still camera and objects'
# of scenes of randomised splits
TWIN_GROUP, MOVING_GROUP = 'look-alikes that stand still', 'moving things'
GROUPS = (*FAMILY_GROUPS, STILL_GROUP, TWIN_GROUP, MOVING_GROUP, *CAMERA_CONDITIONS)


def groups_of(family: str, group: str) -> tuple[str, ...]:
    """Return which of ``GROUPS`` a case of this family and group belongs to."""
    found = tuple(name for name, families in FAMILY_GROUPS.items() if family in families)
    return (*found, group) if group else found
