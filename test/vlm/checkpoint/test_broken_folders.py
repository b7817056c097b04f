"""Broken and foreign folders: one line with the reason, and none runs with something left out."""

from collections.abc import Callable
import json
from pathlib import Path
import shutil
from typing import Any

from epvlm_ros.vlm.config import VlmConfig
from epvlm_ros.vlm.engine import VlmEngine
from published_checkpoints import save_published_checkpoint, token_id
import pytest
from qwen_checkpoints import make_tokenizer, write_json
from safetensors.torch import load_file, save_file
import torch

pytestmark = pytest.mark.long

PART = 'model-00001-of-00002.safetensors'
LAST_PART = 'model-00002-of-00002.safetensors'
INDEX = 'model.safetensors.index.json'
PREPROCESSOR = 'preprocessor_config.json'
GENERATION = 'generation_config.json'
TEMPLATE = 'chat_template.json'
LFS_POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 17\n'
Break = Callable[[Path], object]


@pytest.fixture(scope='module', name='whole')
def whole_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published_checkpoint(
        tmp_path_factory.mktemp('whole') / 'model', 'Qwen2.5-VL-3B-Instruct')


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding='utf-8'))


def remove(*names: str) -> Break:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()
    return change


def cut(name: str, share: float = 0.5) -> Break:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:int(share * len(content))])
    return change


def write(name: str, content: Any) -> Break:
    return lambda folder: write_json(folder / name, content)


def write_text(name: str, text: str) -> Break:
    return lambda folder: (folder / name).write_text(text, encoding='utf-8')


def put(name: str, *keys: str, **changes: Any) -> Break:
    """Set values in the object that lies under ``keys`` in a JSON file; None deletes."""
    def change(folder: Path) -> None:
        content = read(folder / name)
        part = content
        for key in keys:
            part = part[key]
        for key, value in changes.items():
            part[key] = value
            if value is None:
                del part[key]
        write_json(folder / name, content)
    return change


def config(*keys: str, **changes: Any) -> Break:
    return put('config.json', *keys, **changes)


def change_weights(change: Callable[[dict[str, Any]], object], name: str = PART) -> Break:
    """Change the tensors of a part, and let the index name what it then holds."""
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / name)
        change(weights)
        save_file(weights, folder / name, metadata={'format': 'pt'})
        index = read(folder / INDEX)
        index['weight_map'] = {
            **{key: file for key, file in index['weight_map'].items() if file != name},
            **dict.fromkeys(weights, name)}
        write_json(folder / INDEX, index)
    return rewrite


def add_weights(**tensors: torch.Tensor) -> Break:
    return change_weights(lambda weights: weights.update(
        {name.replace('__', '.'): tensor for name, tensor in tensors.items()}))


def set_number(key: str, number: float, name: str = PART) -> Break:
    return change_weights(lambda weights: weights[key].view(-1)[:1].fill_(number), name)


def all_as(dtype: torch.dtype) -> Break:
    def change(weights: dict[str, Any]) -> None:
        for key in weights:
            weights[key] = weights[key].to(dtype)
    return change_weights(change)


def rename_all(folder: Path) -> None:
    for name in (PART, LAST_PART):
        change_weights(lambda weights: [
            weights.update({f'module.{key}': weights.pop(key)}) for key in list(weights)],
            name)(folder)


def several(*breaks: Break) -> Break:
    return lambda folder: [each(folder) for each in breaks]


def with_other_tokenizer(folder: Path) -> None:
    remove('tokenizer.json', 'tokenizer_config.json', 'vocab.json', 'merges.txt')(folder)
    make_tokenizer(chat_template=None).save_pretrained(folder)


def without_special_tokens(folder: Path) -> None:
    content = read(folder / 'tokenizer.json')
    content['added_tokens'] = []
    write_json(folder / 'tokenizer.json', content)
    put('tokenizer_config.json', added_tokens_decoder={}, additional_special_tokens=[],
        eos_token=None, pad_token=None)(folder)


