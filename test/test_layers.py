"""Dependencies point one way: no half knows the other, nobody looks up, nothing goes round."""

import ast
from graphlib import CycleError, TopologicalSorter
import importlib.util
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Rooms of the package from the ground up: a room imports from those in its list and from itself.
SHARED = {
    'activity_grid', 'change_score', 'clean_text', 'compiled', 'config_fields', 'images',
    'parameter_files', 'time_units'}
ALLOWED = {
    **{name: SHARED for name in SHARED},
    'events': SHARED,
    'vlm': SHARED,
    'watches': SHARED,
    'bag': SHARED | {'events'},
    'sim': SHARED | {'events', 'bag'},
    'eval': SHARED | {'events', 'vlm', 'sim', 'bag'},
    'ros': SHARED | {'events', 'vlm', 'bag', 'watches'},
    'ui': SHARED | {'events', 'vlm', 'ros'},
    'cli': SHARED | {'events', 'vlm', 'bag', 'eval', 'ros', 'ui'},  # of ros the parameters alone
    'demo': SHARED | {'events', 'vlm', 'bag', 'sim', 'ros'},
}
WITHOUT_ROS = ['cli', 'events', 'vlm', 'watches', 'eval', 'sim', *sorted(SHARED)]
CHECK = """
import sys


class NoRos:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'rclpy', 'epvlm_interfaces', 'event_camera_msgs', 'sensor_msgs',
                                  'std_msgs', 'geometry_msgs', 'tf2_msgs', 'cv_bridge',
                                  'rosbags'}:
            raise ImportError(f'{name} is not to be imported')


sys.meta_path.insert(0, NoRos())
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def find_modules(package='epvlm_ros'):
    """Return the path of every module of a package by its dotted name."""
    paths = {}
    for path in sorted((ROOT / package).rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        paths['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return paths


MODULES = find_modules()
PLUG_IN = {name: path for name, path in find_modules('epvlm_vllm').items() if '.test.' not in name}


def find_imports(name):
    """Return the modules of the package that a module imports, inside of functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{name} has a relative import'
            found.update(f'{node.module}.{alias.name}'
                         if f'{node.module}.{alias.name}' in MODULES else node.module
                         for alias in node.names)
    return {module for module in found if module in MODULES}


def room(module):
    return (module.split('.') + [''])[1]


@pytest.mark.parametrize('name', [name for name in MODULES if room(name)])
def test_a_room_imports_from_those_below_it_only(name):
    allowed = ALLOWED[room(name)] | {room(name), ''}
    above = {module for module in find_imports(name) if room(module) not in allowed}
    assert not above, f'{name} imports {sorted(above)}'


def test_no_module_leads_back_to_itself():
    graph = {name: find_imports(name) - {name} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f'modules import each other: {" -> ".join(error.args[1])}')


@pytest.mark.process
def test_what_thinks_imports_without_ros():
    # What writes recordings is the one place where the simulator meets the bags.
    elsewhere = ['epvlm_ros.sim.recording']
    if importlib.util.find_spec('triton') is None:  # comes with torch for GPUs only
        elsewhere.append('epvlm_ros.vlm.cuda_graphs.kernels')
    names = [name for name in MODULES
             if room(name) in WITHOUT_ROS and not name.startswith(tuple(elsewhere))]
    assert {room(name) for name in names} == set(WITHOUT_ROS)
    result = subprocess.run(
        [sys.executable, '-c', CHECK, *names], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_plug_in_for_vllm_knows_neither_this_package_nor_ros():
    assert 'epvlm_vllm.models' in PLUG_IN
    for name, path in PLUG_IN.items():
        imported = set(re.findall(r'^\s*(?:from|import) (\w+)', path.read_text(), re.MULTILINE))
        assert not {'epvlm_ros', 'epvlm_interfaces', 'rclpy'} & imported, name


def test_no_module_and_no_function_is_too_long():
    too_long = []
    for name, path in {**MODULES, **PLUG_IN}.items():
        text = path.read_text()
        if text.count('\n') > 320:
            too_long.append(f'{name}: {text.count(chr(10))} lines')
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                num_lines = (node.end_lineno or 0) - node.lineno + 1
                if num_lines > 75:
                    too_long.append(f'{name}.{node.name}: {num_lines} lines')
    assert not too_long, too_long
