"""A LoRA on a checkpoint: what is read equals PEFT's formulas in torch, and what does not fit is refused by name."""

import json
import warnings

import ml_dtypes
import numpy as np
import pytest
import torch
from lora_folder import product, write_lora
from safetensors.numpy import load_file, save_file

from jaxmerge.converters.adapted import ROWS, open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.convert import convert
from jaxmerge.converters.fit import require_fit
from jaxmerge.converters.hf import load_params
from jaxmerge.converters.model import layout_of, load_model
from jaxmerge.converters.reference import Location
from jaxmerge.errors import CheckpointError, InputError

Q = "model.layers.0.self_attn.q_proj"
GATE = "model.layers.1.mlp.gate_proj"
EMBED, HEAD = "model.embed_tokens", "lm_head"
PEFT = "base_model.model."
LAST = {np.dtype(np.float32): 2e-7, np.dtype(ml_dtypes.bfloat16): 2**-8, np.dtype(np.float16): 2**-11}
SHAPES = {Q: (32, 16), GATE: (24, 16)}


def both(**spelling):
    return {key: value for module, shape in SHAPES.items() for key, value in product(module, shape, **spelling).items()}


def merged(weights, b, a, scale):
    """PEFT's: the product in float32, scaled, added, rounded to the dtype of the weights."""
    own = torch.from_numpy(weights.astype(np.float32))
    delta = torch.from_numpy(b.astype(np.float32)) @ torch.from_numpy(a.astype(np.float32))
    return (own + delta * scale).numpy().astype(weights.dtype)


def require_close(mine, theirs):
    assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
    mine, theirs, last = mine.astype(np.float64), theirs.astype(np.float64), LAST[theirs.dtype]
    np.testing.assert_allclose(mine, theirs, rtol=2 * last, atol=4 * last)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("spelling", "config", "scales"),
    [
        ({}, {}, (2.0, 2.0)),
        ({"name": ".default"}, {"use_rslora": True}, (4.0, 4.0)),
        ({"prefix": ""}, {"lora_alpha": 3}, (0.75, 0.75)),
        # From a dot on, to the end, the first that matches; a bracket is one of a regular expression.
        ({}, {"alpha_pattern": {"proj": 1, "_proj": 1, r"layers\.[1-9]\.mlp\..*": 6, "gate_proj": 1}}, (2.0, 1.5)),
        ({}, {"r": 9, "rank_pattern": {"q_proj": 4, GATE: 4}, "use_rslora": False}, (2.0, 2.0)),
    ],
)
def test_products_are_added_as_peft_adds_them(make_checkpoint, tmp_path, dtype, spelling, config, scales):
    model = make_checkpoint(dtype=dtype)
    lora = write_lora(tmp_path / "lora", both(**spelling), **config)
    plain, adapted = Checkpoint.open(model), open_checkpoint(Location(model, lora))
    stored = {
        key.removeprefix(PEFT).replace(".default", ""): v
        for key, v in load_file(lora / "adapter_model.safetensors").items()
    }
    assert list(adapted.tensors) == list(plain.tensors) and adapted.config == plain.config
    for module, scale in zip((Q, GATE), scales, strict=True):
        own = plain.read(f"{module}.weight")
        theirs = merged(own, stored[f"{module}.lora_B.weight"], stored[f"{module}.lora_A.weight"], scale)
        require_close(adapted.read(f"{module}.weight"), theirs)
        assert not np.array_equal(own, theirs)
    for name in set(plain.tensors) - {f"{Q}.weight", f"{GATE}.weight"}:
        assert adapted.read(name).tobytes() == plain.read(name).tobytes()


def test_any_rows_have_the_bits_of_the_whole(make_checkpoint, tmp_path):
    rows = 2 * ROWS + 45
    model = make_checkpoint(vocab_size=rows)
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((4, rows), (16, 4)))
    embedding = {f"{PEFT}{EMBED}.lora_embedding_A": a, f"{PEFT}{EMBED}.lora_embedding_B": b}
    lora = write_lora(tmp_path / "lora", embedding | product(HEAD, (rows, 16)))
    adapted = open_checkpoint(Location(model, lora))
    own = Checkpoint.open(model).read(f"{EMBED}.weight")
    require_close(adapted.read(f"{EMBED}.weight"), merged(own, a.T, b.T, 2.0))
    for name in (f"{EMBED}.weight", f"{HEAD}.weight"):
        whole = adapted.read(name)
        for start, stop in ((0, rows), (0, 1), (ROWS - 1, ROWS + 1), (ROWS + 3, rows), (5, 2 * ROWS + 9), (rows, rows)):
            assert adapted.read_rows(name, start, stop).tobytes() == whole[start:stop].tobytes()


