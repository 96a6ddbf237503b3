"""The shipped models: small, complete, and the same in transformers and here."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.hf import load_params
from jaxmerge.demo import data, train, world
from jaxmerge.models.decoder import logits
from jaxmerge.models.weights import Stored

DEMO = Path(train.__file__).parent
MODELS = sorted(train.LESSONS)


def test_all_that_ships_is_small():
    files = [file for folder in ("models", "data") for file in (DEMO / folder).rglob("*") if file.is_file()]
    assert sorted(folder.name for folder in (DEMO / "models").iterdir()) == MODELS
    assert sum(file.stat().st_size for file in files) < 12_000_000


@pytest.mark.parametrize("name", MODELS)
def test_transformers_loads_a_model_and_agrees(name):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = DEMO / "models" / name
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = AutoTokenizer.from_pretrained(folder)(
        [world.question(problem, "ja") for problem in data.splits()["test"][:4]], return_tensors="np"
    )["input_ids"]
    checkpoint = Checkpoint.open(folder)
    architecture = architecture_of(checkpoint.config)
    config = architecture.read(checkpoint.config)
    params = load_params(checkpoint, architecture.table(config), dtype=np.dtype("float32"))
    ours = logits(Stored(params), config, tokens, jnp.ones(tokens.shape, bool), dtype=jnp.float32)
    with torch.no_grad():
        theirs = reference(torch.tensor(tokens)).logits.numpy()
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    assert reference.config.tie_word_embeddings
    assert reference.generation_config.eos_token_id == 2
