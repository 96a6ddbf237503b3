"""Compiled programs are kept in the user's cache folder, so that the same command starts at once the next time."""

import os
from pathlib import Path


def keep_compilations() -> None:
    """Point jax's persistent compilation cache there, unless the environment already says where, or that folder cannot
    be made. Call it before jax is imported; it does not import jax."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxmerge" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
