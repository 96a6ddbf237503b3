"""Several merges in one file, one document each: a merge may use another by its name, in place of a model."""

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from jaxmerge.documents import Keys
from jaxmerge.recipe.schema import Loaded, Recipe
from jaxmerge.recipe.slices import references


def in_order(recipes: Sequence[Loaded]) -> tuple[Loaded, ...]:
    """The merges such that each comes after those that it uses. Raises InputError for two of one name, and for merges
    that use each other in a circle."""
    if len(recipes) == 1:
        return tuple(recipes)
    places: dict[str | None, int] = {}
    for place, (recipe, document) in enumerate(recipes):
        if recipe.name in places:
            what = "lacks a name" if recipe.name is None else f"is named '{recipe.name}'"
            raise document.error(("name",), f"another merge {what} too; give each but the output its own")
        places[recipe.name] = place
    used = {i: [places[name] for name in uses(recipe) if name in places] for i, (recipe, _) in enumerate(recipes)}
    try:
        order = tuple(TopologicalSorter(used).static_order())
    except CycleError as error:
        # Each uses the one before it.
        circle = [recipes[place][0].name for place in error.args[1]]
        recipe, document = recipes[error.args[1][1]]
        raise document.error(uses(recipe)[str(circle[0])], _circle(list(map(str, circle)))) from None
    return tuple(recipes[place] for place in order)


def require_one_output(recipes: Sequence[Loaded]) -> None:
    """Raises InputError where not exactly one of the merges, which is the output, is used by no other."""
    used = {name for recipe, _ in recipes for name in uses(recipe)}
    free = [(recipe, document) for recipe, document in recipes if recipe.name not in used]
    if len(free) > 1:
        # The one without a name is the output.
        recipe, document = next((recipe, document) for recipe, document in free if recipe.name is not None)
        raise document.error(("name",), f"no other merge uses '{recipe.name}', and it is not the only one; remove it")


def uses(recipe: Recipe) -> dict[str, Keys]:
    """Every reference of a recipe, and where it stands first: models that are merged, and tokenizers."""
    found = references(recipe)
    if recipe.tokenizer_source is not None:
        found.setdefault(recipe.tokenizer_source, ("tokenizer_source",))
    if recipe.tokenizer is not None:
        found.setdefault(recipe.tokenizer.source, ("tokenizer", "source"))
        for token, entry in recipe.tokenizer.tokens.items():
            if entry.source is not None and entry.source.model is not None:
                found.setdefault(entry.source.model, ("tokenizer", "tokens", token, "source"))
    return found


def _circle(names: Sequence[str]) -> str:
    if len(names) == 2:
        return f"the merge '{names[0]}' uses itself; name it otherwise"
    return f"merges use each other in a circle: {', '.join(names)}; one of them must use models only"
