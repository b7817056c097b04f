"""Nodes as child processes, for the demo, benchmarks and tests."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
from types import TracebackType

STOP_TIMEOUT_S = 15.0


class NodeProcess:
    """
    A child process; a context manager that ends it.

    ``name`` is a function of `epvlm_ros.ros.executables`, or the first argument of another
    ``module``; ``environment`` is added to that of this process; ``log`` gets stdout and stderr.
    """

    def __init__(
        self, name: str, arguments: list[str], log: Path, environment: dict[str, str],
        module: str = 'epvlm_ros.ros.executables',
    ) -> None:
        self.log = log
        with log.open('w') as output:
            self._process = subprocess.Popen(
                [sys.executable, '-m', module, name, *arguments],
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, 'PYTHONUNBUFFERED': '1', **environment})

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def handles_sigterm(self) -> bool:
        """Whether the process has installed a handler for SIGTERM yet."""
        status = Path(f'/proc/{self.pid}/status').read_text()
        caught = next(line for line in status.splitlines() if line.startswith('SigCgt:'))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the process to end; its exit status, None after the timeout."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, signal_number: int = signal.SIGINT) -> int:
        """Send a signal, then wait; the exit status, negative if it had to be killed."""
        if self.is_running():
            self._process.send_signal(signal_number)
        status = self.wait(STOP_TIMEOUT_S)
        if status is None:
            self._process.kill()
            status = self._process.wait()
        return status

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
