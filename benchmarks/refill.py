"""Generation whose answers differ tenfold in length: slots that are refilled against a padded batch, the same cores.

    python benchmarks/refill.py

A model of SmolLM2's width with 4 layers, random weights and a vocabulary of 8192, in float32; 128 prompts. Which tokens
end a text is planted: a share of those that do not occur among the first 12 of any of the model's greedy texts, so that
answers have 12 tokens at least and 120 at most, and their lengths are spread between. All forms decode the same prompts
with these stop ids; each has as many slots as it says.
"""

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from machine import write
from smollm2_shape import CONFIG

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.models.generation import generate
from jaxmerge.models.slots import Slots
from jaxmerge.models.weights import Params, Stored

PROMPTS, WIDTH, SHORTEST, NEW, ROUNDS = 128, 32, 12, 120, 3
FEW, STOPPING = 32, 0.035
SHAPE = {**CONFIG, "num_hidden_layers": 4, "vocab_size": 8192, "tie_word_embeddings": False}


class Padded(Slots):
    """A batch that ends when its longest answer does."""

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.count,)


def main() -> None:
    architecture = architecture_of(SHAPE)
    config = architecture.read(SHAPE)
    rng = np.random.default_rng(0)
    params: Params = {}
    for parameter in (table := architecture.table(config)):
        noise = rng.standard_normal(table.shape(parameter), np.float32)
        params[parameter.path] = jnp.ones_like(noise) if len(parameter.shape) == 1 else jnp.asarray(0.04 * noise)
    tokens = rng.integers(3, config.vocab_size, (PROMPTS, WIDTH)).astype(np.int32)
    valid = np.arange(WIDTH)[None] >= WIDTH - rng.integers(WIDTH // 2, WIDTH + 1, PROMPTS)[:, None]

    def generated(tokens: jax.Array, valid: jax.Array, slots: Slots, stop_ids: tuple[int, ...]) -> jax.Array:
        options = {"max_new_tokens": NEW, "stop_ids": stop_ids, "dtype": jnp.float32, "slots": slots}
        return generate(Stored(params), config, tokens, valid, **options)

    free = np.asarray(jax.jit(partial(generated, slots=Padded(PROMPTS, PROMPTS), stop_ids=()))(tokens, valid))
    late = np.setdiff1d(np.arange(config.vocab_size), free[:, :SHORTEST])
    stop_ids = tuple(rng.permutation(late)[: int(STOPPING * config.vocab_size)].tolist())

    def in_batches(tokens: jax.Array, valid: jax.Array) -> jax.Array:
        batch = partial(generated, slots=Padded(FEW, FEW), stop_ids=stop_ids)
        cut = (array.reshape(-1, FEW, WIDTH) for array in (tokens, valid))
        return lax.map(lambda rows: batch(*rows), tuple(cut)).reshape(PROMPTS, NEW)

    forms: dict[str, Callable[..., jax.Array]] = {
        f"padded, all {PROMPTS} at once": partial(generated, slots=Padded(PROMPTS, PROMPTS), stop_ids=stop_ids),
        f"padded, batches of {FEW}": in_batches,
        f"shrinking, all {PROMPTS} at once": partial(generated, slots=Slots(PROMPTS, PROMPTS), stop_ids=stop_ids),
        f"refilled, {FEW} slots": partial(generated, slots=Slots(FEW, FEW // 8), stop_ids=stop_ids),
    }
    programs = {name: jax.jit(form).lower(tokens, valid).compile() for name, form in forms.items()}
    texts = {name: np.asarray(program(tokens, valid)) for name, program in programs.items()}
    first = next(iter(texts.values()))
    lengths = (first >= 0).sum(axis=1)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            start = time.perf_counter(), time.process_time()
            jax.block_until_ready(program(tokens, valid))
            seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    # Of the clock, and of the cores: the latter hardly depends on what else the machine does.
    times = {name: np.array(taken).T for name, taken in seconds.items()}
    peers = list(times)[:2]
    write(
        "refill",
        {
            "lengths": {f"{q}%": float(np.percentile(lengths, q)) for q in (0, 10, 50, 90, 100)},
            "tokens": int(lengths.sum()),
            "forms": {
                name: {
                    "tokens_per_second": float(lengths.sum() / np.median(taken[0])),
                    "tokens_per_core_second": float(lengths.sum() / np.median(taken[1])),
                    "temporary_mb": programs[name].memory_analysis().temp_size_in_bytes / 1e6,
                    "prompts_with_equal_text": float((texts[name] == first).all(axis=1).mean()),
                    **{
                        f"speedup over {peer}, {clock}": float(np.median(times[peer][which] / taken[which]))
                        for peer in peers
                        for which, clock in enumerate(("clock", "cores"))
                    },
                }
                for name, taken in times.items()
            },
        },
    )


if __name__ == "__main__":
    main()
