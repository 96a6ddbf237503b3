"""Data-flow space: a genome says through which layers of a pool a text runs, and how the stream is scaled between them.

The pool's layers lie in order, all of the first model, then all of the second; the list is repeated, which gives the
slots. A slot is on the path where its gene is above 0.5. Embeddings, head, first and last layer of one model, `input`,
always start and end the path (Akiba et al., 2024, arXiv:2403.13187, section 3.2). A genome is a point of the unit box.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

Values = dict[str, np.ndarray]

# The feed-forward net of `network`: its size, and how far its weights reach on either side of 0.
HIDDEN = 8
NETWORK_GENES = HIDDEN * (3 + 1) + HIDDEN + 1
REACH = 2.0
# Of a slot that is not on the path, where gradient steps set out: a shut gate has no gradient of what is behind it.
GATE = 0.1


@dataclass(frozen=True)
class Pool:
    """The models whose layers are at hand, in order. depths: layers of each."""

    names: tuple[str, ...]
    depths: tuple[int, ...]

    @property
    def size(self) -> int:
        """M, the number of layers."""
        return sum(self.depths)

    def first(self, name: str) -> int:
        """The place of a model's first layer among the pool's layers."""
        return sum(self.depths[: self.names.index(name)])

    def depth(self, name: str) -> int:
        return self.depths[self.names.index(name)]

    def ends(self, name: str) -> tuple[int, int]:
        """The places of a model's first and last layer."""
        return self.first(name), self.first(name) + self.depth(name) - 1

    @cached_property
    def layers(self) -> tuple[tuple[str, int], ...]:
        """Model and layer within it, of every layer of the pool."""
        pairs = zip(self.names, self.depths, strict=True)
        return tuple((name, layer) for name, depth in pairs for layer in range(depth))


@dataclass(frozen=True)
class Route:
    """One candidate. layers: places in the pool, int32 `[T]`. scales: float32 `[T]`, of the stream on its way into each
    layer; the first is 1."""

    layers: np.ndarray
    scales: np.ndarray

    @property
    def factors(self) -> np.ndarray:
        """What the layers' outputs are multiplied by where the scales are folded into the model: one over the product
        of the scales so far, float32 `[T]` (see `architectures.fold`). NaN where float32 cannot hold it."""
        with np.errstate(over="ignore", under="ignore"):
            factors = (1.0 / np.cumprod(self.scales, dtype=np.float64)).astype(np.float32)
        normal = np.isfinite(factors) & (np.abs(factors) >= np.finfo(np.float32).tiny)
        return np.where(normal, factors, np.float32(np.nan))


