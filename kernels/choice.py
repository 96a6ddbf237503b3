"""Which implementation of an operation runs.

Every operation has a reference in XLA or NumPy, and the same in Pallas for TPUs and for GPUs. A kernel is the
default of a platform once `benchmarks/kernels.py` has shown there that it beats the reference; until then it is asked
for by name. No kernel is a default today: none has been timed on an accelerator.

A kernel that does not take what it is given (a shape, a dtype, too many sources) raises NotImplementedError, and the
reference runs. The reason is logged at level info.
"""

import importlib
import logging
from typing import Any

REFERENCE = "reference"
KERNELS = ("pallas_tpu", "pallas_gpu")
log = logging.getLogger("jaxmerge")


def run(operation: str, implementation: str | None, *arguments: Any, **options: Any) -> Any:
    """Calls `operation`, a function of that name in `jaxmerge.kernels.<folder>.<implementation>`.

    operation: "folder.function". implementation: "pallas_tpu", "pallas_gpu", "reference" or None, the default.
    Raises ValueError where the implementation is unknown.
    """
    folder, function = operation.split(".")
    if implementation not in (None, REFERENCE, *KERNELS):
        raise ValueError(
            f"implementation {implementation!r} is unknown: choose one of {', '.join((REFERENCE, *KERNELS))}"
        )
    if implementation in KERNELS:
        module = importlib.import_module(f"jaxmerge.kernels.{folder}.{implementation}")
        try:
            return getattr(module, function)(*arguments, **options)
        except NotImplementedError as reason:
            log.info("%s by %s: %s; the reference runs", operation, implementation, reason)
    module = importlib.import_module(f"jaxmerge.kernels.{folder}.{REFERENCE}")
    return getattr(module, function)(*arguments, **options)