def pack(method: str, **settings: Any) -> Break:
    return config(quantization_config={'quant_method': method, **settings})


QKV = 'visual.blocks.0.attn.qkv.weight'
LORA = {'base_model_name_or_path': 'Qwen/Qwen2.5-VL-3B-Instruct', 'peft_type': 'LORA', 'r': 8}
ALL_PARTS = (PART, LAST_PART, INDEX)
FILES: dict[str, tuple[Break, str]] = {
    'no config': (remove('config.json'), 'it has no config.json'),
    'config is empty': (write_text('config.json', ''), 'config.json cannot be read'),
    'config is cut': (cut('config.json'), 'config.json cannot be read'),
    'config is a list': (write('config.json', [1]), 'config.json holds no JSON object'),
    'config is no text': (
        lambda folder: (folder / 'config.json').write_bytes(b'\xff\xfe\x00'),
        'config.json cannot be read'),
    'config is a pointer': (
        write_text('config.json', LFS_POINTER), 'config.json is a Git LFS pointer'),
    'no weights': (remove(*ALL_PARTS), 'it has no weights'),
    'a part is missing': (
        remove(LAST_PART), f'1 of 2 files of weights are missing, such as {LAST_PART}'),
    'no index': (remove(INDEX), f'its weights are {PART}: give weights as model.safetensors'),
    'index is cut': (cut(INDEX), f'{INDEX} cannot be read'),
    'index without a map': (write(INDEX, {'metadata': {}}), f'{INDEX} names no files'),
    'index is empty': (write(INDEX, {'weight_map': {}}), f'{INDEX} names no files'),
    'index names another folder': (
        write(INDEX, {'weight_map': {QKV: '../model.safetensors'}}), f'{INDEX} names no files'),
    'index names more': (
        put(INDEX, 'weight_map', **{'visual.more.weight': PART}),
        f'visual.more.weight of {INDEX} are in none of its files'),
    'a part is cut': (cut(PART), f'{PART} is damaged'),
    'a part is empty': (cut(PART, 0.0), f'{PART} is damaged'),
    'a part is a pointer': (write_text(PART, LFS_POINTER), f'{PART} is a Git LFS pointer'),
    'pickled weights': (
        several(remove(*ALL_PARTS), write_text('pytorch_model.bin', 'x')),
        'its weights are pytorch_model.bin'),
    'weights of llama.cpp': (
        several(remove(*ALL_PARTS), write_text('model-q4_k_m.gguf', 'x')),
        'its weights are model-q4_k_m.gguf'),
    'one part more': (
        lambda folder: shutil.copy(folder / PART, folder / 'extra.safetensors'),
        'extra.safetensors would be left out'),
    'weights twice': (
        lambda folder: shutil.copy(folder / PART, folder / 'model.safetensors'),
        'model.safetensors would be left out'),
    'no tokenizer': (
        remove('tokenizer.json', 'tokenizer_config.json', 'vocab.json', 'merges.txt'),
        'it has no tokenizer: add tokenizer.json, or vocab.json and merges.txt'),
    'tokenizer without merges': (
        remove('tokenizer.json', 'merges.txt'), 'it has no tokenizer: add tokenizer.json'),
    'tokenizer is cut': (cut('tokenizer.json'), 'tokenizer.json cannot be read'),
    'tokenizer is a pointer': (
        write_text('tokenizer.json', LFS_POINTER), 'tokenizer.json is a Git LFS pointer'),
    'settings of the tokenizer are cut': (
        cut('tokenizer_config.json'), 'tokenizer_config.json cannot be read'),
    'no image processor': (
        remove(PREPROCESSOR), f'it has no image processor: add {PREPROCESSOR}'),
    'image processor is cut': (cut(PREPROCESSOR), f'{PREPROCESSOR} cannot be read'),
    'generation config is cut': (cut(GENERATION), f'{GENERATION} cannot be read'),
    'template is cut': (cut(TEMPLATE), f'{TEMPLATE} cannot be read'),
    'adapter beside a model': (
        write('adapter_config.json', LORA),
        'it holds an adapter (LoRA) of Qwen/Qwen2.5-VL-3B-Instruct: merge it first'),
    'adapter alone': (
        several(remove(*ALL_PARTS, 'config.json'), write('adapter_config.json', LORA)),
        'it holds only an adapter (LoRA) of Qwen/Qwen2.5-VL-3B-Instruct: merge it first'),
    'adapter without its config': (
        lambda folder: save_file({'lora_A': torch.ones(2)}, folder / 'adapter_model.safetensors'),
        'it holds an adapter (LoRA) of its base model'),
}
CONFIGS: dict[str, tuple[Break, str]] = {
    **{f'type {kind}': (config(model_type=kind), f"of type '{kind}': give a checkpoint of one of")
       for kind in ('llava', 'qwen3_vl_moe', 'qwen2_5_omni', 'qwen2')},
    'no type': (config(model_type=None), 'of type None'),
    'another architecture': (
        config(architectures=['ColQwen2_5']), "is of the architecture ['ColQwen2_5']"),
    'code of its own': (
        config(auto_map={'AutoModel': 'modeling.Model'}), 'names code of its own (auto_map)'),
    'layers left over': (
        config(num_hidden_layers=2),
        'weights have no place in the model: model.language_model.layers.2.'),
    'layers missing': (config(num_hidden_layers=4), 'weights are missing (12)'),
    'encoder layers left over': (
        config('vision_config', depth=3, fullatt_block_indexes=[1]),
        'weights have no place in the model: model.visual.blocks.3.'),
    'encoder layers missing': (config('vision_config', depth=5), 'weights are missing (1'),
    'another width': (config(hidden_size=64, rope_scaling={
        'type': 'mrope', 'mrope_section': [2, 3, 3]}), ', config.json makes it ('),
    'another width of the MLP': (
        config(intermediate_size=96), '.weight has shape (48, 80), config.json makes it (48, 96)'),
    'another width of the keys': (config(num_key_value_heads=4), ', config.json makes it ('),
    'another vocabulary': (
        config(vocab_size=400), 'has shape (352, 48), config.json makes it (400, 48)'),
    'output layer missing': (
        config(tie_word_embeddings=False), 'weights are missing (1), such as lm_head.weight'),
    'no sections of M-RoPE': (config(rope_scaling=None), 'sets mrope_section to None'),
    'sections that do not fit': (
        config('rope_scaling', mrope_section=[2, 2, 4]), 'sets mrope_section to [2, 2, 4]'),
    'sliding window': (
        config(use_sliding_window=True, max_window_layers=0), 'use_sliding_window is true'),
    'image token is text': (config(image_token_id=65), 'image_token_id of config.json is 65'),
    'image token is another': (
        config(image_token_id=token_id('<|box_end|>')), 'does not place one image in the prompt'),
    'video token is none': (config(video_token_id=9999), 'video_token_id of config.json is 9999'),
    'a number is text': (config(num_attention_heads='four'), 'num_attention_heads'),
    'heads do not divide': (config(num_attention_heads=5), 'mrope_section'),
    'unknown activation': (config(hidden_act='swoosh'), 'swoosh'),
    'weights of another family': (
        config(model_type='qwen2_vl', architectures=None), 'weights are missing ('),
    'unknown packing': (
        pack('fp9'), "its weights are quantized by 'fp9', which transformers does not know"),
    'packing without a method': (
        config(quantization_config={'bits': 4}), 'its weights are quantized by None'),
    'packing as a word': (config(quantization_config='fp8'), "quantization_config to 'fp8'"),
}
WEIGHTS: dict[str, tuple[Break, str]] = {
    **{f'packed by {method}': (pack(method, **settings), 'cannot load the model')
       for method, settings in (
           ('awq', {'bits': 4, 'group_size': 128, 'modules_to_not_convert': ['visual']}),
           ('gptq', {'bits': 4}), ('bitsandbytes', {'load_in_4bit': True}),
           ('compressed-tensors', {'config_groups': {}, 'ignore': ['re:visual.*']}))},
    'FP8 without its config': (
        all_as(torch.float8_e4m3fn), 'F8_E4M3), but config.json has no quantization_config'),
    'INT8 without its config': (
        all_as(torch.int8), 'I8), but config.json has no quantization_config'),
    'packed words without their config': (
        change_weights(lambda weights: weights.update(
            {QKV: torch.zeros(144, 6, dtype=torch.int32)})),
        f'{QKV} is I32), but config.json has no quantization_config'),
    'one is missing': (
        change_weights(lambda weights: weights.pop(QKV)),
        'weights are missing (1), such as model.visual.blocks.0.attn.qkv.weight'),
    'one has another shape': (
        change_weights(lambda weights: weights.update({QKV: torch.zeros(3, 3)})),
        'model.visual.blocks.0.attn.qkv.weight has shape (3, 3), config.json makes it (144, 48)'),
    'scales': (
        add_weights(model__layers__0__mlp__up_proj__weight_scale_inv=torch.ones(1, 1)),
        'model.language_model.layers.0.mlp.up_proj.weight_scale_inv'),
    'an adapter among them': (
        add_weights(model__layers__0__self_attn__q_proj__lora_A__weight=torch.ones(8, 48)),
        'layers.0.self_attn.q_proj.lora_A.weight'),
    'a layer more': (
        add_weights(model__layers__3__mlp__up_proj__weight=torch.ones(80, 48)),
        'weights have no place in the model: model.language_model.layers.3.mlp.up_proj.weight'),
    'a head of another task': (
        add_weights(score__weight=torch.ones(2, 48)), 'score.weight'),
    'other names': (rename_all, 'weights are missing ('),
    'NaN': (set_number(QKV, float('nan')),
            'model.visual.blocks.0.attn.qkv.weight holds NaN or infinite numbers'),
    'infinity': (set_number('model.norm.weight', float('inf'), LAST_PART),
                 'model.language_model.norm.weight holds NaN or infinite numbers'),
    'less than infinity': (set_number(QKV, -float('inf')), 'holds NaN or infinite numbers'),
}
PARTS: dict[str, tuple[Break, str]] = {
    'tokenizer of another model': (with_other_tokenizer, 'image_token_id of config.json'),
    'tokenizer without special tokens': (
        without_special_tokens, 'image_token_id of config.json'),
    'tokenizer larger than the model': (config(vocab_size=330), 'tokenizer has ids up to 338'),
    'text template alone': (
        remove(TEMPLATE), 'the chat template of the model refuses the prompt (can only conc'),
    'no template': (
        several(remove(TEMPLATE), put('tokenizer_config.json', chat_template=None)),
        'it has no chat template'),
    'templates without a default': (
        write(TEMPLATE, {'chat_template': [{'name': 'tool_use', 'template': 'x'}]}),
        'has the chat templates tool_use, none of which is called default'),
    'template is a number': (
        write(TEMPLATE, {'chat_template': 7}), f'the chat template in {TEMPLATE} is no text'),
    'template has an error': (
        write(TEMPLATE, {'chat_template': '{% for %}'}), 'refuses the prompt'),
    'template without an image': (
        write(TEMPLATE, {'chat_template': '{{ messages | length }}'}),
        'does not place one image in the prompt'),
    'template with two images': (
        write(TEMPLATE, {'chat_template': '<|image_pad|><|image_pad|>'}),
        'does not place one image in the prompt'),
    **{f'image processor is a {kind}': (
        put(PREPROCESSOR, image_processor_type=kind), f'its image processor is a {kind}')
       for kind in ('CLIPImageProcessor', 'SiglipImageProcessor')},
    'image processor of CLIP': (
        write(PREPROCESSOR, {
            'crop_size': 224, 'do_center_crop': True, 'feature_extractor_type':
            'CLIPFeatureExtractor', 'size': 224, 'image_mean': [0.5] * 3, 'image_std': [0.5] * 3}),
        'its image processor is a CLIPFeatureExtractor'),
    'patches of another size': (
        put(PREPROCESSOR, patch_size=16), '(16, 2, 2), the model needs (14, 2, 2)'),
    'another merge size': (
        put(PREPROCESSOR, merge_size=1), '(14, 1, 2), the model needs (14, 2, 2)'),
    'bounds in the wrong order': (
        put(PREPROCESSOR, min_pixels=10 ** 6, max_pixels=10 ** 4), 'max_pixels is 10000'),
    'bound is text': (put(PREPROCESSOR, min_pixels='3136'), "sets min_pixels to '3136'"),
    'bound is negative': (put(PREPROCESSOR, max_pixels=-1), 'sets max_pixels to -1'),
    'size of one side': (
        put(PREPROCESSOR, size={'height': 224, 'width': 224}), 'sets size to'),
    'no resize': (put(PREPROCESSOR, do_resize=False), 'sets do_resize to false'),
    'no spread of the pixels': (
        put(PREPROCESSOR, image_std=[0.0] * 3), 'its image processor makes infinite pixels'),
    'means of four channels': (put(PREPROCESSOR, image_mean=[0.5] * 4), 'Reason: mean must'),
    'end token is text': (put(GENERATION, eos_token_id='<|im_end|>'), 'sets eos_token_id to'),
    'negative penalty': (
        put(GENERATION, repetition_penalty=-1.05), 'sets repetition_penalty to -1.05'),
    'penalty is text': (
        put(GENERATION, repetition_penalty='1.05'), 'sets repetition_penalty to 1.05'),
}
CASES = {**FILES, **CONFIGS, **WEIGHTS, **PARTS}
# One of each kind; the others load a model, which takes half a second each.
QUICK = {
    *FILES, 'type llava', 'another architecture', 'code of its own', 'layers left over',
    'output layer missing', 'no sections of M-RoPE', 'unknown packing', 'packed by awq',
    'FP8 without its config', 'one has another shape', 'scales', 'NaN', 'text template alone',
    'image processor of CLIP', 'size of one side', 'tokenizer of another model'}


