"""Repeated KV heads: the order is transformers', dtypes stay, and what cannot be repeated is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lora_folder import product, write_lora
from transformers.models.llama.modeling_llama import repeat_kv

from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.fit import require_fit
from jaxmerge.converters.kv_heads import with_kv_heads
from jaxmerge.converters.model import layout_of
from jaxmerge.converters.reference import Location
from jaxmerge.errors import InputError
from jaxmerge.recipe.plan import make_plan
from jaxmerge.recipe.schema import load_recipes

K = "model.layers.1.self_attn.k_proj"


def repeated(array: np.ndarray, heads: int, times: int) -> np.ndarray:
    """By transformers' own function, the rows of a head in place of its channels."""
    bits = torch.from_numpy(np.ascontiguousarray(array).view(f"i{array.dtype.itemsize}"))
    by_head = bits.reshape(1, heads, -1, int(np.prod(array.shape[1:])))
    return repeat_kv(by_head, times).reshape(-1, *array.shape[1:]).numpy().view(array.dtype)


@pytest.mark.parametrize(("family", "dtype"), [("llama", "float32"), ("qwen2", "bfloat16"), ("qwen3", "float16")])
def test_heads_are_repeated_as_transformers_repeats_them(make_checkpoint, family, dtype):
    model = Checkpoint.open(make_checkpoint(family, dtype=dtype, num_key_value_heads=2))
    before, after = model.config["num_key_value_heads"], model.config["num_attention_heads"]
    wide = with_kv_heads(model, after)
    assert after > before > 1 and wide.config["num_key_value_heads"] == after
    require_fit(wide, layout_of(wide)[1])
    for name, info in wide.tensors.items():
        own, read = model.read(name), wide.read(name)
        expected = repeated(own, before, after // before) if ".k_proj" in name or ".v_proj" in name else own
        assert read.tobytes() == wide.view(name).tobytes() == expected.tobytes(), name
        assert read.dtype == own.dtype and read.shape == info.shape, name
        for start, stop in ((0, 1), (3, 7), (5, 5), (1, 10**6)):
            assert wide.read_rows(name, start, stop).tobytes() == expected[start:stop].tobytes(), name


def test_a_lora_is_applied_before(make_checkpoint, tmp_path):
    folder = make_checkpoint(num_key_value_heads=2)
    shape = Checkpoint.open(folder).info(f"{K}.weight").shape
    lora = write_lora(tmp_path / "lora", product(K, shape))
    model = open_checkpoint(Location(folder, lora))
    wide = with_kv_heads(model, 4)
    assert wide.location == model.location
    np.testing.assert_array_equal(wide.read(f"{K}.weight"), repeated(model.read(f"{K}.weight"), 2, 2))


def test_a_model_that_has_the_number_stays(make_checkpoint):
    model = Checkpoint.open(make_checkpoint())
    assert with_kv_heads(model, model.config["num_key_value_heads"]) is model


def test_a_number_that_cannot_be_is_refused_where_the_recipe_has_it(make_checkpoint, tmp_path: Path):
    folder = make_checkpoint(num_key_value_heads=2)
    for count, remedy in ((3, "cannot be repeated to 3"), (1, "repeated to 1"), (16, "to 16 for 8 attention")):
        file = tmp_path / "recipe.yaml"
        file.write_text(f"merge_method: passthrough\nmodels: [{{model: {folder}}}]\njaxmerge:\n  kv_heads: {count}\n")
        with pytest.raises(InputError, match=rf"yaml:4: .*kv_heads.*num_key_value_heads is 2.*{remedy}"):
            make_plan(*load_recipes(file)[0])
