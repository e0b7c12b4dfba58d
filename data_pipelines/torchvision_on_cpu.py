"""Lets torchvision import beside a CPU-only torch.

The torchvision wheels on the public index are CUDA builds. Beside a CPU-only torch their compiled
part cannot load, so ``torchvision::nms`` is never declared and ``import torchvision`` fails, and
with it timm and Lightning (through torchmetrics). Declaring the missing operators' schemas is
enough for everything we use (transforms v2). Where torchvision's compiled part loads, nothing is
declared.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

MISSING_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[object] = []  # torch forgets a Library's schemas when it is collected


class _TorchvisionFinder(MetaPathFinder):
    """Declares the missing schemas at the first import of torchvision, then steps aside."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            declare_missing_operators()
        return None


def install_torchvision_hook() -> None:
    """Arranges the check for the first ``import torchvision``; costs nothing until then."""
    installed = any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path)
    if "torchvision" not in sys.modules and not installed:
        sys.meta_path.insert(0, _TorchvisionFinder())


def declare_missing_operators() -> bool:
    """Declares torchvision's operator schemas if its compiled part cannot load.

    Returns:
        True if schemas were declared, False if torchvision is absent or its own operators work.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    import torch

    for compiled in sorted(Path(spec.origin).parent.glob("_C*.so")):
        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            continue  # libtorch_cuda is missing: the case this module is for
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in MISSING_SCHEMAS:
        library.define(schema)
    _libraries.append(library)
    return True
