"""What a training run depends on, saved beside its result."""

from __future__ import annotations

from dataclasses import dataclass

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
    'motion': 0.15, 'moving': 0.6, 'moving_count': 0.4, 'direction': 0.15, 'still': 0.6,
    'moving_symbol': 0.6}


@dataclass(frozen=True)
class TrainingConfig:
    """
    The knobs of a run; lengths of time in the units that the names say.

    ``minutes`` and ``steps`` both end a run, whichever comes first; 0 sets no limit. The learning
    rates follow the share of the run that is over, down to ``final_rate_share`` of what they are
    at first; ``matrix_learning_rate`` is that of the layers' matrices, which Muon trains.
    ``dense_share`` of the steps see all tokens, 1 trains without patch dropout;
    ``free_tint_share`` of the scenes have colours without names, see ``free_tints``.
    """

    seed: int = 0
    steps: int = 4500
    minutes: float = 0.0
    batch_size: int = 192
    questions_per_image: int = 8
    learning_rate: float = 1.0e-3
    matrix_learning_rate: float = 1.5e-3
    final_rate_share: float = 0.01
    warmup_steps: int = 200
    weight_decay: float = 0.05
    max_gradient_norm: float = 1.0
    dense_share: float = 0.25
    min_keep_ratio: float = 0.12
    max_keep_ratio: float = 1.0
    free_tint_share: float = 0.35
    token_loss_weight: float = 1.0
    position_loss_weight: float = 0.3
    mention_loss_weight: float = 0.3
    order_loss_weight: float = 0.5
    background_weight: float = 0.3
    num_workers: int = 0
    first_batch: int = 0


# What the shipped checkpoint went through, in order; each stage starts from the one before.
STAGES = {
    'dense_only': TrainingConfig(steps=0, minutes=8.0, batch_size=224, dense_share=1.0),
    'patch_dropout': TrainingConfig(
        steps=0, minutes=10.0, batch_size=224, first_batch=1_000_000, warmup_steps=50)}
