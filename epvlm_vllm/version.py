"""Which versions of vLLM this plug-in was made for: what it builds on changes between them."""

from __future__ import annotations

SUPPORTED = ('0.32',)


def check_version(version: str) -> None:
    """Raise a RuntimeError that names both versions if vLLM is another one."""
    if '.'.join(version.split('.')[:2]) not in SUPPORTED:
        raise RuntimeError(
            f'epvlm_vllm was made for vLLM {", ".join(SUPPORTED)} and this is vLLM {version}: '
            f'install vLLM {SUPPORTED[-1]}, or a newer epvlm_vllm')