@pytest.mark.parametrize('case', [
    case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES])
def test_a_folder_that_is_not_whole_is_refused_in_one_line(
    case: str, whole: Path, tmp_path: Path,
) -> None:
    folder = tmp_path / 'model'
    shutil.copytree(whole, folder)
    change, reason = CASES[case]
    change(folder)
    with pytest.raises(ValueError) as error:
        VlmEngine.from_config(VlmConfig(model=str(folder), device='cpu'))
    message = str(error.value)
    assert reason in message
    assert '\n' not in message and len(message) < 800
    assert 'attention sdpa' not in message  # it mends none of these
    assert str(folder) in message or 'template of the model' in message


def test_there_are_eighty_of_them() -> None:
    assert len(CASES) >= 80 and QUICK < set(CASES)


def test_the_whole_folder_is_not_refused(whole: Path) -> None:
    VlmEngine.from_config(VlmConfig(model=str(whole), device='cpu'))


def test_numbers_beyond_float16_are_named(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / 'model')
    set_number(QKV, 1e5)(tmp_path / 'model')
    config = VlmConfig(model=str(tmp_path / 'model'), device='cpu', dtype='float16')
    with pytest.raises(ValueError, match='does not fit into float16: give dtype bfloat16'):
        VlmEngine.from_config(config)
