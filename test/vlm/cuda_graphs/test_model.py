"""
The model with CUDA graphs against the library, the functions run one kernel at a time.

Where there is no GPU nothing is captured; what is computed is the same. The last tests, on a GPU,
compare CUDA graphs and fused kernels with the library.
"""

from __future__ import annotations

from typing import Any

from epvlm_ros.vlm.cuda_graphs import CudaGraphQwenVl, Unsupported
from epvlm_ros.vlm.cuda_graphs.graphs import FixedShapeFunction, GraphPool
from epvlm_ros.vlm.cuda_graphs.model import STEPS_AHEAD
from epvlm_ros.vlm.cuda_graphs.operations import Operations
from epvlm_ros.vlm.cuda_graphs.sizes import padded_size
from epvlm_ros.vlm.sparse_qwen import Sampling, SparseQwenVl
from masked_dense_reference import MaskedDenseReference
import pytest
from qwen_checkpoints import (
    library_inputs, make_model, make_moments_prompt, make_prompt, make_prompt_for, make_vision,
    MODELS, needs_gpu, with_lengths)
from qwen_shapes import END_OF_TEXT, SHAPES
import torch

pytestmark = pytest.mark.long

TOLERANCE = 1e-4
ANSWER_LENGTH = 128


def make_graphs(shape: str, **options: Any) -> CudaGraphQwenVl:
    return CudaGraphQwenVl(SparseQwenVl(make_model(shape)), **{'cache_tokens': 512, **options})


@pytest.mark.parametrize('shape, length', with_lengths((shape,) for shape in MODELS))
def test_keeping_all_equals_the_library(shape: str, length: int) -> None:
    model, vision = make_model(shape), make_vision(5, 9, keep_ratio=1.0, shape=shape)
    prompt_ids = make_prompt_for(shape, 45)
    inputs = library_inputs(vision, prompt_ids, model.config.image_token_id)
    with torch.no_grad():
        expected = model(**inputs).logits[0, -1]
    generated = model.generate(
        **inputs, do_sample=False, max_new_tokens=length, min_new_tokens=length,
        eos_token_id=None, pad_token_id=0)
    graphs = CudaGraphQwenVl(SparseQwenVl(model), cache_tokens=512)
    state = graphs.prefill(prompt_ids, vision, graphs.encode(vision))
    assert (state.logits - expected).abs().max() <= TOLERANCE
    token_ids = list(graphs.decode(state, (), length))
    assert token_ids == generated[0, len(prompt_ids):].tolist()


@pytest.mark.parametrize('shape, usual_ratios, length', with_lengths(
    (shape, usual_ratios) for shape in SHAPES for usual_ratios in ((), (0.3,))))
def test_dropped_tokens_equal_masked_ones(
    shape: str, usual_ratios: tuple[float, ...], length: int,
) -> None:
    vision, prompt_ids = make_vision(5, 9, 0.3, 11, shape=shape), make_prompt_for(shape, 45)
    reference = MaskedDenseReference(shape, vision, prompt_ids)
    graphs = make_graphs(shape, usual_ratios=usual_ratios)
    features = graphs.encode(vision)
    expected_tokens, _ = reference.encode()
    assert (features.tokens - expected_tokens[reference.kept_tokens]).abs().max() <= TOLERANCE

    expected_logits, _ = reference.prefill()
    state = graphs.prefill(prompt_ids, vision, features)
    assert (state.logits - expected_logits[-1]).abs().max() <= TOLERANCE
    token_ids = list(graphs.decode(state, (), length))
    reference.reset()
    expected_ids, narrowest_lead = reference.decode(length)
    assert narrowest_lead > TOLERANCE  # else rounding might choose, and the case proves nothing
    assert token_ids == expected_ids