def test_a_model_that_keeps_inputs_first(make_checkpoint, tmp_path):
    """fan_in_fan_out, as GPT-2's layers need it."""
    model = make_checkpoint()
    tensors = product(GATE, (16, 24))
    lora = write_lora(tmp_path / "lora", tensors, fan_in_fan_out=True)
    a, b = tensors.values()
    own = Checkpoint.open(model).read(f"{GATE}.weight")
    require_close(open_checkpoint(Location(model, lora)).read(f"{GATE}.weight"), merged(own, a.T, b.T, 2.0))


@pytest.mark.parametrize("flag", [True, False])
def test_what_keeps_inputs_first_in_gpt2_is_known_whatever_the_flag_says(tmp_path, flag):
    """PEFT's flag is that of the module it handled last: false, where that was the head."""
    rng = np.random.default_rng(3)
    shapes = {"wte": (48, 16), "h.0.attn.c_attn": (16, 48), "h.0.attn.c_proj": (16, 16)}
    own = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    (model := tmp_path / "model").mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "gpt2", "tie_word_embeddings": True}))
    save_file(own, model / "model.safetensors")
    targets = {
        "transformer.h.0.attn.c_attn": (48, 16),
        "transformer.h.0.attn.c_proj": (16, 16),
        "lm_head": (48, 16),
    }
    tensors = {key: value for module, shape in targets.items() for key, value in product(module, shape).items()}
    adapted = open_checkpoint(Location(model, write_lora(tmp_path / "lora", tensors, fan_in_fan_out=flag)))
    a, b = (iter(list(tensors.values())[start::2]) for start in (0, 1))
    for name in ("h.0.attn.c_attn.weight", "h.0.attn.c_proj.weight"):
        require_close(adapted.read(name), merged(own[name], next(a).T, next(b).T, 2.0))
    require_close(adapted.read("lm_head.weight"), merged(own["wte.weight"], next(b), next(a), 2.0))


def test_what_was_trained_as_a_whole_stands_in_place_of_the_models(make_checkpoint, tmp_path):
    model = make_checkpoint(dtype="bfloat16", attention_bias=True)
    rng = np.random.default_rng(2)
    given = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in {"lm_head.weight": (48, 16), f"{EMBED}.weight": (48, 16), f"{Q}.bias": (32,)}.items()
    }
    keys = ("lm_head.modules_to_save.default.weight", f"{EMBED}.weight", f"{Q}.base_layer.bias")
    tensors = {PEFT + key: value for key, value in zip(keys, given.values(), strict=True)}
    tensors[f"{PEFT}{Q[:-6]}k_proj.lora_B.bias"] = shift = rng.normal(size=32).astype(np.float32)
    tensors |= product(f"{Q[:-6]}k_proj", (32, 16))
    lora = write_lora(tmp_path / "lora", tensors, modules_to_save=["lm_head", "embed_tokens"], bias="all")
    plain, adapted = Checkpoint.open(model), open_checkpoint(Location(model, lora))
    for name, value in given.items():
        assert adapted.read(name).tobytes() == value.astype(ml_dtypes.bfloat16).tobytes()
    bias = plain.read(f"{Q[:-6]}k_proj.bias")
    require_close(adapted.read(f"{Q[:-6]}k_proj.bias"), (bias.astype(np.float32) + 2 * shift).astype(bias.dtype))


