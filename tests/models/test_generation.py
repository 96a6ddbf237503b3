"""Generated tokens equal transformers' `generate`, and loops end early."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxmerge.models.generation import generate
from jaxmerge.models.slots import Slots
from jaxmerge.models.weights import Stored

STOPS = (2, 5, 9, 77, 100)
NEW = 12
MODELS = {
    "llama": ("llama", {}),
    "mistral": ("mistral", {"sliding_window": 7}),
    "gemma": ("gemma", {"head_dim": 16}),
    "qwen3": ("qwen3", {"head_dim": 24, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}),
}


def prompts(side: str, lengths, width: int):
    rng = np.random.default_rng(3)
    tokens, valid = np.zeros((len(lengths), width), np.int32), np.zeros((len(lengths), width), bool)
    for i, n in enumerate(lengths):
        at = slice(width - n, None) if side == "left" else slice(0, n)
        tokens[i, at], valid[i, at] = rng.integers(3, 211, n), True
    return tokens, valid


def transformers_tokens(model, tokens, valid, new=NEW) -> np.ndarray:
    """What follows each prompt, -1 from the first stop id on."""
    with torch.no_grad():
        out = model.generate(
            torch.tensor(tokens).long(),
            attention_mask=torch.tensor(valid).long(),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=list(STOPS),
            pad_token_id=0,
        )[:, tokens.shape[1] :].numpy()
    out = np.pad(out, ((0, 0), (0, new - out.shape[1])))
    return np.where(np.cumsum(np.isin(out, STOPS), axis=1) > 0, -1, out)


def compiled(config, **options):
    options = {"max_new_tokens": NEW, "stop_ids": STOPS, "dtype": jnp.float32, **options}
    return jax.jit(lambda p, t, v, key=None: generate(Stored(p), config, t, v, key=key, **options))


@pytest.mark.parametrize("name", MODELS)
def test_64_prompts_of_different_lengths_give_the_tokens_of_transformers(name, make_model, ours):
    family, options = MODELS[name]
    model = make_model(family, **options)
    config, params = ours(model)
    lengths = 1 + np.arange(64) % 29
    left = prompts("left", lengths, 29)
    want = transformers_tokens(model, *left)
    # Five waiting prompts at a time go into slots that are free, in the middle of the others' texts.
    refilled = compiled(config, slots=Slots(13, 5))
    np.testing.assert_array_equal(refilled(params, *left), want)
    np.testing.assert_array_equal(refilled(params, *prompts("right", lengths, 29)), want)
    assert (want == -1).any() and (want != -1).any()
    if name == "llama":
        # In a batch that shrinks when no prompt waits.
        np.testing.assert_array_equal(compiled(config, slots=Slots(33, 11))(params, *left), want)


def test_dynamic_rope_follows_each_sequence(make_model, ours, ropes):
    model = make_model("llama", rope_parameters=dict(ropes["dynamic"]), max_position_embeddings=16)
    config, params = ours(model)
    tokens, valid = prompts("left", [5, 14, 22], 22)
    got = np.asarray(compiled(config)(params, tokens, valid))
    np.testing.assert_array_equal(compiled(config, slots=Slots(2, 1))(params, tokens, valid), got)
    for row in range(3):
        alone = transformers_tokens(model, tokens[row][valid[row]][None], valid[row][valid[row]][None])
        np.testing.assert_array_equal(got[row], alone[0])


def test_the_loop_ends_when_every_row_has_stopped(make_model, ours):
    config, params = ours(make_model("llama"))
    tokens, valid = prompts("left", [4, 9, 0], 9)
    steps = []

    class Counting(Stored):
        def layer(self, index):
            jax.debug.callback(lambda i: steps.append(int(i)), index)
            return super().layer(index)

    run = jax.jit(partial(generate, config=config, max_new_tokens=50, dtype=jnp.float32), static_argnames="stop_ids")
    first = np.asarray(run(Stored(params), tokens=tokens, valid=valid, stop_ids=()))
    assert (first[:2] >= 0).all()
    assert (first[2] == -1).all()
    stops = tuple({int(first[0, 2]), int(first[1, 4])})
    at = max(int(np.flatnonzero(np.isin(first[row], stops))[0]) for row in range(2))

    options = {"max_new_tokens": 50, "stop_ids": stops, "dtype": jnp.float32}
    out = jax.jit(lambda: generate(Counting(params), config, tokens, valid, **options))()
    jax.effects_barrier()
    # The prompts' pass, then one for each token before the last stop.
    assert steps.count(0) == 1 + at
    for row in range(2):
        cut = int(np.flatnonzero(np.isin(first[row], stops))[0])
        np.testing.assert_array_equal(out[row, :cut], first[row, :cut])
        assert (np.asarray(out[row, cut:]) == -1).all()

    # One long answer holds one of two slots: the other takes the queue. Its prompts are those of row 0.
    steps.clear()
    many = np.concatenate([tokens[1:2], np.repeat(tokens[:1], 8, axis=0)])
    mask = np.concatenate([valid[1:2], np.repeat(valid[:1], 8, axis=0)])
    ends = (int(first[0, 2]),)
    long, short = (int((np.cumsum(np.isin(first[row], ends)) == 0).sum()) for row in (1, 0))
    assert long >= 4 * short
    options |= {"stop_ids": ends, "slots": Slots(2, 1)}
    out = jax.jit(lambda: generate(Counting(params), config, many, mask, **options))()
    jax.effects_barrier()
    np.testing.assert_array_equal(out[1:, :short], np.repeat(first[:1, :short], 8, axis=0))
    assert (np.asarray(out[1:, short:]) == -1).all()
    np.testing.assert_array_equal(out[0, :long], first[1, :long])
    # Every prompt has a pass; the eight short ones follow each other beside the long one.
    assert steps.count(0) == 9 + max(min(long, 49), 8 * short)


def test_a_single_new_token(make_model, ours):
    model = make_model("llama")
    config, params = ours(model)
    tokens, valid = prompts("left", [3, 8], 8)
    want = transformers_tokens(model, tokens, valid, 1)
    np.testing.assert_array_equal(compiled(config, max_new_tokens=1, slots=Slots(1, 1))(params, tokens, valid), want)


def test_a_narrower_cache_is_rounded_and_nothing_else_is(make_model, ours):
    config, params = ours(make_model("llama"))
    tokens, valid = prompts("left", [4, 9, 7, 7], 9)
    exact, narrow = (
        compiled(config, max_new_tokens=8, stop_ids=(), cache=dtype)(params, tokens, valid)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    # The first token comes from the prompts' own pass.
    np.testing.assert_array_equal(exact[:, 0], narrow[:, 0])
    assert (exact == narrow).mean() > 0.5
    program = compiled(config, cache=jnp.bfloat16, max_new_tokens=8).lower(params, tokens, valid).as_text()
    assert f"tensor<{config.num_layers}x4x{config.num_kv_heads}x16x{config.head_dim}xbf16>" in program


def test_a_population_under_vmap_and_map_gives_each_members_tokens(make_model, ours):
    config, params = ours(make_model("llama"))
    tokens, valid = prompts("left", [4, 9], 9)
    scales = jnp.array([1.0, 1.3])
    members = jax.vmap(lambda s: {path: array * s for path, array in params.items()})(scales)
    run = compiled(config, max_new_tokens=5, slots=Slots(1, 1))
    each = np.stack([run(jax.tree.map(lambda a, i=i: a[i], members), tokens, valid) for i in range(2)])
    np.testing.assert_array_equal(jax.vmap(run, (0, None, None))(members, tokens, valid), each)
    np.testing.assert_array_equal(jax.lax.map(lambda p: run(p, tokens, valid), members), each)
    assert not (each[0] == each[1]).all()


def test_sampling_repeats_with_its_key_and_differs_with_another(make_model, ours):
    config, params = ours(make_model("llama"))
    tokens, valid = prompts("left", [4, 9, 7, 7], 9)
    run = compiled(config, max_new_tokens=6, temperature=1.5, stop_ids=())
    a, b = run(params, tokens, valid, jax.random.key(0)), run(params, tokens, valid, jax.random.key(0))
    np.testing.assert_array_equal(a, b)
    assert (a != run(params, tokens, valid, jax.random.key(1))).any()
    # A prompt draws by its own place and step, whichever slot it has.
    queued = compiled(config, max_new_tokens=6, temperature=1.5, stop_ids=(), slots=Slots(3, 2))
    np.testing.assert_array_equal(a, queued(params, tokens, valid, jax.random.key(0)))
    greedy = compiled(config, max_new_tokens=6, stop_ids=())(params, tokens, valid)
    assert (a != greedy).any()
