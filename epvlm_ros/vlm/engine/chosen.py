"""
The likeliest of some answers.

A choice is as likely as that the model, left to itself, would say just this: the product of the
probabilities of its tokens and of an end token behind them, by the logits alone. The sum of
log-probabilities is how language models are compared on multiple choice (the ``acc`` of
EleutherAI's lm-evaluation-harness). The end belongs to it, or 'a cat' could not be likelier than
its beginning 'a'. There is no reward for length. The probabilities are shares of the choices in
each other, so 1 in all, however unlikely all of them are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from epvlm_ros.vlm.choices import to_probabilities
from epvlm_ros.vlm.engine.answer import EngineAnswer
from epvlm_ros.vlm.sparse_qwen import TextScore


@dataclass(frozen=True)
class Chosen:
    """A choice, the probabilities of all choices, and the confidence in its tokens."""

    text: str
    probabilities: tuple[float, ...]
    mean_log_probability: float
    first_token_margin: float

    @classmethod
    def of(cls, choices: Sequence[str], scores: Sequence[TextScore]) -> Chosen:
        """Choose, given the scores of all; of equal ones the first."""
        totals = [score.log_probability for score in scores]
        best = totals.index(max(totals))
        tokens = scores[best].tokens
        return cls(
            choices[best], to_probabilities(totals),
            sum(token.log_probability for token in tokens) / len(tokens), tokens[0].margin)

    def complete(self, answer: EngineAnswer) -> EngineAnswer:
        """Return an answer without a text with this one; no token of it was generated."""
        return replace(
            answer, text=self.text, probabilities=self.probabilities,
            mean_log_probability=self.mean_log_probability,
            first_token_margin=self.first_token_margin)