def test_padding_changes_nothing() -> None:
    # 14 of 45 tokens: padded to 16 in the encoder, unless 0.3 is usual
    vision = make_vision(5, 9, keep_ratio=0.3)
    assert len(vision.kept_indices) == 14 and padded_size(14, 8, 8) == 16
    exact, padded = make_graphs('narrow', usual_ratios=(0.3,)), make_graphs('narrow')
    poisoned = make_vision(6, 6, keep_ratio=15 / 36)  # leaves numbers where padding will be
    poisoned.pixel_values.fill_(1e4)
    padded.encode(poisoned)
    difference = exact.encode(vision).tokens - padded.encode(vision).tokens
    assert difference.abs().max() <= 1e-5


@pytest.mark.parametrize('seconds_between', [3.0, 5000.0])  # the latter beyond all tables
@pytest.mark.parametrize('shape', SHAPES)
def test_several_moments_equal_the_eager_run(shape: str, seconds_between: float) -> None:
    vision = make_vision(
        5, 4, 0.4, 3, shape=shape, num_moments=3, seconds_between=seconds_between)
    prompt_ids = make_moments_prompt(shape, 3, 20, seconds_between)
    eager, graphs = SparseQwenVl(make_model(shape)), make_graphs(shape)
    features, expected = graphs.encode(vision), eager.encode(vision)
    assert (features.tokens - expected.tokens).abs().max() <= TOLERANCE
    expected_state = eager.prefill(prompt_ids, vision, expected)
    state = graphs.prefill(prompt_ids, vision, features)
    assert state.next_position == expected_state.next_position
    assert (state.logits - expected_state.logits).abs().max() <= TOLERANCE
    expected_ids = list(eager.decode(expected_state, (), 24))
    assert list(graphs.decode(state, (), 24)) == expected_ids
    answer = graphs.extend(state.prefix, state.prefix.text_after(prompt_ids))
    assert list(graphs.decode(answer, (), 24)) == expected_ids


def test_a_further_question_equals_a_whole_prompt() -> None:
    graphs, eager = make_graphs('wide'), SparseQwenVl(make_model('wide'))
    vision = make_vision(4, 6, keep_ratio=0.5, shape='wide')
    prompts = [make_prompt(24, question) for question in ('what moves?', 'where is it now?', '?')]
    features = graphs.encode(vision)
    state = graphs.prefill(prompts[0], vision, features)
    list(graphs.decode(state, (), 30))  # the answer lies behind the image in the cache
    prefixes = {
        'in the cache': state.prefix, 'of the image': graphs.prefill_image(
            prompts[0], vision, features),
        'eager': eager.prefill_image(prompts[0], vision, eager.encode(vision))}
    for prompt_ids in prompts:
        expected = eager.prefill(prompt_ids, vision, eager.encode(vision))
        expected_ids = list(eager.decode(expected, (), 12))
        for prefix in prefixes.values():
            text_ids = prefix.text_after(prompt_ids)
            answer = graphs.extend(prefix, text_ids)
            assert list(graphs.decode(answer, (), 12)) == expected_ids
            assert answer.next_position == expected.next_position
        # and the other way round: the eager model goes on from a prefix of the CUDA graphs
        state = eager.extend(prefixes['in the cache'], text_ids)
        assert list(eager.decode(state, (), 12)) == expected_ids


def test_several_questions_at_once_go_on_from_a_captured_prefix() -> None:
    graphs = make_graphs('narrow')
    vision = make_vision(4, 6, keep_ratio=0.5)
    prompt_ids = make_prompt(24)
    state = graphs.prefill(prompt_ids, vision, graphs.encode(vision))
    texts = [state.prefix.text_after(make_prompt(24, question)) for question in ('a?', 'bcd?')]
    alone = [list(graphs.decode(graphs.extend(state.prefix, text), (), 6)) for text in texts]
    together = list(graphs.decode_together(graphs.extend_together(state.prefix, texts), (), 6))
    for number, token_ids in enumerate(alone):
        assert [dict(tokens)[number] for tokens in together] == token_ids


