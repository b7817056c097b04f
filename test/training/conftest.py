"""A model that is not trained."""

import pytest
import torch
from training.checkpoint import build_model


@pytest.fixture(scope='module')
def model():
    """Return a model with random weights, norms and biases included."""
    torch.manual_seed(0)
    model = build_model().eval()
    for name, value in model.named_parameters():
        if value.ndim == 1:
            torch.nn.init.normal_(value, 0.0 if 'bias' in name else 1.0, 0.1)
    return model
