"""Data-flow space: genomes to paths and scales."""

import numpy as np
import pytest

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.spaces.dataflow import DataflowSpace, Pool, Route, start_gene
from jaxmerge.spaces.dataflow_recipe import described, recipe

POOL = Pool(("a", "b"), (4, 2))
SIGMA = 0.1667


def space(scales: str = "hop", **changes: object) -> DataflowSpace:
    start = (start_gene(0.97725, SIGMA), start_gene(0.5, SIGMA))
    settings = dict(input="a", repeats=2, low=0.5, high=1.5, max_hops=64, start=start) | changes
    return DataflowSpace(POOL, scales=scales, **settings)  # type: ignore[arg-type]


def genome(of: DataflowSpace, *slots: int) -> np.ndarray:
    made = of.center()
    made[list(slots)] = 0.9
    return made


def test_a_path_is_the_first_layer_the_included_slots_and_the_last() -> None:
    own = space()
    assert own.route(genome(own)).layers.tolist() == [0, 3]
    # Slot 6 is a's first layer in the second repetition; slot 5 is b's last in the first.
    assert own.route(genome(own, 11, 5, 6)).layers.tolist() == [0, 5, 0, 5, 3]
    assert space(input="b").route(genome(own, 1)).layers.tolist() == [4, 1, 5]


def test_exactly_half_is_not_included() -> None:
    own = space()
    made = own.center()
    made[3] = np.nextafter(np.float32(0.5), np.float32(1))
    assert own.route(made).layers.tolist() == [0, 3, 3]


def test_of_a_longer_path_the_smallest_indicators_leave_first_and_of_equals_the_later() -> None:
    own = space(max_hops=5)
    made = own.center()
    made[[1, 2, 4, 7, 9]] = [0.7, 0.6, 0.8, 0.6, 0.95]
    assert own.route(made).layers.tolist() == [0, 1, 4, 3, 3]
    made[[1, 2, 4, 7, 9]] = 0.8
    assert own.route(made).layers.tolist() == [0, 1, 2, 4, 3]
    assert space(max_hops=2).route(made).layers.tolist() == [0, 3]


@pytest.mark.parametrize(("scales", "count"), [("none", 0), ("hop", 12), ("pair", 36), ("network", 41)])
@pytest.mark.parametrize("bounds", [(0.5, 1.5), (0.7, 1.2), (1.0, 3.0)])
def test_a_search_starts_at_the_input_model_itself(scales: str, count: int, bounds: tuple[float, float]) -> None:
    own = space(scales, low=bounds[0], high=bounds[1])
    assert own.dimension == 12 + count == len(own.genes) == len(set(own.genes)) == own.baseline().size
    route = own.route(own.baseline())
    assert route.layers.tolist() == [0, 1, 2, 3]
    assert (route.scales == 1).all() and (route.factors == 1).all()
    assert own.route(own.center()).layers.tolist() == [0, 3]
    assert own.positions.shape == (own.dimension,) and own.positions.min() == 0 and own.positions.max() == 1


def test_the_start_is_the_papers() -> None:
    own = space(max_hops=64)
    start = own.baseline()[:12]
    np.testing.assert_allclose(start[1:3], 0.5 + 2 * SIGMA, atol=1e-4)
    assert (np.delete(start, [1, 2]) == 0.5).all()
    assert start_gene(1.0, SIGMA) == 1.0 and start_gene(0.0, SIGMA) == 0.0
    assert start_gene(0.9999, 1.0) == 1.0


@pytest.mark.parametrize("scales", ["hop", "pair", "network"])
def test_scales_keep_to_their_bounds_and_the_first_is_one(scales: str) -> None:
    own = space(scales, low=0.8, high=1.5)
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(50):
        route = own.route(rng.integers(0, 2, own.dimension).astype(np.float32))
        assert route.scales[0] == 1 and route.scales.dtype == np.float32
        seen += route.scales[1:-1].tolist()
    assert np.float32(0.8) <= min(seen) and max(seen) <= np.float32(1.5)
    assert min(seen) < 0.95 and max(seen) > 1.1


def test_a_scale_belongs_to_its_slot_or_its_pair() -> None:
    hop = space("hop")
    made = genome(hop, 2, 8)
    made[12 + 8] = 0.75
    assert hop.route(made).scales.tolist() == [1, 1, 1.25, 1]
    assert hop.genes[12 + 8] == "scale a.2 (2)" and hop.genes[4] == "include b.0"
    pair = space("pair")
    made = genome(pair, 2, 8)
    made[12 + 2 * 6 + 2] = 0.75
    made[12 + 2 * 6 + 3] = 0.25
    assert pair.route(made).scales.tolist() == [1, 1, 1.25, 0.75]
    assert pair.genes[12 + 2 * 6 + 3] == "scale a.2 > a.3"


def test_the_network_sees_where_and_when() -> None:
    own = space("network")
    made = genome(own, 2, 8, 9)
    made[12:] = np.random.default_rng(1).random(41)
    route = own.route(made)
    assert route.layers.tolist() == [0, 2, 2, 3, 3] and len(set(route.scales.tolist())) == 5


def test_factors_are_one_over_the_running_product() -> None:
    own = space("hop")
    route = own.route(np.random.default_rng(0).random(own.dimension, np.float32))
    product = 1.0
    for scale, factor in zip(route.scales, route.factors, strict=True):
        product *= float(scale)
        assert factor == np.float32(1 / product)


def test_a_scale_that_float32_cannot_hold_is_no_number() -> None:
    factors = Route(np.zeros(3, np.int32), np.array([1, 1e30, 1e30], np.float32)).factors
    assert factors[1] == np.float32(1e-30) and np.isnan(factors[2])


def test_paths_of_all_lengths_have_one_shape() -> None:
    own = space()
    values = own.decode(np.stack([genome(own), genome(own, 1, 2), genome(own, *range(12))]))
    assert values["layers"].shape == values["factors"].shape == (3, 14)
    assert values["depth"].tolist() == [2, 4, 14]
    assert space(max_hops=6).decode(own.center()[None])["layers"].shape == (1, 6)


def test_a_negative_product_negates_norms_in_the_recipe() -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 4, "num_attention_heads": 2}
    architecture = architecture_of({"model_type": "llama"})
    table = architecture.table(architecture.read({"model_type": "llama", "vocab_size": 5, **sizes}))
    route = Route(np.array([0, 5, 3], np.int32), np.array([1, -2, 1], np.float32))
    written = recipe(route, POOL, table, references={"a": "x/a", "b": "x/b"}, out_dtype="bfloat16")
    middle, last = (part["sources"][0] for part in written["slices"][1:])
    norms = [{"filter": name, "value": -1.0} for name in ("input_layernorm", "post_attention_layernorm")]
    assert middle["model"] == "x/b" and middle["layer_range"] == [1, 2]
    assert written["slices"][0] == {"sources": [{"model": "x/a", "layer_range": [0, 1]}]}
    assert all(rule in middle["parameters"]["scale"] for rule in norms)
    assert {"filter": "mlp.down_proj", "value": -0.5} in last["parameters"]["scale"]
    assert {"filter": "model.norm.weight", "value": -1.0} in last["parameters"]["scale"]
    assert last["parameters"]["scale"][-1] == {"value": 1.0}
    assert described(route, POOL, (10, 7))["sharing"] == {
        "layers": 3, "unique_layers": 3, "parameters": 37, "shared_parameters": 37,
    }  # fmt: skip
