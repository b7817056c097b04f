"""
What all tests share: their classes, the files that some of them need, and what was not run.

A test that starts a process has the marker ``process``, which keeps it out of ``make test-quick``.
Modules that use ``RosGraph`` get it by themselves; any other test that starts a process without it
fails with a line that says so. What is in ``test/ros`` has the marker ``ros``.
"""

from collections import Counter
import functools
from pathlib import Path
import sys
from typing import Any, Iterator

from hypothesis import HealthCheck, settings
import pytest

# A busy machine is no fault of a test. Examples are the same in each run, so that what fails is
# what a change broke; `make test-search` looks for new ones.
settings.register_profile(
    'same', suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile(
    'search', suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile('same')

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / 'shared'
_running: list[pytest.Item] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into their classes before those that are not wanted are left out."""
    items.sort(key=_starts_nodes, reverse=True)  # they take longest
    for item in items:
        if _starts_nodes(item) or item.path.is_relative_to(HERE / 'ros'):
            item.add_marker('ros')
        if _starts_nodes(item):
            item.add_marker('process')
            item.add_marker(pytest.mark.xdist_group('ros'))
        if _is_further_family(item):
            item.add_marker('long')
        if item.get_closest_marker('gpu') and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason='no GPU'))


def _is_further_family(item: pytest.Item) -> bool:
    """Whether a test of all shapes of models is of another one than the first."""
    shape = getattr(item, 'callspec', None) and item.callspec.params.get('shape')
    return bool(shape) and shape != 'narrow'


def _starts_nodes(item: pytest.Item) -> bool:
    return hasattr(getattr(item, 'module', None), 'RosGraph')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, and all that start nodes in one."""
    from xdist.scheduler import LoadGroupScheduling

    class FilesAndGroups(LoadGroupScheduling):

        def _split_scope(self, nodeid: str) -> str:
            return super()._split_scope(nodeid).partition('::')[0]

    return FilesAndGroups(config, log)


@functools.cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember which test runs."""
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.remove(item)


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:
    """Fail a test that starts a process and does not say so."""
    if event == 'subprocess.Popen' and _running:
        # Where there is a GPU, Triton starts compilers of its own.
        if not (_running[-1].get_closest_marker('process') or _has_gpu()):
            pytest.fail(f'{_running[-1].nodeid} starts {arguments[0]}: mark it with '
                        'pytest.mark.process, which keeps it out of make test-quick')


sys.addaudithook(_refuse_processes)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in one line what was not run, and for lack of what."""
    reasons = Counter(
        report.longrepr[2].removeprefix('Skipped: ')
        for report in terminalreporter.stats.get('skipped', []))
    if reasons:
        terminalreporter.write_line('not run: ' + '; '.join(
            f'{count} {"test" if count == 1 else "tests"} ({reason})'
            for reason, count in reasons.most_common()))


@pytest.fixture(scope='module', autouse=True)
def torch_threads(request: pytest.FixtureRequest) -> None:
    """Give a module its threads, whatever those before it have set: small models want one."""
    if 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(getattr(request.module, 'NUM_TORCH_THREADS', 1))


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of real recordings beside the project, or skip the test."""
    return _require('data')


@pytest.fixture(scope='session')
def slider_depth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the recording slider_depth or, where it is absent, of one like it."""
    if (SHARED / 'data').is_dir():
        return SHARED / 'data' / 'slider_depth'
    from simulated_slider import make_simulated_slider

    return make_simulated_slider(tmp_path_factory.mktemp('data') / 'simulated_slider')


@pytest.fixture(scope='session')
def shared_cases() -> Path:
    """Return the folder of files that once broke something, or skip the test."""
    return _require('cases')


def _require(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f'no ../{SHARED.name}/{name}')
    return SHARED / name
