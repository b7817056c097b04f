"""How the embedded checkpoint is made: data, model, training and evaluation."""
