"""What tells where a merged model comes from: its model card and its recipe."""

from pathlib import Path

import jaxmerge
from jaxmerge.documents import write_yaml
from jaxmerge.recipe.plan import Plan

RECIPE = "mergekit_config.yml"
CARD = "README.md"


def recipe_text(plan: Plan) -> str:
    """The recipe as it was given; with the seed in it where that was given beside it."""
    own_seed = plan.recipe.jaxmerge.seed or 0
    if plan.document.file.is_file() and plan.seed == own_seed:
        return plan.document.file.read_text(encoding="utf-8")
    data = dict(plan.document.data)
    if plan.seed != own_seed:
        data["jaxmerge"] = {**(data.get("jaxmerge") or {}), "seed": plan.seed}
    return write_yaml(data)


def model_card(plan: Plan, recipe: str) -> str:
    """Markdown with the front matter of the Hugging Face hub."""
    sources = "\n".join(f"- `{reference}`" for reference in plan.references)
    return f"""---
library_name: transformers
tags:
- merge
- jaxmerge
---
# A merge by {plan.operator.name}

{plan.operator.summary} Made by jaxmerge {jaxmerge.__version__} with seed {plan.seed} from

{sources}

## Recipe

```yaml
{recipe.rstrip()}
```
"""


def write_card(plan: Plan, folder: Path) -> None:
    recipe = recipe_text(plan)
    (folder / RECIPE).write_text(recipe, encoding="utf-8")
    (folder / CARD).write_text(model_card(plan, recipe), encoding="utf-8")