@pytest.mark.parametrize("side", [EMBED, HEAD])
def test_a_lora_on_one_side_of_tied_embeddings_parts_them(make_checkpoint, tmp_path, side):
    """As it was trained: the other side is the model's own."""
    model = make_checkpoint(tied=True)
    tensors = product(HEAD, (48, 16))
    a, b = tensors.values()
    if side == EMBED:
        tensors = {f"{PEFT}{EMBED}.lora_embedding_A": b.T, f"{PEFT}{EMBED}.lora_embedding_B": a.T}
    adapted = open_checkpoint(Location(model, write_lora(tmp_path / "lora", tensors)))
    own = Checkpoint.open(model).read(f"{EMBED}.weight")
    for module in (EMBED, HEAD):
        require_close(adapted.read(f"{module}.weight"), merged(own, b, a, 2.0) if module == side else own)
    config, table = layout_of(adapted)
    assert not config.tie_embeddings
    require_fit(adapted, table)
    convert(str(adapted.location), tmp_path / "flax")
    convert(tmp_path / "flax", tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["tie_word_embeddings"] is False
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= set(Checkpoint.open(tmp_path / "back").tensors)


def test_tied_embeddings_that_a_lora_holds_twice_stay_tied(make_checkpoint, tmp_path):
    model = make_checkpoint(tied=True)
    both_sides = np.random.default_rng(3).normal(size=(48, 16)).astype(np.float32)
    tensors = {f"{PEFT}{EMBED}.weight": both_sides, f"{PEFT}{HEAD}.weight": both_sides.copy()}
    lora = write_lora(tmp_path / "lora", tensors, modules_to_save=["embed_tokens", "lm_head"])
    loaded = load_model(Location(model, lora))
    assert loaded.config.tie_embeddings and "lm_head.weight" not in loaded.params
    np.testing.assert_array_equal(loaded.params["embed_tokens.weight"], both_sides)
    # The head changed: two from now on.
    tensors[f"{PEFT}{HEAD}.weight"][7, 3] += 1
    save_file(tensors, lora / "adapter_model.safetensors")
    assert "lm_head.weight" in load_model(Location(model, lora)).params


def test_a_single_number_that_was_trained(make_checkpoint, tmp_path):
    model = make_checkpoint(change=lambda tensors: tensors.update({"scale": np.ones((), ml_dtypes.bfloat16)}))
    lora = write_lora(tmp_path / "lora", {f"{PEFT}scale": np.full((), 0.3, np.float32)}, modules_to_save=["scale"])
    assert open_checkpoint(Location(model, lora)).read("scale") == ml_dtypes.bfloat16(0.3)


def test_a_checkpoint_that_leaves_out_the_first_part_of_its_names(make_checkpoint, tmp_path):
    def shorten(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    lora = write_lora(tmp_path / "lora", both())
    short = open_checkpoint(Location(make_checkpoint(change=shorten), lora))
    full = open_checkpoint(Location(make_checkpoint(name="full/model"), lora))
    assert short.read(f"{Q}.weight".removeprefix("model.")).tobytes() == full.read(f"{Q}.weight").tobytes()


def change(key, value):
    return lambda tensors, config: config.update({key: value})


def drop(part):
    return lambda tensors, config: [tensors.pop(key) for key in list(tensors) if part in key]


def add(key, shape, dtype=np.float32):
    return lambda tensors, config: tensors.update({PEFT + key: np.ones(shape, dtype)})


A = f"{PEFT}{Q}.lora_A.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("use_dora", True), "use_dora is set: it is a DoRA, .*merge_and_unload"),
        (change("peft_type", "LOHA"), "peft_type is 'LOHA', and only LORA"),
        (change("target_parameters", ["experts.gate"]), "target_parameters is set"),
        (change("init_lora_weights", "pissa_niter_4"), "path_initial_model_for_weight_conversion"),
        (change("r", 8), f"'{A}' is \\[4, 16\\], of rank 4, but adapter_config.json makes it rank 8"),
        (change("rank_pattern", {"q_proj": 2}), "of rank 4, .* rank 2; correct r or rank_pattern"),
        (change("r", None), "r is None, not a whole number"),
        (change("r", 0), "r is 0, not a whole number"),
        (change("lora_alpha", "16"), "lora_alpha is '16', not a number"),
        (change("rank_pattern", {"(": 4}), "no regular expression"),
        (change("rank_pattern", [4]), "rank_pattern is no mapping"),
        (drop("q_proj.lora_B"), f"has '{A}' but no lora_B"),
        (drop("gate_proj.lora_A"), "gate_proj.lora_B.weight' but no lora_A"),
        (drop(""), "has no tensor"),
        (add(f"{Q}.lora_magnitude_vector", 32), "lora_magnitude_vector': it is a DoRA"),
        (add(f"{Q}.lora_A.other.weight", (4, 16)), "are the same; keep one adapter"),
        (add(f"{Q}.lora_C.weight", 4), "lora_C.weight' is no part of a plain LoRA"),
        (add("model.norm.lora_B.bias", 16), "model.norm.lora_B.bias' without a product"),
        (
            add("model.layers.9.mlp.up_proj.weight", (24, 16)),
            "fits no tensor of .*has no 'model.layers.9.mlp.up_proj.weight'",
        ),
        (add("model.norm.weight", 17), r"norm.weight' is for a tensor \[17\], but 'model.norm.weight' is \[16\]"),
        (add("model.norm.weight", 16, np.int8), "norm.weight' is int8; save it without quantization"),
        (change("fan_in_fan_out", True), r"is for a tensor \[16, 32\], but .*q_proj.weight' is \[32, 16\]"),
    ],
)
def test_a_lora_that_is_unsound_or_does_not_fit(make_checkpoint, tmp_path, spoil, message):
    tensors, config = both(), {}
    spoil(tensors, config)
    lora = write_lora(tmp_path / "lora", tensors, **config)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(Location(make_checkpoint(), lora))
    assert str(lora) in str(caught.value) and "\n" not in str(caught.value)


