"""What a training run depends on, saved beside its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epvlm_ros.sim.questions import MOTION_FAMILIES

# Rows and columns of visual tokens (28 px a side), and how often they are trained on. The limits
# of preprocessor_config.json lead camera images of common sizes to grids like these.
GRIDS = (
    ((12, 12), 0.20), ((12, 16), 0.42), ((9, 12), 0.10), ((10, 18), 0.10), ((14, 14), 0.10),
    ((9, 11), 0.04), ((16, 12), 0.04))
MIN_PIXELS = 9 * 11 * 28 * 28
MAX_PIXELS = 155_000

# How often each family of questions is asked, before those that a scene cannot offer fall out.
FAMILY_WEIGHTS = {
    'colour': 1.2, 'shape': 1.2, 'count': 2.0, 'relation': 2.6, 'place': 1.2, 'existence': 1.4,
    'symbol': 1.6, 'description': 1.3, 'absent': 0.8, 'several': 0.7, 'unknown': 0.4,
    'motion': 0.15, 'moving': 0.25, 'moving_count': 0.15, 'direction': 0.15, 'still': 0.25,
    'moving_symbol': 0.25}


# Of scenes whose looks say little: as in the benchmark, where likely answers are held back.
RANDOMISED_WEIGHTS = FAMILY_WEIGHTS | {
    'existence': 0.3, 'relation': 0.8, 'count': 0.9, 'absent': 0.35, 'several': 0.3}
# Of three moments, where questions about one picture are about the last.
MOMENT_WEIGHTS = FAMILY_WEIGHTS | dict.fromkeys((*MOTION_FAMILIES, 'motion'), 0.0)
# Of a scene in memory: what is counted is what a token that is kept may know no longer.
MEMORY_WEIGHTS = MOMENT_WEIGHTS | {'count': 3.0, 'description': 2.0, 'several': 1.0}
# Of three moments of scenes in which things move on and on: whether they do is to be seen.
GOING_WEIGHTS = FAMILY_WEIGHTS | {
    'motion': 0.0, 'direction': 0.0, 'moving': 3.0, 'moving_count': 2.0, 'still': 3.0,
    'moving_symbol': 1.5}
CHANGE_SHARE = 0.75  # of the questions about three moments ask what changed
CAMERA_MOVES_SHARE = 0.2  # of the scenes of three moments between which things come and go
PAST_SHARE = 0.02  # of those about one picture ask so too: that it does not tell is the answer


@dataclass(frozen=True)
class Mixture:
    """
    What is shown, as shares of steps or of scenes.

    Shares of the steps are ``memory``, of the rest ``motion``, and of the rest of that
    ``randomised``. ``memory`` shows a scene in memory that changes, see ``scene_in_memory``;
    ``motion`` three moments, between which things move, come and go, or in the share ``going`` of
    them move on and on; ``randomised`` scenes of the randomised splits, with the photographs of a
    folder if there is one. ``free_tints`` is the share of the other scenes whose colours have no
    names, see ``free_tints``; ``unreadable`` that of scenes whose frames are black, white or of
    one colour.
    """

    memory: float = 0.0
    motion: float = 0.0
    going: float = 0.0
    randomised: float = 0.0
    free_tints: float = 0.0
    unreadable: float = 0.0
    photographs: str = ''


@dataclass(frozen=True)
class TrainingConfig:
    """
    The knobs of a run; lengths of time in the units that the names say.

    ``minutes`` and ``steps`` both end a run, whichever comes first; 0 sets no limit. The learning
    rates follow the share of the run that is over, down to ``final_rate_share`` of what they are
    at first; ``matrix_learning_rate`` is that of the layers' matrices, which Muon trains.
    In the first ``heads_only_steps`` the auxiliary heads alone learn: fresh ones would spoil
    weights that were trained before. The learning rates rise for ``warmup_steps`` then.
    ``dense_share`` of the steps see all tokens, 1 trains without patch dropout. Three moments
    share at least ``min_moments_keep_ratio`` of the tokens of one picture: both ends of a way have
    to be seen, and what stands still beside them; in ``all_moments_share`` of their steps all
    tokens of each are seen. What is shown is described in ``Mixture``, of which the other shares
    are.
    """

    seed: int = 0
    steps: int = 4500
    minutes: float = 0.0
    batch_size: int = 192
    questions_per_image: int = 8
    learning_rate: float = 1.0e-3
    matrix_learning_rate: float = 1.5e-3
    final_rate_share: float = 0.01
    heads_only_steps: int = 0
    warmup_steps: int = 200
    weight_decay: float = 0.05
    max_gradient_norm: float = 1.0
    dense_share: float = 0.25
    min_keep_ratio: float = 0.12
    max_keep_ratio: float = 1.0
    min_moments_keep_ratio: float = 0.25
    all_moments_share: float = 0.08
    memory_share: float = 0.18
    motion_share: float = 0.5
    going_share: float = 0.15
    randomised_share: float = 0.65
    free_tint_share: float = 0.35
    unreadable_share: float = 0.03
    photographs: str = ''
    token_loss_weight: float = 1.0
    position_loss_weight: float = 0.3
    mention_loss_weight: float = 0.3
    order_loss_weight: float = 0.5
    change_loss_weight: float = 0.5
    background_weight: float = 0.3
    num_workers: int = 0
    first_batch: int = 0

    @property
    def mixture(self) -> Mixture:
        """Return what is shown."""
        return Mixture(
            self.memory_share, self.motion_share, self.going_share, self.randomised_share,
            self.free_tint_share, self.unreadable_share, self.photographs)


_ONE_PICTURE: dict[str, Any] = {
    'steps': 0, 'batch_size': 224, 'memory_share': 0.0, 'motion_share': 0.0,
    'randomised_share': 0.0, 'unreadable_share': 0.0}
# In order; each stage starts from the one before. The last made the shipped checkpoint.
STAGES = {
    'dense_only': TrainingConfig(minutes=8.0, dense_share=1.0, **_ONE_PICTURE),
    'patch_dropout': TrainingConfig(
        minutes=10.0, first_batch=1_000_000, warmup_steps=50, **_ONE_PICTURE),
    'several_moments': TrainingConfig(
        steps=0, minutes=13.0, batch_size=224, first_batch=2_000_000,
        heads_only_steps=100, warmup_steps=100)}
