"""Kernels that compute something else are found out before an answer is built on them."""

from __future__ import annotations

from typing import Any

from epvlm_ros.core.captured.operations import Operations
from epvlm_ros.core.captured.trial import check_operations, run_trial
from epvlm_ros.core.captured.weights import DecoderWeights
import pytest
from qwen_checkpoints import make_model
import torch


@pytest.fixture(scope='module')
def weights() -> DecoderWeights:
    model = make_model('narrow')
    return DecoderWeights.of(model.model.language_model, model.lm_head)


class WrongRotation(Operations):

    def rotate(self, values: Any, cos: Any, sin: Any) -> None:
        super().rotate(values, cos, -sin)


class WrongSum(Operations):

    def linear_add(self, values: Any, linear: Any, hidden: Any) -> None:
        super().linear_add(1.2 * values, linear, hidden)


class NoNumber(Operations):

    def gated_linear(self, hidden: Any, norm: Any, mlp: Any) -> Any:
        return super().gated_linear(hidden, norm, mlp) * float('nan')


def test_plain_torch_agrees_with_itself(weights: DecoderWeights) -> None:
    check_operations(weights, Operations())


@pytest.mark.parametrize('operations, part', [
    (WrongRotation(), 'encoder|language model'), (WrongSum(), 'language model'),
    (NoNumber(), 'language model')])
def test_wrong_kernels_are_refused(
    weights: DecoderWeights, operations: Operations, part: str,
) -> None:
    with pytest.raises(RuntimeError, match=f'kernels of the ({part}) do not compute'):
        check_operations(weights, operations)


def test_the_trial_is_a_prompt_that_goes_on(weights: DecoderWeights) -> None:
    """Its five rows are a prefill, a question behind it and three steps, all of them different."""
    logits = run_trial(weights, Operations())
    assert logits.shape == (5, len(weights.embedding))
    assert torch.isfinite(logits).all()
    assert torch.cdist(logits, logits)[~torch.eye(5, dtype=torch.bool)].min() > 1e-3
