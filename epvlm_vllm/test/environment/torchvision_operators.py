"""
Defines two operators of torchvision before it is imported, where its build lacks them.

scripts/set_up_fleet.py puts this into its environment. They are never called.
"""

import importlib.abc
import sys


class BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Defines the operators at the import of torchvision, which is found by others."""

    def find_spec(self, name, path=None, target=None):
        """Return None; torch is imported only where torchvision is."""
        if name == 'torchvision':
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library('torchvision', 'DEF')
            self.library.define('nms(Tensor dets, Tensor scores, float threshold) -> Tensor')
            self.library.define('qnms(Tensor dets, Tensor scores, float threshold) -> Tensor')
        return None


finder = BeforeTorchvision()  # a library ends with the last reference to it
sys.meta_path.insert(0, finder)
