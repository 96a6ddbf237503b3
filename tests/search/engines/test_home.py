"""Where a bank goes by its bytes, on devices that are here or not; scores and exports are the same from there."""

from collections.abc import Sequence
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from tiny_world import write_world

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.converters.safetensors_header import TensorInfo
from jaxmerge.errors import InputError
from jaxmerge.objectives.interface import Batch, Bucket
from jaxmerge.operators.registry import operator
from jaxmerge.runtime.memory import GB, KNOWN, Devices, named
from jaxmerge.runtime.placement import model_axes
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.engines.home import Home, choose
from jaxmerge.search.engines.needs import Needs, needs_of
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.resolved import read_config

LLAMA_7B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 32000,
}
CONFIG = architecture_of(LLAMA_7B).read(LLAMA_7B)
TABLE = architecture_of(LLAMA_7B).table(CONFIG)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def texts(count: int, length: int) -> Batch:
    everywhere = np.ones((count, length), bool)
    return Batch((Bucket(np.zeros((count, length), np.int32), everywhere, everywhere, np.arange(count)),), count)


def needs(
    experts: int = 3, *, writing: bool = False, merge: str = "ties", chunk: int = 1, cache: np.dtype | None = None
) -> Needs:
    tensors = {n: TensorInfo(BFLOAT16, p.shape, Path(), 0) for p in TABLE for n in p.names(TABLE.num_layers)}
    sources = {"base": tensors, **{f"m{i}": tensors for i in range(experts)}}
    prompts = [(texts(64, 256), 128)] if writing else []
    chosen = operator(merge)
    return needs_of(
        CONFIG,
        TABLE,
        sources,
        BFLOAT16,
        chunk=chunk,
        operator=chosen,
        texts=[[texts(100, 512)]],
        prompts=prompts,
        cache=cache,
    )


def home(devices: str, models: Sequence[int] | None = None, **of: int | bool) -> Home:
    chosen = named(devices)
    return choose(needs(**of), chosen, models=models or model_axes(CONFIG, chosen.count))  # type: ignore[arg-type]


def test_the_needs_of_a_7b_population_are_those_of_its_shapes() -> None:
    parameters = 6_738_415_616
    found = needs(writing=True)
    layer = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    assert found.sources == "base + 3 x 6.74B bfloat16"
    assert found.bank == 4 * 2 * parameters and found.model == 2 * parameters
    assert found.layer == 4 * 2 * layer and found.merged == 2 * layer
    # The last new token is not kept.
    assert found.cache == 2 * 32 * 32 * 128 * 2 * 64 * (256 + 127)
    assert needs(writing=True, cache=np.dtype(np.float32)).cache == 2 * found.cache
    assert found.stream == 100 * 512 * 4096 * 2
    # Rows of the embedding and the head's blocks, never more than there are.
    assert found.ends == 2 * 4 * 2 * 4096 * 32000
    # What is prepared for each element of each expert lies beside the bank.
    bytes_each = operator("della").field_bytes
    assert bytes_each and needs(merge="della").bank == found.bank + 3 * bytes_each * parameters


def test_a_bank_is_on_the_device_with_the_smallest_model_axis_then_split_then_on_the_host() -> None:
    assert (home("v6e-16").name, home("v6e-16").pop, home("v6e-16").model) == ("device", 4, 4)
    assert home("v5e-8").line.startswith(
        "v5e-8, base + 3 x 6.74B bfloat16: bank device, pop 1 x model 8, 10.0 of 16.0 GB (bank 6.7, "
    )
    assert home("v5e-8").line.endswith("; device with model 4 needs 18.5 GB")
    # Over hosts of four devices each.
    spanning = home("v5e-16")
    assert (spanning.name, spanning.pop, spanning.model) == ("device", 2, 8)
    assert (home("H100-8").name, home("H100-8").model) == ("device", 1)
    # Where a candidate cannot be divided.
    assert home("v5e-16", [1]).name == "host"
    split = home("v6e-8", [1])
    assert split.name == "sharded" and split.parts["bank"] == needs().bank // 8 + needs().layer
    alone = home("v5e-1")
    assert alone.name == "host" and "; device needs 69.4 GB" in alone.line
    # 7B, base + 2, by likelihood within 16 GB; what is left is for candidates that wait.
    assert home("v5e-1", experts=2).bytes < 5 * GB
    assert alone.waiting == int(0.9 * 16 * GB) - alone.bytes + alone.parts["waiting"]
    # Where text is written there is a whole model.
    assert home("H100-1", writing=True).parts["a whole model"] == needs().model


