"""Each Pallas kernel against XLA's reference, on this machine's accelerator.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --compile v5e:2x2
    python benchmarks/kernels.py --compile h100_sxm.txtpb

Times are the median of runs that wait for their result; a row gives the bytes that the operation must move, the share
of the bandwidth of a plain copy on the same device that this comes to, flops where there are matrix products, and how
far the kernel's result is from the reference's. `kernels/choice.py` makes a kernel a default only where it is faster
here. Without an accelerator nothing is measured; with `--compile` the kernels are compiled for a device that is not
here: a TPU, by the compiler of the `libtpu` package, which refuses what VMEM does not hold, or a GPU, by that of
`jax-cuda12-plugin` with `nvidia-cuda-nvcc-cu12`, for a target file of XLA (xla/backends/gpu/target_config/specs).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIDE, SOURCES, CANDIDATES = 4096, 3, 8
FORMS = ("task_arithmetic", "ties", "dare_ties")
TOKENS = (16, 128, 512)
COUNTS = (1, 16)
REPEATS = 20


@dataclass(frozen=True)
class Case:
    """An operation on given arguments: `call(implementation)` makes the function of them. bytes: that it must move."""

    name: str
    call: Callable[[str], Callable[..., Any]]
    arguments: tuple[Any, ...]
    bytes: float
    flops: float = 0.0


def cases() -> Iterator[Case]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxmerge.kernels.mask_field import field, keep_below, mask_key
    from jaxmerge.kernels.merge_tile import Values, merge_tile
    from jaxmerge.kernels.merged_matmul import merged_matmul
    from jaxmerge.kernels.selection import radix, smallest_kept
    from jaxmerge.operators.fused import FORMS as OF_OPERATOR

    shape, elements = (SIDE, SIDE), SIDE * SIDE
    base, *sources = [
        jax.random.normal(key, shape, jnp.bfloat16) for key in jax.random.split(jax.random.key(0), SOURCES + 1)
    ]
    keys = jnp.asarray(np.stack([mask_key(0, i, "t") for i in range(SOURCES)]))

    def values(*lead: int) -> Values:
        full = (*lead, SOURCES)
        below = jnp.full(full, keep_below(0.3), jnp.uint32)
        weight = jnp.linspace(0.2, 1.0, int(np.prod(full)), dtype=jnp.float32).reshape(full)
        return Values(weight, 0.9, 1.0, jnp.full(full, 0.7, jnp.float32), below, jnp.full(full, 1.5, jnp.float32))

    for name in FORMS:
        form = OF_OPERATOR[name]

        def merge(implementation: str, form=form) -> Callable[..., Any]:
            return lambda base, sources, values, keys: merge_tile(
                base, sources, values, form, keys=keys, dtype=jnp.bfloat16, implementation=implementation
            )

        yield Case(f"merge_tile {name}", merge, (base, sources, values(), keys), 2 * (SOURCES + 2) * elements)
        for tokens in TOKENS:
            x = jax.random.normal(jax.random.key(1), (CANDIDATES, tokens, SIDE), jnp.bfloat16)

            def multiply(implementation: str, form=form) -> Callable[..., Any]:
                return lambda of_candidates, base, sources, values, keys: merged_matmul(
                    of_candidates, base, sources, values, form, keys=keys, implementation=implementation
                )

            yield Case(
                f"merged_matmul {name}, {CANDIDATES} candidates x {tokens} tokens",
                multiply,
                (x, base, sources, values(CANDIDATES), keys),
                2 * (SOURCES + 1) * elements + 2 * 2 * x.size,
                2 * x.size * SIDE,
            )

    def words(implementation: str) -> Callable[..., Any]:
        return lambda key, rows: field(key, rows, SIDE, implementation=implementation)

    yield Case("mask_field", words, (keys[0], jnp.arange(SIDE, dtype=jnp.uint32)), 4 * elements)
    magnitudes = jnp.abs(jax.random.normal(jax.random.key(2), shape))
    for count in COUNTS:

        def select(implementation: str) -> Callable[..., Any]:
            if implementation == "reference":  # the one in NumPy is for the host
                return radix.smallest_kept
            return lambda magnitudes, wanted: smallest_kept(magnitudes, wanted, implementation=implementation)

        counts = jnp.linspace(1, elements, count, dtype=jnp.int32)
        yield Case(f"selection, {count} counts", select, (magnitudes, counts), 8 * 4 * elements)


def seconds(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[float, Any]:
    import jax

    compiled = jax.jit(function)
    result = jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - started)
    return statistics.median(times), result


def distance(ours: Any, reference: Any) -> float:
    """The largest difference, of words the share that differs."""
    import jax.numpy as jnp

    if jnp.issubdtype(ours.dtype, jnp.integer):
        return float(jnp.mean(ours != reference))
    return float(jnp.max(jnp.abs(ours.astype(jnp.float32) - reference.astype(jnp.float32))))


def measure(kernel: str) -> dict[str, Any]:
    import jax.numpy as jnp

    large = jnp.zeros((SIDE * 8, SIDE))
    copy = 2 * large.nbytes / seconds(lambda array: array + 1, (large,))[0]
    rows = []
    for case in cases():
        by_xla, expected = seconds(case.call("reference"), case.arguments)
        row = {"case": case.name, "megabytes": case.bytes / 1e6, "xla_ms": 1e3 * by_xla}
        row["xla_of_copy"] = case.bytes / by_xla / copy
        try:
            ours, found = seconds(case.call(kernel), case.arguments)
        except Exception as error:  # the rows of other kernels are wanted all the same
            rows.append(row | {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"})
            continue
        row |= {"kernel_ms": 1e3 * ours, "kernel_of_copy": case.bytes / ours / copy, "speed": by_xla / ours}
        row |= {"tflops": case.flops / ours / 1e12} if case.flops else {}
        rows.append(row | {"difference": distance(found, expected)})
    return {"implementation": kernel, "copy_gb_per_s": copy / 1e9, "cases": rows}


def compiled_for(target: str) -> dict[str, Any]:
    """Compiles every kernel for a device that need not be here."""
    import jax
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    platform, kernel = ("cuda", "pallas_gpu") if Path(target).is_file() else ("tpu", "pallas_tpu")
    if platform == "cuda":
        options = {"topology": "1x1x1", "target_config": Path(target).read_text(encoding="utf-8")}
        topology = topologies.get_topology_desc("1x1x1", "cuda", **options)
    else:
        topology = topologies.get_topology_desc(target, "tpu")
    device = topology.devices[0]
    there = SingleDeviceSharding(device)
    rows = []
    for case in cases():
        shapes = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(jax.numpy.shape(a), jax.dtypes.result_type(a), sharding=there),
            case.arguments,
        )
        started = time.perf_counter()
        lowered = jax.jit(case.call(kernel)).trace(*shapes).lower(lowering_platforms=(platform,))
        is_kernel = ("tpu_custom_call" if platform == "tpu" else "triton") in lowered.as_text()
        memory = lowered.compile().memory_analysis()
        rows.append(
            {
                "case": case.name,
                "kernel": is_kernel,
                "seconds": round(time.perf_counter() - started, 2),
                "temporary_megabytes": memory.temp_size_in_bytes / 1e6,
            }
        )
    return {"device": device.device_kind, "target": Path(target).name, "cases": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", metavar="TARGET", nargs="+", help="a TPU's topology, or a file for a GPU")
    arguments = parser.parse_args()
    if arguments.compile:
        # libtpu would look for the machine that it is on.
        os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    import jax
    from machine import write

    if arguments.compile:
        write("kernels_compiled", [compiled_for(target) for target in arguments.compile])
        return
    platform = jax.default_backend()
    kernel = {"tpu": "pallas_tpu", "gpu": "pallas_gpu"}.get(platform)
    if kernel is None:
        print(f"nothing is measured: jax runs on {platform}, where kernels are only interpreted; see --compile")
        return
    write(f"kernels_{platform}", measure(kernel))


if __name__ == "__main__":
    main()
