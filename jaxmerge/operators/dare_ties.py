"""DARE with the sign election of TIES."""

from jaxmerge.kernels.merge_tile.consensus import elected_sum
from jaxmerge.operators.task_vector import task_vector_operator
from jaxmerge.operators.trims import RANDOM

OPERATOR = task_vector_operator(
    "dare_ties",
    "Task vectors with elements dropped at random and their L1 norm restored; signs are elected as in TIES.",
    "Yu et al. 2024, Language Models are Super Mario, arXiv:2311.03099",
    trim=RANDOM,
    combine=elected_sum,
    normalize=False,
    rescale=True,
)
