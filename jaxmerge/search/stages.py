"""Several searches, one after another: what each finds is a model of those that follow.

Every stage is a run of its own, in a folder of its own under `stages/`, and the last is the run itself. All write to
one history. So a stage that is done is not done again, and a run killed within any stage goes on there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.search.baselines import standard
from jaxmerge.search.config import RANDOM_SEARCH, EvolveConfig, StageConfig
from jaxmerge.search.folder import RunFolder
from jaxmerge.search.resolved import plain


@dataclass(frozen=True)
class Leg:
    """One search. checkable: the config with a stand-in for every model that an earlier stage has yet to make, so that
    it can be checked before the first of them starts; None where nothing stands in."""

    config: EvolveConfig
    folder: RunFolder
    checkable: EvolveConfig | None


def legs(config: EvolveConfig, out: Path) -> tuple[Leg, ...]:
    """The searches of a config, in order; the last is the main one.

    Raises InputError where a stage does not fit the config's models and objectives."""
    whole = RunFolder(out)
    made: dict[str, str] = {}
    # These spaces keep the shapes of their models: any of them stands in for the result.
    likeness: dict[str, str | None] = {}
    found: list[Leg] = []

    def leg(changes: Mapping[str, Any], folder: RunFolder) -> Leg:
        models = dict(config.models) | made
        present = _changed(config, {**changes, "models": models, "earlier": list(made)})
        missing = [name for name, path in made.items() if not Path(path).is_dir()]
        if any(likeness[name] is None for name in missing):
            return Leg(present, folder, None)
        stand_ins = {name: likeness[name] for name in missing}
        return Leg(present, folder, _changed(present, {"models": models | stand_ins}) if missing else present)

    for place, stage in enumerate(config.stages):
        folder = whole.stage(stage.label)
        try:
            found.append(leg(_keys(config, stage), folder))
        except InputError as error:
            reason = str(error).removeprefix("config: ")
            raise (config._document or Document(Path("config"), {})).error(("stages", place), reason) from None
        made[stage.label] = str(folder.model.absolute())
        some = next(iter(config.models.values()))
        likeness[stage.label] = some if not stage.space.flows else None
    return (*found, leg({}, whole)) if config.stages else (Leg(config, whole, config),)


def _keys(config: EvolveConfig, stage: StageConfig) -> dict[str, Any]:
    """What an earlier stage has of its own. It leaves the test data alone, and random search to the end."""
    if RANDOM_SEARCH in (stage.search.get("baselines") or ()):
        raise InputError(
            f"search.baselines: {RANDOM_SEARCH} runs once, after the last stage; name it in the config's own search"
        )
    data = plain(config)
    search = data["search"] | stage.search
    if "baselines" not in stage.search:
        named = config.search.baselines
        # Other stages start from none of them, and they may not fit a pool.
        default = standard(config) if stage.space.merges else ()
        search["baselines"] = [n for n in (default if named is None else named) if n != RANDOM_SEARCH]
    objectives = [
        objective | {"data": {split: file for split, file in objective["data"].items() if split != "test"}}
        for objective in data["objectives"]
    ]
    space = stage.space.model_dump(exclude_unset=True)
    return {"name": stage.label, "space": space, "search": search, "objectives": objectives}


def _changed(config: EvolveConfig, changes: Mapping[str, Any]) -> EvolveConfig:
    data = plain(config) | dict(changes) | {"stages": []}
    changed = Document(Path("config"), data).validate(EvolveConfig)
    changed._folder = config.folder
    return changed
