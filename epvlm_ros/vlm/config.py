"""The parameters of the model half and their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from epvlm_ros.config_fields import parameter, Validated

_LOWEST_TEMPERATURE = 0.001  # logits are divided by it


@dataclass(frozen=True)
class VlmConfig(Validated):
    """The model, the token selection and the decoding of answers."""

    model: str = parameter(
        '', 'Folder or hub name of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint, the latter as '
        'name or name@revision; empty is the embedded one.')
    revision: str = parameter(
        '', 'Commit, tag or branch of a model on the hub; empty is its main branch.')
    device: str = parameter(
        'auto', 'Device of the model: auto, cpu, cuda or cuda:N.')
    dtype: str = parameter(
        'auto', 'Data type of the weights; auto is bfloat16 on a GPU and float32 on a CPU.',
        choices=('auto', 'float32', 'bfloat16', 'float16'))
    weights: str = parameter(
        'as_stored', 'Size of the weights: as_stored, int8 (8 bits, made of plain weights when '
        'the model is loaded) or int4 (4 bits in the layers of the language model, 8 elsewhere).',
        choices=('as_stored', 'int8', 'int4'))
    attention: str = parameter(
        'sdpa', 'Attention implementation of transformers.',
        choices=('sdpa', 'eager', 'flash_attention_2'))
    acceleration: str = parameter(
        'auto', 'Backend of the model: auto (CUDA graphs on a GPU, eager elsewhere) or eager.',
        choices=('auto', 'eager'))
    cache_tokens: int = parameter(
        4096, 'Size of the key-value cache of the CUDA graphs, in tokens of prompt and answer; '
        'longer ones run eagerly.', minimum=64, maximum=32768)
    warm_up_sizes: str = parameter(
        '', 'Image sizes whose CUDA graphs are captured at start, such as 640x480 1280x720; other '
        'sizes are captured when they come for the second time.')
    allow_download: bool = parameter(
        False, 'Allow download of the model from the hub; if false, the network is not used.')
    keep_ratio: float = parameter(
        0.5, 'Fraction of the visual tokens of a frame to keep, which several frames of a '
        'question share; 1.0 is the dense model, all tokens of all frames.',
        minimum=0.01, maximum=1.0, dynamic=True)
    selection: str = parameter(
        'events_and_objectness',
        'Token selection policy: events (most events), events_and_detail (moving tokens, and '
        'still_share of the budget by image gradient), events_and_coverage (moving regions, and '
        'still_share in a regular pattern), events_and_saliency (events and colour contrast), '
        'events_and_objectness (events, edges and colour contrast), detail (image gradient), '
        'saliency (colour contrast), objectness (edges and colour contrast), centre, uniform '
        '(regular pattern) or random.',
        choices=('events', 'events_and_detail', 'events_and_coverage', 'events_and_saliency',
                 'events_and_objectness', 'detail', 'saliency', 'objectness', 'centre', 'uniform',
                 'random'), dynamic=True)
    still_share: float = parameter(
        0.25, 'Fraction of the kept tokens for the still scene, in selection events_and_detail '
        'and events_and_coverage.', minimum=0.0, maximum=1.0, dynamic=True)
    static_scene_policy: str = parameter(
        'dense', 'Token selection for static scenes, and without event data: dense (all tokens), '
        'or keep_ratio of them by uniform (regular pattern), detail (image gradient), saliency '
        '(colour contrast) or objectness (edges and colour contrast).',
        choices=('dense', 'uniform', 'detail', 'saliency', 'objectness'), dynamic=True)
    static_scene_rate: float = parameter(
        2.0, 'Noise rate, in events per sensor pixel and second: a scene is static if no visual '
        'token has more.',
        minimum=0.0, dynamic=True)
    scene_memory: bool = parameter(
        False, 'Whether the scene is kept in memory: then only what changed since the last frame '
        'is computed, at most keep_ratio of the tokens at a time; else every frame is looked at '
        'as if it were the first.', dynamic=True)
    memory_context: str = parameter(
        'scene', 'What a changed token sees in the encoder: scene (the states of all tokens, '
        'which are kept) or alone (other changed tokens; less memory, less accurate).',
        choices=('scene', 'alone'))
    memory_fill: str = parameter(
        'progressive', 'How a new scene is computed: progressive (keep_ratio of the tokens with '
        'each frame, beside what changed) or at_once (all with the first frame).',
        choices=('progressive', 'at_once'), dynamic=True)
    memory_image_check: bool = parameter(
        True, 'Whether pixels are compared as well: tokens that differ are computed again '
        'without events too, those that do not are kept in spite of events.', dynamic=True)
    memory_max_age: float = parameter(
        0.0, 'Maximum age of a token in the scene in memory, in seconds: all are computed again '
        'at least so often, spread over frames; 0 is never.', minimum=0.0, maximum=86400.0,
        dynamic=True)
    memory_motion_share: float = parameter(
        0.3, 'Fraction of the tokens that change at once when the camera moves: the scene is '
        'forgotten, and frames are computed by themselves until it rests.', minimum=0.01,
        maximum=1.0, dynamic=True)
    change_threshold: float = parameter(
        8.0, 'Events above the noise floor from which on a token has changed.', minimum=0.0,
        maximum=65535.0, dynamic=True)
    change_margin_px: int = parameter(
        0, 'How many image pixels events may lie beside their cause, where registration is off; '
        'widens what counts as changed.', minimum=0, maximum=64, dynamic=True)
    memory_limit: float = parameter(
        0.0, 'Maximum memory of what is kept of all cameras (scenes in memory, prompts up to the '
        'end of their images), in megabytes: beyond it that of the camera that was asked about '
        'least recently goes, never that in use; 0 is no limit.',
        minimum=0.0, maximum=1e9, dynamic=True)
    max_new_tokens: int = parameter(
        64, 'Maximum number of tokens of an answer.', minimum=1, maximum=4096, dynamic=True)
    deadline: float = parameter(
        0.0, 'Time limit of an answer, in seconds from its question; the text so far is then '
        'the answer. 0 is no limit.', minimum=0.0, maximum=3600.0, dynamic=True)
    temperature: float = parameter(
        0.0, 'Sampling temperature; 0 is greedy decoding.', minimum=0.0, maximum=10.0,
        dynamic=True)
    top_p: float = parameter(
        1.0, 'Nucleus sampling threshold: cumulative probability of the tokens to sample from; '
        'used with a temperature above 0.', minimum=0.01, maximum=1.0, dynamic=True)
    seed: int = parameter(
        0, 'Random seed of sampling: the same seed gives the same answer to the same question.',
        minimum=0, maximum=2 ** 31 - 1, dynamic=True)
    repetition_penalty: float = parameter(
        0.0, 'Repetition penalty on tokens of the prompt and of the answer so far; 1.0 is none, 0 '
        'is the value of the checkpoint.', minimum=0.0, maximum=10.0, dynamic=True)
    max_question_length: int = parameter(
        2000, 'Maximum number of characters of a question; longer ones are refused.',
        minimum=1, maximum=100000, dynamic=True)
    system_prompt: str = parameter(
        '', 'System prompt of every question; empty is the default of the chat template.')
    max_pixels: int = parameter(
        0, 'Maximum number of pixels of an image after resizing; 0 is the value of the model.',
        minimum=0)
    num_threads: int = parameter(
        0, 'Number of CPU threads of torch; 0 is the default of torch.', minimum=0, maximum=1024)

    def __post_init__(self) -> None:
        """Check each value; a temperature must not overflow, a penalty must be one."""
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

    @property
    def model_name(self) -> str:
        """Return what the model is called in answers and logs."""
        return self.model or 'embedded model'

    def read_warm_up_sizes(self) -> list[tuple[int, int]]:
        """Return (width, height) of each of ``warm_up_sizes``; a ValueError if malformed."""
        sizes = []
        for size in self.warm_up_sizes.split():
            numbers = size.split('x')
            if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
                raise ValueError(
                    f'warm_up_sizes is {self.warm_up_sizes!r}: give widths and heights such as '
                    '640x480 1280x720')
            sizes.append((int(numbers[0]), int(numbers[1])))
        return sizes


@dataclass(frozen=True)
class ServerConfig(Validated):
    """A server whose model answers in place of one on this computer."""

    server: str = parameter(
        '', 'URL of a server with the model, such as http://host:8000, an epvlm-serve or another '
        'one with the API of OpenAI; then model names the same checkpoint, of which no weights '
        'are loaded. Empty is a model on this computer.')
    server_model: str = parameter(
        '', 'Name of the model on the server; empty is the only one that it lists.')
    server_timeout: float = parameter(
        10.0, 'Maximum time without a further token of the server, in seconds; from the question '
        'on, the time until it is reached included.', minimum=0.1, maximum=600.0)
    server_retries: int = parameter(
        2, 'How often a question is sent again that the server did not take, or broke off before '
        'its first token, after pauses that double.', minimum=0, maximum=10)
    server_max_failures: int = parameter(
        3, 'Number of questions in a row that the server fails before it is left alone for '
        'server_pause.', minimum=1, maximum=1000)
    server_pause: float = parameter(
        10.0, 'Time in seconds for which a server that failed is not asked; the next question '
        'after it is a trial.', minimum=0.1, maximum=3600.0)
    server_fallback: str = parameter(
        'none', 'What answers while the server is away: none (the answer is ERROR) or embedded '
        '(the embedded model, which is loaded too).', choices=('none', 'embedded'))
    server_jpeg_quality: int = parameter(
        95, 'Quality of the JPEG pictures that are sent; lower ones are smaller.', minimum=1,
        maximum=100)

    def __post_init__(self) -> None:
        """Check each value; the URL must be complete and hold no secret."""
        super().__post_init__()
        if self.server:
            fault = _find_fault(self.server)
            if fault:  # what is before an @ may be a password
                shown = self.server.rpartition('@')[2]
                raise ValueError(f'server is {shown!r}: {fault}')


def _find_fault(url: str) -> str:
    """Return what to do about the URL of a server, or an empty text."""
    example = 'give a URL such as http://host:8000'
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in ('http', 'https') and parts.hostname and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete or not url.isprintable() or ' ' in url:
        return example
    if '@' in parts.netloc:
        return 'leave name and password out; a key goes into EPVLM_SERVER_KEY'
    if parts.query or parts.fragment:
        return f'leave out what follows the path; {example}'
    if parts.path.rstrip('/').endswith(('/v1', '/completions')):
        return 'leave out /v1 and what follows it'
    return ''
