"""Joint space: a merge of a pool's models and a path through all of them, the merge among them, in one genome.

A genome is one of the parameter space, which says how the models are merged, followed by one of the data-flow space
over the models and, behind them, the merge.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxmerge.spaces.dataflow import DataflowSpace, Route
from jaxmerge.spaces.parameter import ParameterSpace, Values


@dataclass(frozen=True)
class JointSpace:
    """parameter: of the merge. flow: of the path."""

    parameter: ParameterSpace
    flow: DataflowSpace

    @property
    def dimension(self) -> int:
        return self.parameter.dimension + self.flow.dimension

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """A label for each gene."""
        return (*self.parameter.genes, *self.flow.genes)

    @cached_property
    def positions(self) -> np.ndarray:
        """Where in the model each gene acts: float64 `[d]` from 0 to 1."""
        return np.concatenate([self.parameter.positions, self.flow.positions])

    def parts(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The genomes of both spaces, of genomes `[..., d]`."""
        size = self.parameter.dimension
        return genomes[..., :size], genomes[..., size:]

    def start(self, merge: np.ndarray) -> np.ndarray:
        """The layers of a merge, given by its genome, as the path: float32 `[d]`."""
        return np.concatenate([merge, self.flow.baseline()])

    def merge(self, genomes: np.ndarray) -> Values:
        """How the models are merged, as `ParameterSpace.decode` says it."""
        return self.parameter.decode(self.parts(genomes)[0])

    def route(self, genome: np.ndarray) -> Route:
        """The path of a genome `[d]`."""
        return self.flow.route(self.parts(genome)[1])

    def path(self, genomes: np.ndarray) -> Values:
        """The paths of genomes `[P, d]`, as `DataflowSpace.decode` says them."""
        return self.flow.decode(self.parts(genomes)[1])

    def gates(self, genome: np.ndarray) -> Values:
        """A gate for every slot, float32 `[slots]`."""
        return self.flow.gates(self.parts(genome)[1])

    def pulled(self, by_merge: Values, by_gate: Values) -> np.ndarray:
        """The gradient by the genes, float32 `[d]`, of one by the values of a merge and by the gates."""
        return np.concatenate([self.parameter.pulled(by_merge), self.flow.pulled(by_gate)])

    def nearly_own(self, genome: np.ndarray) -> np.ndarray:
        """The same merge, with gates as `DataflowSpace.nearly_own` has them."""
        return np.concatenate([self.parts(genome)[0], self.flow.nearly_own()])

    def halved(self, genome: np.ndarray) -> np.ndarray:
        """The same merge, with gates as `DataflowSpace.halved` draws them."""
        merge, flow = self.parts(genome)
        return np.concatenate([merge, self.flow.halved(flow)])
