"""Trims of a task vector: what TIES, DARE, Breadcrumbs and DELLA leave of it before task vectors are combined."""

from jaxmerge.operators.trims.magnitude import MAGNITUDE
from jaxmerge.operators.trims.outliers import OUTLIERS
from jaxmerge.operators.trims.random import RANDOM
from jaxmerge.operators.trims.ranked import RANKED
from jaxmerge.operators.trims.trim import NONE, Trim

__all__ = ["MAGNITUDE", "NONE", "OUTLIERS", "RANDOM", "RANKED", "Trim"]
