"""Model Breadcrumbs with the sign election of TIES."""

from jaxmerge.kernels.merge_tile.consensus import elected_sum
from jaxmerge.operators.task_vector import task_vector_operator
from jaxmerge.operators.trims import OUTLIERS

OPERATOR = task_vector_operator(
    "breadcrumbs_ties",
    "Task vectors without their smallest elements and their outliers; signs are elected as in TIES.",
    "Davari & Belilovsky 2024, Model Breadcrumbs, arXiv:2312.06795",
    trim=OUTLIERS,
    combine=elected_sum,
    normalize=False,
    rescale=False,
)
