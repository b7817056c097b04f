"""What goes wrong with a server."""

from __future__ import annotations

from epvlm_ros.vlm.model_error import ModelError


class ServerError(ModelError):
    """
    The server did not answer; the text says why and names the remedy.

    Parameters
    ----------
    text : str
        In one line.
    is_passing : bool
        Whether the same question may succeed a moment later.
    is_fault : bool
        Whether the server is at fault, not the question.
    retry_after_s : float
        How long the server wants to be left alone.

    """

    def __init__(
        self, text: str, *, is_passing: bool = False, is_fault: bool = True,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(text)
        self.is_passing, self.is_fault = is_passing, is_fault
        self.retry_after_s = retry_after_s
        self.num_tokens = 0  # that had come before
