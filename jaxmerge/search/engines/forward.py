"""How candidates are scored: each merged before it is run, or all of a device at once over the weights they share.

A merge of a candidate costs memory traffic, `bytes` of sources and result for each parameter; scored at once, the
candidates cost arithmetic instead, a product with every source, or with the factors of LoRAs. With F flops a second and
B bytes a second a byte costs as much as F / B flops, so that a merge costs as much as `bytes * F / B / 2` tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.converters.adapted import Adapted
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.errors import InputError
from jaxmerge.models.attention import SCORES_AT_ONCE
from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.interface import Batch, Objective
from jaxmerge.operators.interface import Operator
from jaxmerge.population.runner import MICRO_TOKENS
from jaxmerge.runtime.memory import Devices
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engines import home as homes
from jaxmerge.search.engines.needs import Needs
from jaxmerge.search.engines.sources import Models

# Flops for each byte that comes from memory, in bfloat16, by a part of the device's name; a CPU's in float32, as
# measured by benchmarks/candidate.py. In float32 accelerators do about an eighth of that.
FLOPS_PER_BYTE = {
    "cpu": 5, "v4": 229, "v5e": 240, "v5 lite": 240, "v5p": 166, "v5": 166, "v6": 550,
    "a100": 153, "h100": 295, "h200": 165,
}  # fmt: skip
UNKNOWN = 200
FLOAT32_SHARE = 1 / 8


@dataclass(frozen=True)
class Forward:
    """name: merged or batched. reason: why, in words. lora: the sources are LoRAs on this model, which are not applied.
    """

    name: str
    reason: str
    lora: Checkpoint | None = None

    @property
    def batched(self) -> bool:
        return self.name == "batched"

    @property
    def line(self) -> str:
        what = " from a model and LoRAs that are not applied to it" if self.lora is not None else ""
        return f"{self.name}{what}: {self.reason}"


@dataclass(frozen=True)
class Texts:
    """What a candidate is run on: batches that are scored, those of each split together, and prompts with the number of
    tokens that are written."""

    scored: Sequence[Sequence[Batch]]
    prompts: Sequence[tuple[Batch, int]]

    @classmethod
    def of(cls, objectives: Sequence[Objective]) -> "Texts":
        """Of all splits; of a user's own kinds nothing is known."""
        prepared = [objective for objective in objectives if isinstance(objective, PreparedObjective)]
        scored: dict[str, list[Batch]] = {}
        prompts = []
        for objective in prepared:
            for name in objective.splits():
                selection = objective.split(name).select(objective.config, None)
                if selection.split.references:
                    scored.setdefault(name, []).append(selection.references)
                if selection.split.prompts:
                    prompts.append((selection.prompts, objective.config.max_new_tokens))
        return cls(list(scored.values()), prompts)

    @property
    def _batches(self) -> list[Batch]:
        return [batch for batches in self.scored for batch in batches]

    @property
    def at_once(self) -> int:
        """Tokens for which a merge is made, or weights are read, once."""
        scored = [sum(bucket.tokens.size for bucket in batch.buckets) for batch in self._batches]
        written = [sum(len(bucket.tokens) for bucket in batch.buckets) for batch, _ in self.prompts]
        return min(MICRO_TOKENS, max([*scored, *written], default=0))

    @property
    def longest(self) -> int:
        scored = [bucket.tokens.shape[1] for batch in self._batches for bucket in batch.buckets]
        written = [bucket.tokens.shape[1] + new for batch, new in self.prompts for bucket in batch.buckets]
        return max([*scored, *written], default=1)


def require_merged(config: EvolveConfig) -> Forward:
    """For spaces in which candidates have no weights in common."""
    kind = config.space.kind
    if config.runtime.forward == "batched":
        raise InputError(f"runtime.forward: batched: needs space.kind parameter, not {kind}; write merged or auto")
    return Forward("merged", f"paths of a {kind} space go through different layers")


def choose(
    config: EvolveConfig, models: Models, operator: Operator, texts: Texts, dtype: np.dtype, device: str
) -> Forward:
    """What `runtime.forward` asks for, or what is cheaper. device: its name.

    Raises InputError where candidates cannot be scored at once, and are to be."""
    wanted = config.runtime.forward
    if wanted == "merged":
        return Forward("merged", "runtime.forward")
    if why := refusal(config, operator):
        if wanted == "batched":
            raise InputError(f"runtime.forward: batched: {why}; write merged or auto")
        return Forward("merged", why)
    lora = lora_pool(models, operator)
    if wanted == "batched":
        return Forward("batched", "runtime.forward", lora)
    tokens = texts.at_once
    more = tokens * _arithmetic(models, operator, lora)
    merge = _bytes(models, operator, dtype) * _flops_per_byte(device, dtype) / 2
    what = "factors" if lora is not None else "sources"
    reason = (
        f"for {tokens:,} tokens of a candidate at once, the products with all {what} cost as much as {more:,.0f} more, "
        f"a merge as much as {merge:,.0f}"
    )
    return Forward("batched", reason, lora) if more < merge else Forward("merged", reason)