def test_steps_by_hand_equal_decoding() -> None:
    graphs, vision, prompt_ids = make_graphs('narrow'), make_vision(3, 3, 0.5), make_prompt(9)
    features = graphs.encode(vision)
    expected = list(graphs.decode(graphs.prefill(prompt_ids, vision, features), (), 8))
    state = graphs.prefill(prompt_ids, vision, features)
    token_ids = []
    for _ in range(8):
        token_ids.append(int(state.logits.argmax()))
        graphs.step(state, token_ids[-1])
    assert token_ids == expected


def test_decoding_ends_before_an_end_token_at_the_limit_and_when_nobody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graphs, vision, prompt_ids = make_graphs('wide'), make_vision(2, 2, 0.5), make_prompt(4)
    features = graphs.encode(vision)
    started: list[int] = []
    start_token = graphs._start_token

    def count(state: Any, index: int, sampling: Sampling) -> Any:
        started.append(index)
        return start_token(state, index, sampling)

    monkeypatch.setattr(graphs, '_start_token', count)

    def decode(end_token_ids: Any, max_new_tokens: int) -> Any:
        started.clear()
        state = graphs.prefill(prompt_ids, vision, features)
        return graphs.decode(state, end_token_ids, max_new_tokens)

    token_ids = list(decode((), 12))
    assert len(token_ids) == 12 and started == list(range(12))
    end = token_ids[5]
    assert list(decode({end}, 12)) == token_ids[:token_ids.index(end)]
    assert list(decode((), 1)) == token_ids[:1] and started == [0]
    assert list(decode((), 0)) == [] and started == []
    answer = decode((), 100)
    assert [next(answer) for _ in range(3)] == token_ids[:3]
    answer.close()
    assert started == list(range(3 + STEPS_AHEAD))
    assert list(decode((), 12)) == token_ids  # what was computed ahead does no harm


def test_random_answers_repeat_with_their_seed() -> None:
    graphs, vision, prompt_ids = make_graphs('wide'), make_vision(2, 2, 0.5), make_prompt(4)
    features = graphs.encode(vision)

    def decode(sampling: Sampling) -> list[int]:
        state = graphs.prefill(prompt_ids, vision, features)
        return list(graphs.decode(state, (), 12, sampling))

    first = decode(Sampling(1.0, 0.9, seed=1))
    assert decode(Sampling(1.0, 0.9, seed=1)) == first
    assert decode(Sampling(1.0, 0.9, seed=2)) != first
    greedy = decode(Sampling())
    assert decode(Sampling(1.0, 1e-6)) == greedy == decode(Sampling(1e-3)) != first


def test_an_outdated_answer_is_refused() -> None:
    graphs, vision, prompt_ids = make_graphs('narrow'), make_vision(3, 3, 0.5), make_prompt(9)
    features = graphs.encode(vision)
    old = graphs.prefill(prompt_ids, vision, features)
    answer = graphs.decode(old, (), 10)
    next(answer)
    graphs.prefill(prompt_ids, vision, features)
    with pytest.raises(ValueError, match='outdated'):
        next(answer)
    with pytest.raises(ValueError, match='outdated'):
        graphs.step(old, 1)


def test_what_does_not_fit_runs_as_in_the_library() -> None:
    eager, vision, prompt_ids = SparseQwenVl(make_model('narrow')), make_vision(
        5, 9, 0.5), make_prompt(45)
    num_tokens = len(prompt_ids) - 45 + len(vision.kept_indices)
    expected = list(eager.decode(
        eager.prefill(prompt_ids, vision, eager.encode(vision)), (), 40))
    for cache_tokens in (8, num_tokens - 1, 64, 80):  # nothing, no prompt, no long answer fits
        graphs = make_graphs('narrow', cache_tokens=cache_tokens)
        state = graphs.prefill(prompt_ids, vision, graphs.encode(vision))
        assert list(graphs.decode(state, (), 40)) == expected
        text_ids = state.prefix.text_after(prompt_ids)
        assert list(graphs.decode(graphs.extend(state.prefix, text_ids), (), 40)) == expected


