"""What is wrong with a recipe, found without opening a model: all of it, before anything is fetched."""

from collections.abc import Collection
from pathlib import Path

from jaxmerge.converters.reference import Location
from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import operator as find_operator
from jaxmerge.plugins import importable
from jaxmerge.recipe.location import located_here
from jaxmerge.recipe.parameters import missing_settings, setting_mistakes
from jaxmerge.recipe.schema import Recipe
from jaxmerge.recipe.slices import length_mistakes, output_slices, references, source_mistakes
from jaxmerge.tokens.chat_template import require_known


def mistakes(recipe: Recipe, document: Document, made: Collection[str] = ()) -> list[InputError]:
    """made: the names of other merges, which the recipe may use in place of models."""
    errors: list[InputError] = []
    operator: Operator | None = None
    try:
        operator = recipe_operator(recipe, document)
    except InputError as error:
        errors.append(error)
    models: dict[str, Location | str] = {}
    for reference, keys in references(recipe).items():
        models[reference] = reference
        try:
            if reference not in made and (found := located_here(reference, recipe, document)):
                models[reference] = found.resolve()
        except InputError as error:
            errors.append(document.error(keys, str(error)))
    if recipe.chat_template is not None:
        try:
            require_known(recipe.chat_template)
        except InputError as error:
            errors.append(document.error(("chat_template",), str(error)))
    for name in recipe.bodies:
        errors += length_mistakes(recipe, name, document)
    if operator is not None:
        errors += setting_mistakes(recipe, document, operator)
        # Two names of one folder are one model.
        distinct = list(dict.fromkeys(models.values()))
        index = {reference: distinct.index(model) for reference, model in models.items()}
        for name in recipe.bodies:
            for part in output_slices(recipe, name, index):
                errors += source_mistakes(document, operator, part)
                errors += missing_settings(part, recipe, document, operator)
    return errors


def recipe_operator(recipe: Recipe, document: Document) -> Operator:
    try:
        with importable(Path(), document.file.parent):
            return find_operator(recipe.merge_method)
    except InputError as error:
        raise document.error(("merge_method",), str(error)) from None
