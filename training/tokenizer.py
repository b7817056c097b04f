"""The word-level tokenizer of the small model."""

from __future__ import annotations

from epvlm_ros.sim.wording import vocabulary
from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers, Regex, Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

PADDING, START, END = '<|endoftext|>', '<|im_start|>', '<|im_end|>'
VISION_START, VISION_END = '<|vision_start|>', '<|vision_end|>'
IMAGE, VIDEO = '<|image_pad|>', '<|video_pad|>'
SPECIAL_TOKENS = (PADDING, START, END, VISION_START, VISION_END, IMAGE, VIDEO)
UNKNOWN_WORD = '[UNK]'
ROLES = ('user', 'assistant', 'system')

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif item['type'] == 'text' %}{{ item['text'] }}{% endif %}"
    '{% endfor %}{% endif %}<|im_end|>\n'
    '{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}')


def build_vocabulary() -> dict[str, int]:
    """Return the number of every token: special ones first, then words."""
    words = [*SPECIAL_TOKENS, UNKNOWN_WORD, *ROLES, *vocabulary()]
    return {word: number for number, word in enumerate(words)}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """
    Return the tokenizer of questions and answers.

    Case, question marks, other punctuation and line breaks make no difference; a word that
    was never seen becomes ``[UNK]``. Decoding puts commas where they belong.
    """
    model = Tokenizer(WordLevel(build_vocabulary(), unk_token=UNKNOWN_WORD))
    model.normalizer = normalizers.Sequence([
        normalizers.NFKC(), normalizers.Lowercase(),
        normalizers.Replace(Regex("['\u2019]s\\b"), ' is'),
        normalizers.Replace(Regex('[?!.:;"\u201c\u201d()-]'), ' ')])
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    # It adds blanks between words and takes them away again before a comma.
    model.decoder = decoders.WordPiece(prefix='##', cleanup=True)
    model.add_special_tokens([
        AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token=UNKNOWN_WORD, pad_token=PADDING, eos_token=END,
        extra_special_tokens=[START, VISION_START, VISION_END, IMAGE, VIDEO],
        chat_template=CHAT_TEMPLATE, model_max_length=4096, clean_up_tokenization_spaces=False)