@pytest.mark.parametrize('name, value, words', [
    ('rope_parameters', {'rope_type': 'dynamic'}, 'type dynamic'),
    ('hidden_act', 'gelu', 'activation gelu'), ('model_type', 'other_text', 'type other_text')])
def test_other_language_models_are_refused(name: str, value: Any, words: str) -> None:
    model = make_model('narrow')
    setattr(model.config.text_config, name, value)
    with pytest.raises(Unsupported, match=words):
        CudaGraphQwenVl(SparseQwenVl(model))


def test_another_encoder_runs_as_in_the_library(caplog: pytest.LogCaptureFixture) -> None:
    model, vision, prompt_ids = make_model('wide'), make_vision(
        3, 3, 0.5, shape='wide'), make_prompt(9)
    eager = SparseQwenVl(model)
    model.config.vision_config.hidden_act = 'relu'
    graphs = CudaGraphQwenVl(SparseQwenVl(model), cache_tokens=256)
    assert 'the encoder runs as in the library: the encoder is of type qwen2_vl with relu' in (
        caplog.text)
    features = graphs.encode(vision)
    assert torch.equal(features.tokens, eager.encode(vision).tokens)
    expected = eager.prefill(prompt_ids, vision, features)
    state = graphs.prefill(prompt_ids, vision, features)
    assert list(graphs.decode(state, (), 9)) == list(eager.decode(expected, (), 9))


def test_the_library_goes_on_as_before() -> None:
    # matrices lie in other places now, with the same numbers
    model, vision, prompt_ids = make_model('wide'), make_vision(3, 3, 1.0), make_prompt(9)
    inputs = library_inputs(vision, prompt_ids)
    with torch.no_grad():
        before = model(**inputs).logits
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        graphs = CudaGraphQwenVl(SparseQwenVl(model), cache_tokens=64)
        graphs.prefill(prompt_ids, vision, graphs.encode(vision))
        assert torch.equal(model(**inputs).logits, before)
    storages = {
        parameter.untyped_storage().data_ptr(): parameter.untyped_storage().nbytes()
        for parameter in model.parameters()}
    assert sum(storages.values()) == 4 * num_parameters  # nothing is stored twice


@pytest.mark.parametrize('num_tokens, smallest, steps, expected', [
    (1, 16, 16, 16), (16, 16, 16, 16), (17, 16, 16, 32), (339, 16, 16, 352), (513, 16, 16, 544),
    (2731, 16, 16, 2816), (14, 8, 8, 16), (299, 8, 8, 320), (1000, 8, 8, 1024)])
def test_sizes_that_prompts_are_padded_to(
    num_tokens: int, smallest: int, steps: int, expected: int,
) -> None:
    assert padded_size(num_tokens, smallest, steps) == expected


def test_the_function_that_was_not_used_for_longest_goes() -> None:
    pool, made, called = GraphPool(torch.device('cpu'), max_functions=2), [], []

    def find(name: str) -> FixedShapeFunction:
        def make() -> FixedShapeFunction:
            made.append(name)
            return FixedShapeFunction(lambda: called.append(name))
        return pool.find(name, make)

    for name in 'abacab':
        find(name)()
    assert called == [*'abacab']
    assert made == ['a', 'b', 'c', 'b'] and pool.num_graphs == 0


