"""What every benchmark says about where it ran, and how it writes its numbers."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Processor, cores, devices and versions."""
    import jax

    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0] if lines else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": sorted({d.device_kind for d in jax.devices()}),
        "device_count": jax.device_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "flax", "evosax", "transformers")},
    }


def write(name: str, rows: Any) -> Path:
    """Writes `results/NAME.json` with the machine beside the numbers, and prints it."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"machine": machine(), "results": rows}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n")
    print(text)
    return path
