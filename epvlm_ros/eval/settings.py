"""Settings of an evaluation: a policy at a budget, and the engine's configuration for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from epvlm_ros.eval.budget import Budget
from epvlm_ros.eval.policies import CONTROLS, DENSE, selection_of
from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.token_selection import IMAGE_SCORES


@dataclass(frozen=True)
class Setting:
    """A policy at a budget; the policy 'dense' keeps everything."""

    policy: str
    budget: Budget

    @property
    def name(self) -> str:
        """Return for example 'events, keep 0.5'."""
        return DENSE if self.policy == DENSE else f'{self.policy}, {self.budget.name}'


def make_settings(policies: Iterable[str], budgets: Iterable[Budget]) -> list[Setting]:
    """Return dense and every policy at every budget."""
    dense = Setting(DENSE, Budget('keep', 1.0))
    return [dense, *(Setting(policy, budget) for budget in budgets for policy in policies)]


def configure(
    config: VlmConfig, policy: str, keep_ratio: float = 1.0, num_moments: int = 1,
) -> VlmConfig:
    """
    Return the configuration of the engine for a policy.

    In a static scene every policy stays within its budget: one that scores the image falls back to
    these scores, the others to even coverage. The scores of a control have no noise level.
    """
    selection = selection_of(policy, num_moments)
    return replace(
        config, keep_ratio=keep_ratio, selection=selection,
        static_scene_policy=IMAGE_SCORES.get(selection, 'uniform'),
        static_scene_rate=0.0 if policy in CONTROLS else config.static_scene_rate)
