"""Generated tokens equal transformers' `generate`, and loops end early."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxmerge.models.generation import generate
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
    run = compiled(config)
    np.testing.assert_array_equal(run(params, *left), want)
    np.testing.assert_array_equal(run(params, *prompts("right", lengths, 29)), want)
    assert (want == -1).any() and (want != -1).any()


def test_dynamic_rope_follows_each_sequence(make_model, ours, ropes):
    model = make_model("llama", rope_parameters=dict(ropes["dynamic"]), max_position_embeddings=16)
    config, params = ours(model)
    tokens, valid = prompts("left", [5, 14, 22], 22)
    got = np.asarray(compiled(config)(params, tokens, valid))
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

    out = jax.jit(
        lambda: generate(Counting(params), config, tokens, valid, max_new_tokens=50, stop_ids=stops, dtype=jnp.float32)
    )()
    jax.effects_barrier()
    # The prompts' pass, then one for each token before the last stop.
    assert steps.count(0) == 1 + at
    for row in range(2):
        cut = int(np.flatnonzero(np.isin(first[row], stops))[0])
        np.testing.assert_array_equal(out[row, :cut], first[row, :cut])
        assert (np.asarray(out[row, cut:]) == -1).all()


def test_a_single_new_token(make_model, ours):
    model = make_model("llama")
    config, params = ours(model)
    tokens, valid = prompts("left", [3, 8], 8)
    want = transformers_tokens(model, tokens, valid, 1)
    np.testing.assert_array_equal(compiled(config, max_new_tokens=1)(params, tokens, valid), want)


def test_a_population_under_vmap_and_map_gives_each_members_tokens(make_model, ours):
    config, params = ours(make_model("llama"))
    tokens, valid = prompts("left", [4, 9], 9)
    scales = jnp.array([1.0, 1.3])
    members = jax.vmap(lambda s: {path: array * s for path, array in params.items()})(scales)
    run = compiled(config, max_new_tokens=5)
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
    greedy = compiled(config, max_new_tokens=6, stop_ids=())(params, tokens, valid)
    assert (a != greedy).any()
