"""What tells where a merged model comes from: its model card and its recipe.

The parts of a card that every merge has stand here: front matter, parents with their licenses, recipe.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jaxmerge
from jaxmerge.converters.hub import commit
from jaxmerge.converters.reference import HUB_ID, Location
from jaxmerge.documents import Document, write_documents
from jaxmerge.recipe.plan import Plan
from jaxmerge.recipe.renaming import parts, references_in, renamed

RECIPE = "mergekit_config.yml"
CARD = "README.md"


@dataclass(frozen=True)
class Parent:
    """A model that went into a merge.

    model: its hub id with the commit that was read, `org/name@commit`, or its folder's name where it is local.
    name: what the run calls it, "" where it has no name of its own.
    license: the identifier its own card states, None where it states none.
    lora: a LoRA that is applied to it, which is a parent too."""

    name: str
    model: str
    license: str | None = None
    lora: "Parent | None" = None

    @classmethod
    def of(cls, name: str, reference: str, location: Location, names: Mapping[str, str]) -> "Parent":
        """reference: as a recipe or a config names it. names: see `local_names`."""
        if location.adapter is None:
            shown = names.get(reference, reference)
            return cls(name, _pinned(shown, location.folder), stated_license(location.folder))
        model, _, lora = names.get(reference, reference).rpartition("+")
        adapter = cls("", _pinned(lora, location.adapter), stated_license(location.adapter))
        return cls(name, _pinned(model, location.folder), stated_license(location.folder), adapter)

    @property
    def models(self) -> tuple["Parent", ...]:
        """What the hub knows by ids of their own."""
        return (self,) if self.lora is None else (self, self.lora)

    def __str__(self) -> str:
        lora = "" if self.lora is None else f", with the LoRA {self.lora}"
        return f"`{self.model}`, license: {self.license or 'not known here, see its own card'}{lora}"


def _pinned(model: str, folder: Path) -> str:
    revision = commit(folder)
    return model if revision is None or Path(model).is_absolute() else f"{model.partition('@')[0]}@{revision}"


def _without_revision(model: str) -> str:
    return model.partition("@")[0] if HUB_ID.fullmatch(model) else model


def local_names(references: Iterable[str]) -> dict[str, str]:
    """What a card calls the models that absolute paths lead to, for a path says nothing to others, and too much: the
    folder's name, with those above it as far as that tells it from the others."""
    split = {reference: parts(reference) for reference in references}
    paths = {Path(part).parts[1:] for found in split.values() for part in found if Path(part).is_absolute()}
    longest = max(map(len, paths), default=0)

    def name(part: str) -> str:
        own = Path(part).parts[1:]
        if not Path(part).is_absolute() or not own:
            return part
        sizes = (size for size in range(1, longest) if sum(other[-size:] == own[-size:] for other in paths) == 1)
        return "/".join(own[-next(sizes, longest) :])

    named = {reference: "+".join(map(name, found)) for reference, found in split.items()}
    return {reference: shown for reference, shown in named.items() if shown != reference}


def stated_license(folder: Path) -> str | None:
    """The license in the front matter of a checkpoint's own README.md, or None where it states none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not text.startswith("---\n") or "\n---" not in text[4:]:
        return None
    try:
        matter = YAML(typ="safe", pure=True).load(text[4 : text.index("\n---", 4) + 1])
    except YAMLError:
        return None
    # A card that cannot be read states no license; the merge itself does not depend on it.
    stated = matter.get("license") if isinstance(matter, dict) else None
    return stated if isinstance(stated, str) else None


def front_matter(
    parents: Sequence[Parent],
    *,
    library: str = "transformers",
    relation: str = "merge",
    about: Sequence[Parent] | None = None,
    tags: Sequence[str] = ("merge",),
) -> str:
    """What the Hugging Face hub reads. parents: whose licenses count. about: those that are named as base models, where
    these are not all."""
    from ruamel.yaml import YAML

    licenses = {model.license for parent in parents for model in parent.models}
    named = (model.model for parent in (parents if about is None else about) for model in parent.models)
    matter: dict[str, Any] = {
        "library_name": library,
        "pipeline_tag": "text-generation",
        "base_model": list(dict.fromkeys(_without_revision(model) for model in named)),
        "base_model_relation": relation,
        "tags": [*tags, "jaxmerge"],
    }
    if licenses and licenses != {None}:
        # Parents that differ need a person to decide; `other` is what the Hub calls that.
        matter["license"] = licenses.pop() if len(licenses) == 1 else "other"
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(matter, stream)
    return f"---\n{stream.getvalue()}---"


def parents_section(parents: Sequence[Parent]) -> str:
    """The models that went in, each with its license."""
    lines = (f"- {line(parent.name) + ': ' if parent.name else ''}{parent}" for parent in parents)
    return "## Parents\n\n" + "\n".join(lines)


def recipe_section(recipe: str) -> str:
    """The recipe, in a fence that its content cannot close: as it is written, but with names for absolute paths."""
    documents = [document.data for document in Document.parse_all(recipe, Path(RECIPE))]
    names = local_names(reference for data in documents for reference in references_in(data))
    where = ""
    if names:
        recipe = write_documents([_named(data, names) for data in documents])
        where = ", where these names lead to the parents"
    fence = "```"
    while fence in recipe:
        fence += "`"
    return (
        f"## Recipe\n\n{fence}yaml\n{recipe.rstrip()}\n{fence}\n\n"
        f"`jaxmerge merge` makes the same tensors again from the recipe, to the last bit{where}."
    )


def _named(document: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    named: dict[str, Any] = renamed(document, lambda reference: names.get(reference, reference))
    if isinstance(own := named.get("jaxmerge"), dict):
        named["jaxmerge"] = {key: value for key, value in own.items() if key != "beside"}
    return named


def line(text: str) -> str:
    """Free text that stays within its line or its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def recipe_text(plans: Sequence[Plan]) -> str:
    """The recipe as it was given; with the seed in it where that was given beside it."""
    documents = []
    for plan in plans:
        data, own_seed = dict(plan.document.data), plan.recipe.jaxmerge.seed or 0
        if plan.seed != own_seed:
            data["jaxmerge"] = {**(data.get("jaxmerge") or {}), "seed": plan.seed}
        documents.append(data)
    file = plans[-1].document.file
    if file.is_file() and documents == [plan.document.data for plan in plans]:
        return file.read_text(encoding="utf-8")
    return write_documents(documents)


def model_card(plans: Sequence[Plan], recipe: str) -> str:
    """The card of a single merge, and of the last of several."""
    named = {plan.recipe.name for plan in plans[:-1]}
    locations = {
        reference: model.location
        for plan in plans
        for reference, model in zip(plan.references, plan.models, strict=True)
        if reference not in named
    }
    names = local_names(locations)
    parents = [Parent.of("", reference, location, names) for reference, location in locations.items()]
    plan = plans[-1]
    made = f"Made by jaxmerge {jaxmerge.__version__} with seed {plan.seed}."
    title = f"# A merge by {plan.operator.name}"
    summary = f"{plan.operator.summary} {made}"
    return "\n\n".join((front_matter(parents), title, summary, parents_section(parents), recipe_section(recipe))) + "\n"


def write_card(plans: Sequence[Plan], folder: Path) -> None:
    """plans: of the merges that the output is made of, its own last."""
    recipe = recipe_text(plans)
    (folder / RECIPE).write_text(recipe, encoding="utf-8")
    (folder / CARD).write_text(model_card(plans, recipe), encoding="utf-8")