@dataclass(frozen=True)
class DataflowSpace:
    """The search space of a pool.

    input: the model that starts and ends a path. repeats: how often the pool's layers come. scales: none, hop (a scale
    a slot), pair (one for each pair of layers, the full matrix), network (given by a feed-forward net of the two layers
    and the hop). low, high: bounds of a scale, around 1. max_hops: the longest path; of a longer one the slots with the
    smallest genes leave first. start: the genes with which the slots of one model's first repetition, and all others,
    start; own: that model, None for the input. A path's first and last layer are the input's, so that it starts with
    those of `own` in between.
    """

    pool: Pool
    input: str
    repeats: int
    scales: str
    low: float
    high: float
    max_hops: int
    start: tuple[float, float]
    own: str | None = None

    @property
    def slots(self) -> int:
        return self.pool.size * self.repeats

    @property
    def hops(self) -> int:
        """The most layers that a path can have."""
        return min(self.max_hops, self.slots + 2)

    @property
    def dimension(self) -> int:
        return self.slots + self._scale_genes

    @property
    def _scale_genes(self) -> int:
        counts = {"none": 0, "hop": self.slots, "pair": self.pool.size**2, "network": NETWORK_GENES}
        return counts[self.scales]

    @property
    def _one(self) -> np.float32:
        """The gene of the scale 1."""
        return np.float32((1 - self.low) / (self.high - self.low))

    @property
    def _ends(self) -> tuple[int, int]:
        return self.pool.ends(self.input)

    @property
    def _own(self) -> tuple[int, int]:
        return self.pool.ends(self.own or self.input)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """A label for each gene."""
        return gene_labels(self.pool, self.repeats, self.scales)

    @cached_property
    def positions(self) -> np.ndarray:
        """Where in the path each gene acts: float64 `[d]` from 0 to 1. A pair's scale acts where its first layer is
        among the pool's, a net's weights everywhere, which is 0."""
        slots = np.linspace(0.0, 1.0, self.slots)
        layers = np.linspace(0.0, 1.0, self.pool.size).repeat(self.pool.size)
        rest = {"none": slots[:0], "hop": slots, "pair": layers, "network": np.zeros(self._scale_genes)}
        return np.concatenate([slots, rest[self.scales]])

    def center(self) -> np.ndarray:
        """No slot, and scales of 1: float32 `[d]`."""
        scale = 0.5 if self.scales == "network" else self._one
        return np.concatenate(
            [np.full(self.slots, 0.5, np.float32), np.full(self._scale_genes, scale, np.float32)]
        )

    def none(self) -> np.ndarray:
        """No slot either, but as far from any as can be: float32 `[d]`."""
        genome = self.center()
        genome[: self.slots] = 0.0
        return genome

    def baseline(self) -> np.ndarray:
        """The model `own` as it is, by the default `start`: float32 `[d]`. The slots of its first and last layer are
        among the others, for every path has two such layers already."""
        genome = self.center()
        first, last = self._own
        genome[: self.slots] = self.start[1]
        genome[first + 1 : last] = self.start[0]
        return genome

    def gates(self, genome: np.ndarray) -> Values:
        """A gate for every slot, its gene: float32 `[slots]`."""
        return {"gates": genome[: self.slots]}

    @property
    def gated_layers(self) -> tuple[int, ...]:
        """The layers of all slots between the two that every path has."""
        first, last = self._ends
        return (first, *(slot % self.pool.size for slot in range(self.slots)), last)

    def pulled(self, by_value: Values) -> np.ndarray:
        """The gradient by the genes, float32 `[d]`, of one by the gates. Scales have none."""
        return np.concatenate([by_value["gates"], np.zeros(self._scale_genes)]).astype(np.float32)

    def nearly_own(self) -> np.ndarray:
        """Gates nearly open for the layers of `own`, nearly shut for all others: float32 `[d]`."""
        genome, (first, last) = self.center(), self._own
        genome[: self.slots] = GATE
        genome[first + 1 : last] = 1 - GATE
        return genome

    def halved(self, genome: np.ndarray) -> np.ndarray:
        """Gates drawn halfway to the middle, so that a search may still change its mind about each."""
        drawn = genome.copy()
        drawn[: self.slots] = 0.5 + (genome[: self.slots] - 0.5) / 2
        return drawn

    def route(self, genome: np.ndarray) -> Route:
        """The path of a genome `[d]`."""
        genes = genome[: self.slots]
        included = np.flatnonzero(genes > 0.5)
        strongest = np.argsort(-genes[included], kind="stable")[: self.max_hops - 2]
        slots = included[np.sort(strongest)]
        first, last = self._ends
        layers = np.array([first, *(slots % self.pool.size), last], np.int32)
        scales = np.ones(len(layers))
        scales[1:] = self._scales(genome[self.slots :].astype(np.float64), slots, layers)
        return Route(layers, scales.astype(np.float32))

    def decode(self, genomes: np.ndarray) -> Values:
        """Genomes `[P, d]` as what `population.routed` runs: `layers` int32 and `factors` float32, `[P, hops]`, of
        which the first `depth` int32 `[P]` count."""
        routes = [self.route(genome) for genome in genomes]
        layers = np.zeros((len(routes), self.hops), np.int32)
        factors = np.ones((len(routes), self.hops), np.float32)
        for i, route in enumerate(routes):
            layers[i, : len(route.layers)] = route.layers
            factors[i, : len(route.layers)] = route.factors
        return {"layers": layers, "factors": factors, "depth": np.array([len(r.layers) for r in routes], np.int32)}

    def _scales(self, genes: np.ndarray, slots: np.ndarray, layers: np.ndarray) -> np.ndarray:
        """Scales of all hops but the first, float64. With `hop` the last layer, which is no slot, has 1."""
        if self.scales == "none":
            return np.ones(len(layers) - 1)
        if self.scales == "network":
            return self._network(genes, layers)
        size = self.pool.size
        chosen = genes[slots] if self.scales == "hop" else genes.reshape(size, size)[layers[:-1], layers[1:]]
        # Counted from the gene of 1, so that this gene gives exactly 1.
        scales = np.clip(1 + (chosen - float(self._one)) * (self.high - self.low), self.low, self.high)
        return np.append(scales, 1.0) if self.scales == "hop" else scales

    def _network(self, genes: np.ndarray, layers: np.ndarray) -> np.ndarray:
        """From layer, to layer and hop, each in [-1, 1], through one hidden layer of tanh; 0 gives 1."""
        weights = (genes - 0.5) * 2 * REACH
        inner, outer = weights[: 4 * HIDDEN].reshape(4, HIDDEN), weights[4 * HIDDEN :]
        hops = np.arange(1, len(layers))
        ends = (self.pool.size - 1, self.pool.size - 1, self.hops - 1)
        inputs = [2 * x / max(end, 1) - 1 for x, end in zip((layers[:-1], layers[1:], hops), ends, strict=True)]
        hidden = np.tanh(np.stack([*inputs, np.ones(len(hops))], axis=1) @ inner)
        output = np.tanh(hidden @ outer[:HIDDEN] + outer[HIDDEN])
        return 1 + output * np.where(output > 0, self.high - 1, 1 - self.low)


def gene_labels(pool: Pool, repeats: int, scales: str) -> tuple[str, ...]:
    """A label for each gene: `include math.3`, `scale math.3 (2)` in the second repetition, `scale math.3 > ja.0`."""
    layers = [f"{name}.{layer}" for name, layer in pool.layers]
    slots = [f"{layer} ({n + 1})" if n else layer for n in range(repeats) for layer in layers]
    of_scales = {
        "none": [],
        "hop": [f"scale {slot}" for slot in slots],
        "pair": [f"scale {source} > {target}" for source in layers for target in layers],
        "network": [f"network {i}" for i in range(NETWORK_GENES)],
    }[scales]
    return (*(f"include {slot}" for slot in slots), *of_scales)


def start_gene(probability: float, sigma: float) -> float:
    """The mean gene of a slot that is to be on the path with a probability, in the unit box."""
    if probability in (0.0, 1.0):
        return probability
    return float(np.clip(0.5 + sigma * NormalDist().inv_cdf(probability), 0.0, 1.0))