@needs_gpu
@pytest.mark.parametrize('fused', [False, True], ids=['torch', 'fused'])
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('keep_ratio', [1.0, 0.3])
def test_recordings_answer_as_the_library_does(
    shape: str, keep_ratio: float, fused: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    vision, prompt_ids = make_vision(5, 9, keep_ratio, 3, shape=shape), make_prompt(45)
    model = make_model(shape).cuda()
    eager = SparseQwenVl(model)
    state = eager.prefill(prompt_ids, vision, eager.encode(vision))
    expected_logits = state.logits.clone()
    expected_ids = list(eager.decode(state, (), ANSWER_LENGTH))
    graphs = CudaGraphQwenVl(
        eager, cache_tokens=512, operations=None if fused else Operations())
    for _ in range(3):  # as it is, captured, replayed
        state = graphs.prefill(prompt_ids, vision, graphs.encode(vision))
        assert (state.logits - expected_logits).abs().max() <= TOLERANCE
        assert list(graphs.decode(state, (), ANSWER_LENGTH)) == expected_ids
        text_ids = state.prefix.text_after(prompt_ids)
        answer = graphs.extend(state.prefix, text_ids)
        assert list(graphs.decode(answer, (), 20)) == expected_ids[:20]
    assert graphs.num_graphs >= 4  # (encoder,) prompt, text after it, sampler, step


@needs_gpu
def test_low_precision_stays_within_the_library_s_own_spread() -> None:
    vision, prompt_ids = make_vision(8, 9, 0.4, shape='wide'), make_prompt(72)
    logits = {}
    for attention in ('sdpa', 'eager'):
        eager = SparseQwenVl(make_model('wide', attention).to('cuda', torch.bfloat16))
        logits[attention] = eager.prefill(prompt_ids, vision, eager.encode(vision)).logits.float()
    graphs = CudaGraphQwenVl(
        SparseQwenVl(make_model('wide').to('cuda', torch.bfloat16)), cache_tokens=512)
    for _ in range(3):
        state = graphs.prefill(prompt_ids, vision, graphs.encode(vision))
    exact = SparseQwenVl(make_model('wide').cuda())
    expected = exact.prefill(prompt_ids, vision, exact.encode(vision)).logits
    spread = max(float((rounded - expected).norm()) for rounded in logits.values())
    assert float((state.logits - expected).norm()) <= 1.5 * spread


@needs_gpu
def test_functions_that_are_recorded_again_take_no_more_memory() -> None:
    graphs = CudaGraphQwenVl(
        SparseQwenVl(make_model('wide').cuda()), cache_tokens=512, max_functions=2)
    reserved = []
    for _ in range(4):
        for keep_ratio in (0.3, 1.0, 0.6):
            vision, prompt_ids = make_vision(12, 16, keep_ratio, shape='wide'), make_prompt(192)
            for _ in range(2):  # the second call captures
                graphs.prefill(prompt_ids, vision, graphs.encode(vision))
        torch.cuda.empty_cache()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[1:] == reserved[:1] * 3


@needs_gpu
def test_a_failed_recording_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    pool, value = GraphPool(torch.device('cuda'), 4), torch.ones(3, device='cuda')
    sums: list[float] = []
    function = pool.find(
        'waits', lambda: FixedShapeFunction(lambda: sums.append(float(value.sum()))))
    for _ in range(3):
        function()
    assert sums == [3.0] * 3
    assert not function.is_captured and 'cannot be captured' in caplog.text
    assert int((value + 1).sum()) == 6  # the device still computes


@needs_gpu
def test_functions_are_recorded_after_all_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    pool, value, owner = GraphPool(torch.device('cuda'), 4), torch.ones(3, device='cuda'), object()
    for _ in range(3):
        function = pool.find((owner, 'twice'), lambda: FixedShapeFunction(lambda: value.mul_(2)))
        for _ in range(3):  # as it is, captured, replayed
            function()
        assert function.is_captured, caplog.text
        del function
        pool.discard(owner)
        assert pool.num_graphs == 0
    assert value.tolist() == [2.0 ** 9] * 3


def test_an_unused_token_id_is_no_end() -> None:
    # the end tokens are those that the caller names, not those of the checkpoint
    graphs, vision, prompt_ids = make_graphs('narrow'), make_vision(3, 3, 0.5), make_prompt(9)
    state = graphs.prefill(prompt_ids, vision, graphs.encode(vision))
    assert len(list(graphs.decode(state, {END_OF_TEXT + 1000}, 5))) == 5
