"""A trained checkpoint takes the place of another one."""

import json

import pytest
from training.ship import main

FILES = ('chat_template.jinja', 'config.json', 'generation_config.json', 'model.safetensors',
         'preprocessor_config.json', 'tokenizer.json', 'tokenizer_config.json')


@pytest.fixture
def folders(tmp_path):
    new, old = tmp_path / 'new', tmp_path / 'old'
    for folder in (new, old):
        folder.mkdir()
        for name in FILES:
            (folder / name).write_text(folder.name)
    course = [{'step': step, 'right': 0.5} for step in (1, 20, 80, 100, 120, 200)]
    (new / 'training.json').write_text(json.dumps({
        'config': {'photographs': '/somewhere/pictures'}, 'num_steps': 200, 'course': course}))
    (new / 'training_state.pt').write_text('large')
    (old / 'training.json').write_text(json.dumps([{'what': 'before', 'course': []}]))
    return new, old


def test_files_are_replaced_and_the_course_goes_on(folders):
    new, old = folders
    main([str(new), '--what', 'three moments', '--to', str(old)])
    assert {(old / name).read_text() for name in FILES} == {'new'}
    assert not (old / 'training_state.pt').exists()
    before, added = json.loads((old / 'training.json').read_text())
    assert before['what'] == 'before' and added['what'] == 'three moments'
    assert [item['step'] for item in added['course']] == [1, 100, 200]
    assert added['config']['photographs'] == 'pictures'
    main([str(new), '--what', 'again', '--afresh', '--to', str(old)])
    assert [run['what'] for run in json.loads((old / 'training.json').read_text())] == ['again']


def test_a_folder_that_lacks_a_file_is_refused_and_nothing_replaced(folders):
    new, old = folders
    (new / 'tokenizer.json').unlink()
    with pytest.raises(ValueError, match='has no tokenizer.json: give the folder of a training'):
        main([str(new), '--what', 'less', '--to', str(old)])
    assert (old / 'config.json').read_text() == 'old'
