"""Task arithmetic: the base plus a weighted sum of task vectors."""

from jaxmerge.kernels.merge_tile.consensus import plain_sum
from jaxmerge.operators.task_vector import task_vector_operator
from jaxmerge.operators.trims import NONE

OPERATOR = task_vector_operator(
    "task_arithmetic",
    "The base plus a weighted sum of task vectors.",
    "Ilharco et al. 2023, Editing Models with Task Arithmetic, arXiv:2212.04089",
    trim=NONE,
    combine=plain_sum,
    normalize=False,
    rescale=False,
)
