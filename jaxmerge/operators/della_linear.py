"""DELLA without its sign election: drop elements at random, small ones rather than large ones, rescale, sum."""

from jaxmerge.kernels.merge_tile.consensus import plain_sum
from jaxmerge.operators.task_vector import task_vector_operator
from jaxmerge.operators.trims import RANKED

OPERATOR = task_vector_operator(
    "della_linear",
    "Task vectors with elements dropped at random, small ones more often, and L1 norms restored, summed.",
    "Deep et al. 2024, DELLA-Merging, arXiv:2406.11617",
    trim=RANKED,
    combine=plain_sum,
    normalize=False,
    rescale=True,
)
