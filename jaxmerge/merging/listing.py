"""A plan as a short table: a row for all tensors of which the same is made."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jaxmerge.recipe.layers import natural
from jaxmerge.recipe.plan import Plan
from jaxmerge.recipe.tensors import Piece, TensorPlan

LAYER = re.compile(r"\.(\d+)\.")
COLUMNS = ("tensors", "number", "operator", "sources", "base", "parameters")


@dataclass(frozen=True)
class _Name:
    """A tensor's name in parts: `model.layers.`, 3, `.mlp`, `.up_proj.weight`; outside the layers it is all `rest`."""

    before: str
    layer: int | None
    module: str
    rest: str

    @classmethod
    def of(cls, name: str) -> "_Name":
        match = LAYER.search(name)
        if match is None:
            return cls("", None, "", name)
        module, dot, rest = name[match.end() - 1 :].rpartition(".")[0].rpartition(".")
        return cls(name[: match.start() + 1], int(match[1]), module, dot + rest + "." + name.rpartition(".")[2])


def listing(plan: Plan) -> list[str]:
    """Lines of columns: names (`model.layers.{0..29}.mlp.*`), how many they are, operator, models merged and base,
    by their numbers, and the parameters."""
    rows: dict[tuple[str, ...], list[_Name]] = defaultdict(list)
    whole: dict[str, set[str]] = defaultdict(set)
    for tensor in plan.tensors:
        name = _Name.of(tensor.name)
        whole[name.before + name.module].add(name.rest)
        rows[(name.before, name.module, *_done(plan, tensor, name))].append(name)
    merged = _over_layers(rows)
    table = [COLUMNS, *((names, str(count), *key) for names, count, key in _named(merged, whole))]
    widths = [max(len(row[i]) for row in table) for i in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _done(plan: Plan, tensor: TensorPlan, name: _Name) -> tuple[str, ...]:
    operator = "copy" if tensor.copied else plan.operator.name
    used = {} if tensor.copied else tensor.params
    params = ", ".join(f"{key}={_short(value.tolist())}" for key, value in used.items())
    base = "" if tensor.base is None else _source(tensor.base, name)
    return operator, ", ".join(_source(piece, name) for piece in tensor.sources), base, params


def _short(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _source(piece: Piece, name: _Name) -> str:
    """The number of a model, and how far its layer is from that of the output."""
    layer = _Name.of(piece.name).layer
    if layer is None or name.layer is None or layer == name.layer:
        return str(piece.model)
    return f"{piece.model} (layer {layer - name.layer:+d})"


def _over_layers(
    rows: dict[tuple[str, ...], list[_Name]],
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], list[int | None]]:
    """For each kind of row and the tensors of a module in it the layers that have them all."""
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int | None]] = defaultdict(list)
    for key, names in rows.items():
        layers: dict[int | None, list[str]] = defaultdict(list)
        for name in names:
            layers[name.layer].append(name.rest)
        for layer, rests in layers.items():
            found[key, tuple(rests)].append(layer)
    return found


def _named(
    merged: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int | None]], whole: dict[str, set[str]]
) -> Iterable[tuple[str, int, tuple[str, ...]]]:
    for ((before, module, *key), rests), layers in merged.items():
        numbers = [layer for layer in layers if layer is not None]
        if not numbers:
            yield from ((rest, 1, tuple(key)) for rest in rests)
            continue
        at = f"{before}{_ranges(numbers)}{module}"
        if module and len(rests) > 1 and set(rests) == whole[before + module]:
            yield f"{at}.*", len(rests) * len(numbers), tuple(key)
        else:
            yield from ((at + rest, len(numbers), tuple(key)) for rest in sorted(rests, key=natural))


def _ranges(numbers: Sequence[int]) -> str:
    """`3` for one, else `{0..5,8}`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(str(low) if low == high else f"{low}..{high}" for low, high in runs)
    return text if len(numbers) == 1 else f"{{{text}}}"
