"""DELLA: drop elements at random, small ones rather than large ones, rescale, elect signs as TIES does."""

from jaxmerge.kernels.merge_tile.consensus import elected_sum
from jaxmerge.operators.task_vector import task_vector_operator
from jaxmerge.operators.trims import RANKED

OPERATOR = task_vector_operator(
    "della",
    "Task vectors with elements dropped at random, small ones more often, L1 norms restored; signs elected as in TIES.",
    "Deep et al. 2024, DELLA-Merging, arXiv:2406.11617",
    trim=RANKED,
    combine=elected_sum,
    normalize=True,
    rescale=True,
)
