"""DARE, linear: drop elements of task vectors at random, rescale, sum."""

from jaxmerge.kernels.merge_tile.consensus import plain_sum
from jaxmerge.operators.task_vector import task_vector_operator
from jaxmerge.operators.trims import RANDOM

OPERATOR = task_vector_operator(
    "dare_linear",
    "Task vectors with elements dropped at random and their L1 norm restored, summed.",
    "Yu et al. 2024, Language Models are Super Mario, arXiv:2311.03099",
    trim=RANDOM,
    combine=plain_sum,
    normalize=False,
    rescale=True,
)
