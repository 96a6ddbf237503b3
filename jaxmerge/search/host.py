"""Where the search itself computes: on the host, whose small matrices are faster there and whose bits do not depend on
the accelerator."""

from contextlib import AbstractContextManager, nullcontext

import jax


def on_host() -> AbstractContextManager[object]:
    """Inside the block jax computes on the CPU, where there is one among its platforms."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return nullcontext()
