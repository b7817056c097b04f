"""
Accuracies with paired bootstrap confidence intervals.

All settings answer the same questions, so differences are taken within each resample. Images are
resampled, with all their questions: answers about one image are not independent (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993; percentile intervals).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 10_000
_AT_ONCE = 500
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% confidence interval; NaN where there is nothing to estimate from."""

    value: float
    low: float
    high: float


class PairedBootstrap:
    """
    Resamples of the images of a question set, the same for every comparison.

    ``images``, int64 (questions,), not empty, is the number of the image of each question, from 0.
    10,000 resamples give the bounds to about 2% of their width.
    """

    def __init__(
        self, images: np.ndarray, num_resamples: int = NUM_RESAMPLES, seed: int = 0,
    ) -> None:
        if not len(images):
            raise ValueError('there are no answers to compare: ask at least one question')
        self._images = images
        num_images = int(images.max()) + 1
        random = np.random.default_rng([26, seed])
        drawn = [
            random.multinomial(num_images, np.full(num_images, 1.0 / num_images), size=size)
            for size in np.diff([*range(0, num_resamples, _AT_ONCE), num_resamples])]
        self._times_drawn = np.concatenate(drawn).astype(np.float32)  # (resamples, images)
        self._known: dict[bytes, tuple[float, np.ndarray]] = {}

    def accuracy(self, right: np.ndarray, chosen: np.ndarray | None = None) -> Estimate:
        """Return the share of right answers among the chosen ones; masks are bool (questions,)."""
        value, resampled = self._means(right, self._all(chosen))
        return _interval(value, resampled)

    def difference(
        self, right: np.ndarray, reference: np.ndarray, chosen: np.ndarray | None = None,
    ) -> Estimate:
        """Return the share of right answers less that of a reference on the same questions."""
        chosen = self._all(chosen)
        value, resampled = self._means(right, chosen)
        reference_value, reference_resampled = self._means(reference, chosen)
        return _interval(value - reference_value, resampled - reference_resampled)

    def change(self, right: np.ndarray, chosen: np.ndarray, earlier: np.ndarray) -> Estimate:
        """Return the share of right answers among the chosen ones less that among earlier ones."""
        value, resampled = self._means(right, chosen)
        reference_value, reference_resampled = self._means(right, earlier)
        return _interval(value - reference_value, resampled - reference_resampled)

    def retention(
        self, right: np.ndarray, reference: np.ndarray, chosen: np.ndarray | None = None,
    ) -> Estimate:
        """Return the share of right answers over that of a reference, NaN if that has none."""
        chosen = self._all(chosen)
        value, resampled = self._means(right, chosen)
        reference_value, reference_resampled = self._means(reference, chosen)
        with np.errstate(divide='ignore', invalid='ignore'):
            return _interval(
                float(np.divide(value, reference_value)), resampled / reference_resampled)

    def _all(self, chosen: np.ndarray | None) -> np.ndarray:
        return np.ones(len(self._images), np.bool_) if chosen is None else chosen

    def _means(self, right: np.ndarray, chosen: np.ndarray) -> tuple[float, np.ndarray]:
        key = right.tobytes() + chosen.tobytes()
        if key not in self._known:  # each setting is compared with several others
            num_right, right_drawn = self._draw(chosen & right)
            num_asked, asked_drawn = self._draw(chosen)
            with np.errstate(divide='ignore', invalid='ignore'):
                # in float64, as the value is: an interval must hold it
                self._known[key] = (
                    float(np.divide(num_right, num_asked)),
                    right_drawn.astype(np.float64) / asked_drawn)
        return self._known[key]

    def _draw(self, mask: np.ndarray) -> tuple[float, np.ndarray]:
        """Return how many questions a mask holds, in all images and in each resample."""
        counts = np.bincount(
            self._images[mask], minlength=self._times_drawn.shape[1]).astype(np.float32)
        return float(counts.sum()), self._times_drawn @ counts


def _interval(value: float, resampled: np.ndarray) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return Estimate(value, float('nan'), float('nan'))
    low, high = np.percentile(known, _PERCENTILES)
    return Estimate(value, float(low), float(high))
