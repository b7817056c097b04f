"""Question to token ids of the prompt, and token ids of the answer to text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import TemplateError
import torch

UNFINISHED_CHARACTER = '\N{REPLACEMENT CHARACTER}'
# A template is a program: one for text only fails on a list of parts like any Python code.
_TEMPLATE_ERRORS = (
    TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class PromptBuilder:
    """
    Builds prompts with the chat template of a checkpoint.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Not changed.
    chat_template : str
        In Jinja.
    image_token_id, video_token_id : int
        Placeholder of one visual token of an image, or of several moments.
    tells_times : bool
        Whether the prompt gives the time of each moment in text (Qwen3-VL).
    system_prompt : str
        Empty leaves it to the template.

    Raises
    ------
    ValueError
        If the template does not place exactly one image, leaves the system prompt out, or that
        holds control tokens.

    """

    def __init__(
        self, tokenizer: Any, chat_template: str, image_token_id: int,
        video_token_id: int | None = None, *, tells_times: bool = False,
        system_prompt: str = '',
    ) -> None:
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._image_token_id = image_token_id
        self._video_token_id = image_token_id if video_token_id is None else video_token_id
        self._tells_times = tells_times
        self._system_prompt = system_prompt
        self._control_ids = {
            index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        # the unknown token stands for a word that the model does not know: no control at all
        self._control_ids.discard(tokenizer.unk_token_id)
        try:
            placed = self._place('?')
        except _TEMPLATE_ERRORS as error:
            reason = ' '.join(str(error).split())
            raise ValueError(
                f'the chat template of the model refuses the prompt ({reason}): leave the system '
                'prompt empty, or give a checkpoint with the chat template of its family') \
                from None
        if self._encode(placed).count(image_token_id) != 1:
            raise ValueError(
                'the chat template of the model does not place one image in the prompt: give a '
                'checkpoint with the chat template of its family')
        self._check_control_tokens(system_prompt, 'the system prompt')
        if system_prompt not in placed:
            raise ValueError(
                'the chat template of the model leaves the system prompt out: put it into the '
                'questions')
        starts = [self._encode(self._place(question)) for question in 'ab']
        ends = [ids.index(image_token_id) + 1 for ids in starts]
        # whether all prompts about an image are the same up to its end
        self.image_comes_first = starts[0][:ends[0]] == starts[1][:ends[1]]

    def prompt_ids(
        self, question: str, num_visual_tokens: int, num_moments: int = 1,
        seconds_between: float = 1.0,
    ) -> torch.Tensor:
        """
        Return the prompt ids of a question, int64 on the CPU, shape (tokens,).

        Parameters
        ----------
        question : str
            Checked by ``check_question``.
        num_visual_tokens : int
            Placeholders per image: all its visual tokens, kept or not.
        num_moments : int
            Images.
        seconds_between : float
            From one moment to the next.

        Raises
        ------
        ValueError
            If the question holds a control token such as ``<|im_end|>`` or ``<|image_pad|>``,
            which would end the user's turn or claim to be an image.

        """
        self._check_control_tokens(question, 'the question')
        text, visual_id = self._place(question), self._image_token_id
        if num_moments > 1:
            text = self._place_moments(text, num_moments, seconds_between)
            visual_id = self._video_token_id
        ids = torch.tensor(self._encode(text))
        counts = torch.where(ids == visual_id, num_visual_tokens, 1)
        return ids.repeat_interleave(counts)

    def choice_ids(self, choices: Sequence[str]) -> list[torch.Tensor]:
        """
        Return the token ids of answers to choose from, each int64 on the CPU, (tokens,).

        Raises a ValueError if one holds a control token, has no token, or all those of another.
        """
        found: dict[tuple[int, ...], str] = {}
        for choice in choices:
            self._check_control_tokens(choice, 'a choice')
            ids = tuple(self._encode(choice))
            if not ids or ids in found:
                other = repr(found.get(ids, ''))
                raise ValueError(
                    f'the model cannot tell the choice {choice!r} from {other}: use other words')
            found[ids] = choice
        return [torch.tensor(ids) for ids in found]

    def _check_control_tokens(self, text: str, name: str) -> None:
        control_ids = self._control_ids.intersection(self._encode(text))
        if control_ids:
            names = self._tokenizer.convert_ids_to_tokens(sorted(control_ids))
            raise ValueError(
                f'{name} holds control tokens of the model ({", ".join(names)}): leave them out')

    def _place(self, question: str) -> str:
        content = [{'type': 'image'}, {'type': 'text', 'text': question}]
        messages: list[dict[str, Any]] = [{'role': 'user', 'content': content}]
        if self._system_prompt:
            told = [{'type': 'text', 'text': self._system_prompt}]
            messages.insert(0, {'role': 'system', 'content': told})
        return self._tokenizer.apply_chat_template(
            messages, chat_template=self._chat_template, tokenize=False,
            add_generation_prompt=True)

    def _place_moments(self, text: str, num_moments: int, seconds_between: float) -> str:
        """Replace the image by moments: chat templates often know images only."""
        ids = self._encode(text)
        place = ids.index(self._image_token_id)
        before, image, after = self._tokenizer.convert_ids_to_tokens(ids[place - 1:place + 2])
        video = self._tokenizer.convert_ids_to_tokens(self._video_token_id)
        if not self._tells_times:
            return text.replace(image, video * num_moments, 1)
        return text.replace(before + image + after, ''.join(
            f'<{moment * seconds_between:.1f} seconds>{before}{video}{after}'
            for moment in range(num_moments)), 1)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


class AnswerText:
    """
    The text of an answer while its tokens come in.

    ``on_text`` gets it in pieces of whole characters, never an empty one.
    """

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None] | None = None) -> None:
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._num_handed_out = 0
        self.token_ids: list[int] = []

    @property
    def text(self) -> str:
        """Return the text so far, without control tokens."""
        return self._tokenizer.decode(self.token_ids, skip_special_tokens=True)

    def append(self, token_id: int) -> None:
        """Take the next token."""
        self.token_ids.append(token_id)
        if self._on_text:
            # a character of several bytes may lie in several tokens: wait for all of it
            text = self.text
            self._hand_out(text[:len(text.rstrip(UNFINISHED_CHARACTER))])

    def finish(self) -> None:
        """Hand out what is left, be it half a character."""
        if self._on_text:
            self._hand_out(self.text)

    def _hand_out(self, text: str) -> None:
        if self._on_text and len(text) > self._num_handed_out:
            piece = text[self._num_handed_out:]
            self._num_handed_out = len(text)
            self._on_text(piece)


def check_question(question: str, max_length: int) -> None:
    """Raise a ValueError if a question is blank, too long or no valid text; needs no model."""
    if not question.strip():
        raise ValueError('the question is empty: give one with words')
    if len(question) > max_length:
        raise ValueError(
            f'the question has {len(question)} characters: give at most {max_length}, or raise '
            'max_question_length')
    if '\x00' in question:
        raise ValueError('the question holds a null character: leave it out')
    try:
        question.encode('utf-8')
    except UnicodeEncodeError as error:
        raise ValueError(f'the question is not valid text: {error.reason}') from None
