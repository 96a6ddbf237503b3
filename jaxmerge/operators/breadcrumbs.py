"""Model Breadcrumbs: task vectors without their smallest elements and without their outliers, summed."""

from jaxmerge.kernels.merge_tile.consensus import plain_sum
from jaxmerge.operators.task_vector import task_vector_operator
from jaxmerge.operators.trims import OUTLIERS

OPERATOR = task_vector_operator(
    "breadcrumbs",
    "Task vectors without their smallest elements and their outliers, summed.",
    "Davari & Belilovsky 2024, Model Breadcrumbs, arXiv:2312.06795",
    trim=OUTLIERS,
    combine=plain_sum,
    normalize=False,
    rescale=False,
)
