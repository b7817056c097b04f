"""What a model cannot do although the question is a good one."""


class ModelError(RuntimeError):
    """The model cannot answer; the text says why and names the remedy."""


class NonFiniteLogits(ModelError):
    """The model computed NaN or infinite logits, of which no token can be sampled."""

    def __init__(self) -> None:
        super().__init__(
            'the model computed logits that are NaN or infinite: its weights are damaged, or its '
            'numbers are too large for float16; load the checkpoint anew, or give dtype bfloat16 '
            'or float32')
