"""README and docs/ match the files that they are about."""

import importlib.util
from pathlib import Path
import re
from xml.etree import ElementTree

from epvlm_ros.cli import main
from packaging.requirements import Requirement
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')]
REMEDY = 'docs/ is not of this code any more: run `make docs` (python3 scripts/write_docs.py)'


@pytest.fixture(scope='module')
def writer():
    spec = importlib.util.spec_from_file_location('write_docs', ROOT / 'scripts/write_docs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name):
    return (ROOT / name).read_text(encoding='utf-8')


def test_the_tree_and_its_comments_are_those_of_the_files(writer):
    text = read('docs/architecture.md')
    assert writer.with_tree(text) == text, REMEDY


def test_every_module_has_its_line_in_the_tree(writer):
    lines = [line for line in writer.format_tree().splitlines() if line]
    assert len(lines) == len(writer.list_modules())
    assert ROOT / 'epvlm_vllm' / 'models.py' in writer.list_modules()
    assert [line for line in lines if not re.search(r'`:? \S.*[.!?]$|`\*\* \S.*\.$', line)] == []


def test_the_tables_of_parameters_are_those_of_the_classes(writer):
    assert read('docs/parameters.md') == writer.format_parameters(), REMEDY


def test_the_readme_is_short():
    assert len(read('README.md').split()) <= 1200


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r'\]\(([^)\s]+)\)', path.read_text(encoding='utf-8')):
        if target.startswith(('http://', 'https://', 'mailto:')):
            continue
        name, _, heading = target.partition('#')
        found = (path.parent / name) if name else path
        assert found.exists(), f'{path.name} links to {target}, which is not there'
        if heading:
            headings = re.findall(r'^#+ (.*)$', found.read_text(encoding='utf-8'), re.MULTILINE)
            assert heading in [anchor(text) for text in headings], f'{path.name}: {target}'


def anchor(heading):
    """Return the anchor that common hosts give to a heading."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(path):
    folders = 'epvlm_ros|bench|training|scripts|test|config|launch'
    text = path.read_text(encoding='utf-8')
    for name in re.findall(rf'(?<![\w/])(?:{folders})/[\w/.]+', text):
        assert (ROOT / name.rstrip('.')).exists(), f'{path.name} names {name}'


def test_there_is_one_version():
    version = ElementTree.parse(ROOT / 'package.xml').findtext('version')
    released = re.findall(r'^(\d+\.\d+\.\d+) \((.*)\)$', read('CHANGELOG.rst'), re.MULTILINE)
    assert released[0][0] == version
    citation = yaml.safe_load(read('CITATION.cff'))
    assert (citation['version'], citation['date-released']) == released[0]
    interfaces = ROOT / 'interfaces/epvlm_interfaces/package.xml'
    assert ElementTree.parse(interfaces).findtext('version') == version
    assert version not in read('setup.py')  # which reads package.xml


def test_hooks_run_what_the_suite_runs():
    hooks = yaml.safe_load(read('.pre-commit-config.yaml'))['repos'][0]['hooks']
    style = read('test/test_style.py')
    for hook in hooks:
        module = hook['entry'].split()[2].partition('.')[0]
        assert f"'{module}" in style or module == 'pre_commit_hooks', hook


def test_continuous_integration_runs_what_the_project_runs():
    workflow = yaml.safe_load(read('.github/workflows/ci.yml'))
    assert workflow['jobs']['tests']['steps'][-1] == {'run': '.ci/run'}
    assert yaml.safe_load(read('.gitlab-ci.yml'))['tests']['script'] == ['.ci/run']


COMMANDS = sorted({
    line.strip() for path in DOCUMENTS
    for block in re.findall(r'```[a-z]*\n(.*?)```', path.read_text(encoding='utf-8'), re.DOTALL)
    for line in block.splitlines()})


def commands_of(pattern):
    return [found.groups() for line in COMMANDS if (found := re.search(pattern, line))]


def test_documents_name_targets_and_scripts_that_exist():
    makefile = read('Makefile')
    targets = [target for target, in commands_of('^make ([a-z-]+)')]
    assert {'demo', 'test', 'docs'} <= set(targets)
    assert [name for name in targets if not re.search(f'^{name}:', makefile, re.MULTILINE)] == []
    scripts = [name for name, in commands_of(r'python (\S+\.py)')]
    assert scripts
    assert [name for name in scripts if not (ROOT / name).is_file()] == []


def test_documents_give_epvlm_options_that_it_has(capsys):
    found = commands_of('(?:^|/| )epvlm ([a-z-]+) ([^#]*)')
    assert {name for name, _ in found} == {
        'ask', 'bag-info', 'calibrate', 'convert', 'eval', 'ui'}
    for name, arguments in found:
        with pytest.raises(SystemExit) as ended:
            main([name, '--help'])
        assert ended.value.code == 0
        known = capsys.readouterr().out
        options = re.findall('--[a-z-]+', arguments)
        assert [option for option in options if option not in known] == []


def test_what_make_installs_is_within_the_ranges_that_are_stated():
    ranges = {item.name: item for item in map(Requirement, filter(
        lambda line: line and not line.startswith('#'), read('requirements.txt').splitlines()))}
    for line in read('constraints.txt').splitlines():
        if not line.startswith('#'):
            exact = Requirement(line)
            version, = (item.version for item in exact.specifier)
            assert ranges[exact.name].specifier.contains(version)