def test_a_module_that_the_model_has_in_another_shape(make_checkpoint, tmp_path):
    for name, shape, wrong in (("out", (33, 16), "lora_B"), ("in", (32, 17), "lora_A")):
        lora = write_lora(tmp_path / name, product(Q, shape))
        with pytest.raises(CheckpointError, match=f"q_proj.{wrong}.weight' is for a tensor .*trained on"):
            open_checkpoint(Location(make_checkpoint(name=f"model-{name}"), lora))


def test_values_that_cannot_be(make_checkpoint, tmp_path):
    tensors = product(Q, (32, 16))
    tensors[A][0, 0] = np.nan
    adapted = open_checkpoint(Location(make_checkpoint(dtype="float16"), write_lora(tmp_path / "nan", tensors)))
    with pytest.raises(CheckpointError, match=f"nan.*'{A}': has NaN"):
        adapted.read(f"{Q}.weight")
    tensors[A][0, 0] = 1e30
    adapted = open_checkpoint(Location(tmp_path / "model", write_lora(tmp_path / "large", tensors)))
    with pytest.raises(CheckpointError, match=r"large.*beyond float16; save the model in bfloat16"):
        load_params(adapted, layout_of(adapted)[1])


def test_folders_that_are_no_lora(make_checkpoint, tmp_path):
    model = make_checkpoint()
    lora = write_lora(tmp_path / "lora", both())
    with pytest.raises(CheckpointError, match=r"is a LoRA, no model; .*MODEL\+"):
        open_checkpoint(Location(lora))
    with pytest.raises(CheckpointError, match="is a model of its own; name it without"):
        open_checkpoint(Location(model, model))
    with pytest.raises(InputError, match="a LoRA is a folder"):
        open_checkpoint(Location(model, model / "config.json"))
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"pickled adapter_model.bin, which may run code"):
        open_checkpoint(Location(model, lora))
    (lora / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"has no adapter_model.safetensors"):
        open_checkpoint(Location(model, lora))


def test_what_may_be_meant_is_a_warning(make_checkpoint, tmp_path):
    model = make_checkpoint()

    def warned(name, **config):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            open_checkpoint(Location(model, write_lora(tmp_path / name, both(), **config)))
        return [str(warning.message) for warning in caught]

    fitting = {"target_modules": [Q, GATE]}
    assert warned("quiet", **fitting) == [] == warned("no-base", base_model_name_or_path=None, **fitting)
    assert warned("layers", layers_to_transform=[0]) == []
    (other,) = warned("other", base_model_name_or_path="org/other", **fitting)
    assert "was trained on org/other, and is applied to" in other
    (more,) = warned("more", target_modules=[Q, GATE, "down_proj"])
    assert "'model.layers.0.mlp.down_proj' (3 such), for which the LoRA has nothing" in more
    (fewer,) = warned("fewer", target_modules=r".*\.0\.self_attn\.q_proj")
    assert f"does not name '{GATE}'" in fewer
