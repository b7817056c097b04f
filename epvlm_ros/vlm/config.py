"""The parameters of the model half and the only home of their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from epvlm_ros.config_fields import parameter, Validated

_LOWEST_TEMPERATURE = 0.001  # logits are divided by it


@dataclass(frozen=True)
class VlmConfig(Validated):
    """Which model answers, and how much of each frame it computes on."""

    model: str = parameter(
        '', 'Folder or hub name of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint; empty is the '
        'embedded one.')
    device: str = parameter(
        'auto', 'Device of the model: auto, cpu, cuda or cuda:N.')
    dtype: str = parameter(
        'auto', 'Number type of the model; auto is bfloat16 on a GPU and float32 on a CPU.',
        choices=('auto', 'float32', 'bfloat16', 'float16'))
    attention: str = parameter(
        'sdpa', 'Attention implementation of transformers.',
        choices=('sdpa', 'eager', 'flash_attention_2'))
    acceleration: str = parameter(
        'auto', 'How the model runs: auto (recorded functions of fixed shapes on a GPU, where '
        'there are any for its family) or eager (as the library runs it).',
        choices=('auto', 'eager'))
    cache_tokens: int = parameter(
        4096, 'Most tokens of a prompt and its answer that recorded functions take, kept ones of '
        'the image included; longer ones run eagerly.', minimum=64, maximum=32768)
    warm_up_sizes: str = parameter(
        '', 'Sizes of images whose functions are recorded before the first question, such as '
        '640x480 1280x720; others are recorded when they come for the second time.')
    allow_download: bool = parameter(
        False, 'Whether a model that is not on this machine may be downloaded from the hub.')
    keep_ratio: float = parameter(
        0.5, 'Share of the visual tokens that is computed on; 1.0 is the dense model.',
        minimum=0.01, maximum=1.0, dynamic=True)
    selection: str = parameter(
        'events_and_saliency',
        'How tokens are chosen: events (the most active ones), events_and_detail (the moving '
        'ones, and still_share for the detail of the still scene), events_and_coverage (moving '
        'regions, and still_share for even coverage), events_and_saliency (what stands out by '
        'its colour or its events), detail, saliency, centre, uniform (a regular pattern) or '
        'random.',
        choices=('events', 'events_and_detail', 'events_and_coverage', 'events_and_saliency',
                 'detail', 'saliency', 'centre', 'uniform', 'random'), dynamic=True)
    still_share: float = parameter(
        0.25, 'Share of the kept tokens for what stands still, in selection events_and_detail '
        'and events_and_coverage.', minimum=0.0, maximum=1.0, dynamic=True)
    static_scene_policy: str = parameter(
        'dense', 'What is computed when hardly any events came: dense (all tokens), uniform (a '
        'regular pattern of keep_ratio), detail (keep_ratio, where the image shows most) or '
        'saliency (keep_ratio, where its colour stands out).',
        choices=('dense', 'uniform', 'detail', 'saliency'), dynamic=True)
    static_scene_rate: float = parameter(
        2.0, 'Nothing moves in a visual token that sees no more than this many events per pixel '
        'of the event sensor and second; a scene is static where that holds for all tokens.',
        minimum=0.0, dynamic=True)
    max_new_tokens: int = parameter(
        64, 'Most tokens that an answer is made of.', minimum=1, maximum=4096, dynamic=True)
    deadline: float = parameter(
        0.0, 'Longest time from a question to the end of its answer, in seconds; what there is '
        'by then is the answer. 0 is no limit.', minimum=0.0, maximum=3600.0, dynamic=True)
    temperature: float = parameter(
        0.0, '0 takes the most probable token each time; above, tokens are drawn, the more evenly '
        'the higher.', minimum=0.0, maximum=10.0, dynamic=True)
    top_p: float = parameter(
        1.0, 'Tokens are drawn from the fewest that have this probability together; counts with '
        'a temperature above 0.', minimum=0.01, maximum=1.0, dynamic=True)
    seed: int = parameter(
        0, 'Start of the drawing of tokens: the same seed draws the same answer to the same '
        'question.', minimum=0, maximum=2 ** 31 - 1, dynamic=True)
    repetition_penalty: float = parameter(
        0.0, 'Factor by which tokens of the prompt and of the answer so far lose, 1.0 for none; 0 '
        'takes what the checkpoint sets.', minimum=0.0, maximum=10.0, dynamic=True)
    max_question_length: int = parameter(
        2000, 'Most characters of a question; a longer one is refused.',
        minimum=1, maximum=100000, dynamic=True)
    system_prompt: str = parameter(
        '', 'What the model is told before every question, for models that follow instructions; '
        'empty leaves it to the chat template.')
    max_pixels: int = parameter(
        0, 'Most pixels of the image after the resize of the model; 0 leaves it to the model.',
        minimum=0)
    num_threads: int = parameter(
        0, 'CPU threads of torch; 0 leaves it to torch.', minimum=0, maximum=1024)

    def __post_init__(self) -> None:
        """Check each value, that a temperature can be computed with and a penalty is one."""
        super().__post_init__()
        self.read_warm_up_sizes()
        if 0.0 < self.temperature < _LOWEST_TEMPERATURE:
            raise ValueError(
                f'temperature is {self.temperature}: give at least {_LOWEST_TEMPERATURE}, or 0 '
                'for the most probable token each time')
        if 0.0 < self.repetition_penalty < 1.0:
            raise ValueError(
                f'repetition_penalty is {self.repetition_penalty}, which would reward '
                'repetition: give at least 1.0, or 0 for what the checkpoint sets')

    def read_warm_up_sizes(self) -> list[tuple[int, int]]:
        """
        Return (width, height) of each of ``warm_up_sizes``.

        Raises
        ------
        ValueError
            If it is not made of sizes.

        """
        sizes = []
        for size in self.warm_up_sizes.split():
            numbers = size.split('x')
            if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
                raise ValueError(
                    f'warm_up_sizes is {self.warm_up_sizes!r}: give widths and heights such as '
                    '640x480 1280x720')
            sizes.append((int(numbers[0]), int(numbers[1])))
        return sizes