def test_more_candidates_at_once_need_more_and_more_experts_need_more() -> None:
    for name in ("v5p-8", "v4-16"):
        assert home(name, chunk=2).bytes > home(name).bytes
    assert needs(4).bank > needs(3).bank and needs(4).merged == needs(3).merged


@pytest.mark.parametrize(
    ("text", "count", "memory", "host", "flops"),
    [
        ("v5e-16", 16, 16, 4, 197e12),
        ("v5e-8", 8, 16, 8, 197e12),
        ("v4-32", 16, 32, 4, 275e12),
        ("v5p-8", 4, 95, 4, 459e12),
        ("h200-16", 16, 141, 8, 989e12),
    ],
)
def test_devices_by_name(text: str, count: int, memory: int, host: int, flops: float) -> None:
    assert named(text) == Devices(text, count, memory * GB, host, flops)


@pytest.mark.parametrize("text", ["v5e", "v5e-0", "v9-8", "v4-3", "", "H100 8"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--devices: "):
        named(text)
    assert "v5e" in KNOWN


def test_a_bank_that_fits_nowhere_is_refused_with_the_bytes_and_what_would_fit() -> None:
    with pytest.raises(InputError) as failed:
        home("v5e-4", writing=True, models=[1])
    error = str(failed.value)
    assert "fits in no home on v5e-4 with 16.0 GB each: device 82.4 GB, sharded 43.6 GB, host 32.1 GB" in error
    assert "it takes devices of 36.1 GB, or shorter texts" in error
    assert choose(needs(writing=True), Devices("four", 4, int(36.1 * GB), 4)).fits
    with pytest.raises(InputError, match=r"device 69\.4 GB; write runtime.bank: host"):
        choose(needs(), named("v5e-1"), "device")
    with pytest.raises(InputError, match="sharded: needs a pop axis of at least 2 devices"):
        choose(needs(), named("v5e-1"), "sharded")
    with pytest.raises(InputError, match="host: needs a mesh whose model is 1; use device"):
        choose(needs(), named("v5e-16"), "host", models=[8])
    with pytest.raises(InputError, match="bank: host: because"):
        choose(needs(), named("v5e-1"), "host", refused={"host": "because"})
    with pytest.raises(InputError, match=r"fits in no home.*; host would fit, but because"):
        choose(needs(), named("v5e-1"), refused={"host": "because"})


TIES = {"operator": "ties", "parameters": {"weight": [-0.3, 1.8], "density": [0.1, 1.0]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"warm_start": "gradient"}}, "host: a gradient needs all layers at once; use device or sharded"),
        ({"search": {"algorithm": "adam"}}, "host: a gradient needs all layers at once"),
        ({"space": {"kind": "dataflow"}}, "host: a path visits the layers in an order of its own; use device"),
        ({"space": {"kind": "joint", **TIES}}, "host: a path visits the layers in an order of its own"),
    ],
)
def test_what_cannot_be_streamed_is_refused_before_a_weight_is_read(
    tmp_path: Path, changes: dict[str, dict[str, object]], message: str
) -> None:
    from jaxmerge.search.run import engine_of

    engine = engine_of(read_config(write_world(tmp_path, **changes, runtime={"bank": "host"})))
    with pytest.raises(InputError, match=message):
        _ = engine.chosen


def test_an_engine_over_a_bank_on_the_host_is_the_same_engine(tmp_path: Path) -> None:
    config = read_config(write_world(tmp_path, space=TIES))
    # By its bytes: with the whole bank a device would need 160 kB.
    small = config.running(memory="140kB")
    device, host = ParameterEngine(config), ParameterEngine(small)
    assert (device.chosen["bank"], host.chosen["bank"]) == ("device", "host")
    genomes = np.random.default_rng(4).random((2, device.dimension), dtype=np.float32)
    for engine in (device, host):
        engine.load()
    expected, found = (engine.evaluate(genomes) for engine in (device, host))
    assert [result.score for result in found] == [result.score for result in expected]
    assert len({result.score for result in found}) == 2
    merged = jax.tree.map(np.asarray, [engine.parameters(genomes[0]) for engine in (device, host)])
    assert all(merged[1][path].tobytes() == array.tobytes() for path, array in merged[0].items())
    for merge in (Untuned("base", None, ("base",)), Untuned("b", None, ("b",))):
        assert host.measure(merge, "search").result.score == device.measure(merge, "search").result.score
