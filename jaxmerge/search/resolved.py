"""From a config as written to the config of a run: paths absolute, `auto` as chosen, content fingerprinted."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxmerge import __version__
from jaxmerge.converters.reference import spelled_out
from jaxmerge.documents import Document, dotted, write_yaml
from jaxmerge.errors import InputError
from jaxmerge.plugins import importable
from jaxmerge.search.algorithms.registry import Algorithm, choose
from jaxmerge.search.config import EvolveConfig, Origin, Runtime
from jaxmerge.search.engine import Engine
from jaxmerge.search.engines.forward import refusal
from jaxmerge.search.fingerprint import hash_of_file, hash_of_model, hash_of_tokenizer
from jaxmerge.search.folder import RunFolder

# Of a run's folder; a run of another is not gone on with.
FORMAT = 1
HEADER = "# The config of this run as it was resolved. The same command with the config it came from resumes the run.\n"
# What may change when a run is resumed; a path may, for what it leads to is compared by content. Of `runtime` all may
# but what changes scores by more than rounding.
FREE = (
    ("search", "generations"),
    ("search", "budget"),
    *(("runtime", key) for key in Runtime.model_fields if key != "compression"),
    ("report",),
    ("origin", "folder"),
    ("origin", "version"),
)
PATHS = (("models",), ("base",), ("tokenizer",), ("search", "start"))
# By these names the user knows what is compared by content.
NAMED: dict[tuple[str | int, ...], tuple[str, ...]] = {
    ("origin", "tokenizer"): ("tokenizer",),
    ("origin", "start"): ("search", "start"),
}


def read_config(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> EvolveConfig:
    """The config of a file, or of plain Python whose paths are relative to the working directory.

    overrides: `a.b=value` each. Raises InputError naming file, line and key.
    """
    document = Document(Path("config"), dict(source)) if isinstance(source, Mapping) else Document.read(Path(source))
    document = document.override(overrides)
    with importable(document.home):  # an operator of the user's own may lie there
        config = document.validate(EvolveConfig)
    config._folder, config._document = document.home, document
    if config.search.start not in ("baseline", "center") and not (config.folder / config.search.start).is_file():
        there = config.folder / config.search.start
        raise document.error(("search", "start"), f"{there}: no such recipe; write baseline, center or a recipe's path")
    return config


def read_recorded(file: Path) -> EvolveConfig:
    """The config.yaml of a run. Raises InputError where another version of jaxmerge wrote it in another format."""
    origin = Document.read(file).data.get("origin")
    origin = origin if isinstance(origin, dict) else {}
    if origin.get("format") != FORMAT:
        version = origin.get("version", "another version")
        raise InputError(
            f"{file.parent}: was made by jaxmerge {version} in another format than that of {__version__}; go on with "
            "that version, or name another folder"
        )
    config = read_config(file)
    # The folder may have been moved since, and with it what its stages made.
    inside = {name: RunFolder.at(file.parent).stage(name).model for name in config.earlier}
    config.models.update({name: str(model.absolute()) for name, model in inside.items() if model.is_dir()})
    return config


def resolve(config: EvolveConfig, engine: Engine, algorithm: Algorithm) -> EvolveConfig:
    """The config as a run records it in config.yaml. From anywhere it gives the same run again, or the same last stage:
    the earlier ones it names by what they made."""
    data = plain(config)
    for key in ("models", "base", "tokenizer"):
        if key in data:
            data[key] = _located(data[key], config.folder)
    start = config.search.start
    if start not in ("baseline", "center"):
        data["search"]["start"] = str((config.folder / start).resolve())
        start = hash_of_file(config.folder / start)
    hashes: dict[str, dict[str, str]] = {}
    for objective in data["objectives"]:
        files = {split: (config.folder / file).resolve() for split, file in objective["data"].items()}
        objective["data"] = {split: str(file) for split, file in files.items()}
        hashes[objective["name"]] = {split: hash_of_file(file) for split, file in files.items()}
    data["search"]["algorithm"] = choose(config.search.algorithm, engine.dimension)
    data["search"]["population"] = algorithm.population
    data["search"]["generations"] = config.search.last_generation
    data["runtime"] = dict(engine.chosen)
    origin = Origin(
        format=FORMAT,
        version=__version__,
        folder=str(config.folder),
        dimension=engine.dimension,
        models={name: hash_of_model(location) for name, location in engine.locations.items()},
        data=hashes,
        tokenizer=hash_of_tokenizer(engine.tokenizer),
        start=start,
    )
    data["origin"] = origin.model_dump(exclude_none=True)
    resolved = Document(Path("config.yaml"), _without_none(data)).validate(EvolveConfig)
    resolved._folder = config.folder
    return resolved


def plain(config: EvolveConfig) -> dict[str, Any]:
    """The config as plain Python, without keys that say nothing."""
    return config.model_dump(exclude_none=True)


def as_yaml(config: EvolveConfig) -> str:
    """The text of config.yaml."""
    return HEADER + write_yaml(plain(config))


def require_same(recorded: EvolveConfig, config: EvolveConfig, folder: Path) -> None:
    """Raises InputError naming the first key in which a resolved config differs from the run's, except for those
    that may change: generations, budget and most of runtime."""
    if found := first_difference(plain(recorded), plain(config), FREE):
        key, was, now = found
        changed = " (the content has changed)" if "xxh3:" in now else ""
        raise InputError(
            f"{folder}: was made with {key}: {was}, now it is {now}{changed}; restore it, or name another folder"
        )


def changed_end(recorded: EvolveConfig, config: EvolveConfig) -> str | None:
    """Where the search ends now, and where it was to end, if that is another place."""
    was, now = (_end(each) for each in (recorded, config))
    return None if was == now else f"was started with {was}; it ends now with {now}"


def _end(config: EvolveConfig) -> str:
    search = config.search
    limits = {"generations": search.generations} | {f"budget.{k}": v for k, v in search.budget.model_dump().items()}
    return ", ".join(f"search.{key}: {value:g}" for key, value in limits.items() if value is not None)


def first_difference(
    one: Mapping[str, Any], other: Mapping[str, Any], free: Iterable[tuple[str, ...]] = (("origin", "folder"),)
) -> tuple[str, str, str] | None:
    """The first key in which two resolved configs differ, and both its values, as they are shown; paths do not count,
    nor what stands under `free`."""
    old, new = dict(_leaves(one)), dict(_leaves(other))
    left_out = (*free, *PATHS)
    for keys in [*old, *(keys for keys in new if keys not in old)]:
        if any(keys[: len(f)] == f for f in left_out) or _is_data_path(keys) or old.get(keys) == new.get(keys):
            continue
        return dotted(NAMED.get(keys, keys)), _shown(old.get(keys)), _shown(new.get(keys))
    return None


def _is_data_path(keys: tuple[str | int, ...]) -> bool:
    return len(keys) == 4 and keys[0] == "objectives" and keys[2] == "data"


def _leaves(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(data, list) and data:
        for index, value in enumerate(data):
            yield from _leaves(value, (*path, index))
    else:
        yield path, data


def _shown(value: Any) -> str:
    return "not given" if value is None else repr(value)


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None}
    return data


def _located(ref: Any, folder: Path) -> Any:
    if isinstance(ref, dict):
        return {name: _located(value, folder) for name, value in ref.items()}
    return spelled_out(ref, folder)


def as_placed(wanted: EvolveConfig, recorded: EvolveConfig) -> EvolveConfig:
    """What decides about bits is chosen once: a resumed run takes over where the config says `auto`."""
    runtime, was = wanted.runtime, recorded.runtime
    if was.forward == "auto":
        # Recorded before there was a choice.
        was = was.model_copy(update={"forward": "merged"})
    decisive = ("chunk", "forward", "dtype")
    kept = {key: getattr(was, key) for key in decisive if getattr(runtime, key) == "auto"}
    if kept.get("forward") == "batched" and refusal(wanted, wanted.operator):
        kept["forward"] = "merged"
    if kept.get("forward", runtime.forward) != was.forward:
        kept.pop("chunk", None)  # which was chosen for the other
    return wanted.running(**kept)


def on_any_mesh(recorded: EvolveConfig) -> EvolveConfig:
    """A run's config for a machine that may have other devices than the run had, for one candidate at a time, which is
    merged as ever it was scored."""
    return recorded.running(mesh="auto", bank="auto", chunk=1, forward="auto")


def require_same_models(recorded: EvolveConfig, engine: Engine, folder: Path) -> None:
    """Raises InputError where a model is no longer the one the run was made with."""
    assert recorded.origin is not None
    for name, place in engine.locations.items():
        now = {key: value for key, value in hash_of_model(place).items() if value is not None}
        if recorded.origin.models.get(name, now) != now:
            raise InputError(f"{folder}: the model '{name}' ({place}) has changed since the run; restore it")