def refusal(config: EvolveConfig, operator: Operator) -> str | None:
    """Why candidates cannot be scored as one batch, or None."""
    if operator.coefficients is None:
        return f"{operator.name} is not linear in its sources"
    if operator.rows_apart is not None:
        flag, value = operator.rows_apart
        if bool(config.space.parameters.get(flag, operator.parameter(flag).default)) == value:
            return f"{operator.name} with {flag}: {str(value).lower()} is not linear in whole tensors"
    return divided(config)


def divided(config: EvolveConfig) -> str | None:
    """Why the sources are not whole on each device, by the config, or None."""
    mesh = config.runtime.mesh
    if mesh != "auto" and mesh.model > 1:
        return f"runtime.mesh divides each candidate over {mesh.model} devices, and this needs model: 1"
    if config.runtime.bank not in ("auto", "device"):
        return f"runtime.bank is {config.runtime.bank}, and this needs device"
    return None


def lora_pool(models: Models, operator: Operator) -> Checkpoint | None:
    """The model that all experts are LoRAs on, where they are and the base is that model too; else None."""
    experts = list(models.experts.values())
    first = experts[0]
    if not isinstance(first, Adapted):
        return None
    model = Checkpoint.open(first.folder)
    own = [model.folder.resolve()]
    for expert in experts:
        if not isinstance(expert, Adapted) or expert.config != model.config or [expert.folder.resolve()] != own:
            return None
    base = models.base
    if operator.takes_base and base is not None and (isinstance(base, Adapted) or [base.folder.resolve()] != own):
        return None
    return model


def candidates_at_once(config: DecoderConfig, population: int, devices: int, texts: Texts) -> int:
    """How many candidates a device runs as one batch: so many that their tokens, one row of each, are no more than a
    micro-batch, and their attention no more than is held at once; in blocks of about the same size."""
    longest = texts.longest
    limit = max(1, min(MICRO_TOKENS // longest, SCORES_AT_ONCE // (config.num_heads * longest**2)))
    own = -(-population // devices)
    blocks = -(-own // limit)
    return -(-own // blocks)


def _arithmetic(models: Models, operator: Operator, lora: Checkpoint | None) -> float:
    """What scoring at once costs besides a plain forward pass, as a share of it."""
    if lora is None:
        return len(models.experts) - 1 + (operator.takes_base and models.base is not None)
    added = sum(
        (product.a.info.shape[0]) * sum(product.shape)
        for expert in models.experts.values()
        if isinstance(expert, Adapted)
        for product in expert.products.values()
    )
    whole = sum(np.prod(models.table.shape(p)) for p in models.table if len(p.shape) == 2)
    return float(added / whole)


def _bytes(models: Models, operator: Operator, dtype: np.dtype) -> float:
    """Of a parameter: those of all sources that are merged, and of the result."""
    sources = models.sources if operator.takes_base else models.experts
    infos = [info for source in sources.values() for info in source.tensors.values()]
    elements = sum(int(np.prod(info.shape)) for info in infos)
    return len(sources) * sum(info.nbytes for info in infos) / max(1, elements) + dtype.itemsize


def _flops_per_byte(device: str, dtype: np.dtype) -> float:
    name = device.lower()
    found = next((ratio for part, ratio in FLOPS_PER_BYTE.items() if part in name), UNKNOWN)
    return found if "cpu" in name or dtype.itemsize == 2 else found * FLOAT32_SHARE


def batched_needs(needs: Needs, found: Forward, models: Models, at_once: int) -> Needs:
    """What scoring as one batch needs, of what one candidate alone does. at_once: candidates.

    Their tokens and logits at once are those of one. Nothing is merged, but of each source a layer is widened."""
    parts = 1 if found.lora is not None else len(models.sources)
    bank = needs.bank if found.lora is None else _lora_bytes(found.lora, models.experts)
    return replace(needs, bank=bank, merged=parts * needs.merged, cache=at_once * needs.cache, chunk=1)


def fits(needs: Needs, devices: Devices) -> bool:
    """Whether the sources have room on each device."""
    try:
        homes.choose(needs, devices, "device")
    except InputError:
        return False
    return True


def _lora_bytes(lora: Checkpoint, experts: Mapping[str, Checkpoint]) -> int:
    """Of the model and of what its LoRAs hold."""
    stored = sum(info.nbytes for info in lora.tensors.values())
    for expert in experts.values():
        if isinstance(expert, Adapted):
            held = [each for product in expert.products.values() for each in (product.a, product.b)]
            stored += sum(each.info.nbytes for each in (*held, *expert.whole.values()))
    return stored
