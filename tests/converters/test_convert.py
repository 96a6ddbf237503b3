"""Hugging Face -> Flax -> Hugging Face: the same bits and the same companions."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmerge.converters import flax_folder, orbax_store
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.convert import convert
from jaxmerge.converters.flax_folder import FlaxFolder
from jaxmerge.converters.model import load_model
from jaxmerge.errors import CheckpointError, InputError

COMPANIONS = {
    "generation_config.json": '{"eos_token_id": 2}',
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
    "special_tokens_map.json": "{}",
    "merges.txt": "a b",
    "chat_template.jinja": "{{ messages }}",
    "additional_chat_templates/tool.jinja": "{{ tools }}",
}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma"])
def test_round_trip_is_bit_exact(make_checkpoint, tmp_path, family, tied, dtype, read_all, same_bits):
    source = make_checkpoint(family, tied=tied, dtype=dtype, shards=3)
    assert convert(source, tmp_path / "flax") == "flax"
    assert convert(tmp_path / "flax", tmp_path / "back", max_shard_size=4000) == "huggingface"
    assert same_bits(read_all(tmp_path / "back"), read_all(source))
    assert len(list((tmp_path / "back").glob("*.safetensors"))) > 1
    assert ("lm_head.weight" in read_all(tmp_path / "back")) is not tied
    for folder in ("flax", "back"):
        assert (tmp_path / folder / "config.json").read_bytes() == (source / "config.json").read_bytes()


def test_special_values_keep_their_bits(make_checkpoint, tmp_path, read_all, same_bits):
    def change(tensors):
        tensors["model.norm.weight"][:4] = [-0.0, 1e-45, 3.4028235e38, -1e-39]

    source = make_checkpoint(change=change)
    convert(source, tmp_path / "flax")
    convert(tmp_path / "flax", tmp_path / "back")
    assert same_bits(read_all(tmp_path / "back"), read_all(source))


def test_companions_travel_and_nothing_else(make_checkpoint, tmp_path):
    source = make_checkpoint()
    for name, text in COMPANIONS.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    (source / "training_args.bin").write_text("pickle")
    convert(source, tmp_path / "flax")
    convert(tmp_path / "flax", tmp_path / "back")
    for name, text in COMPANIONS.items():
        assert (tmp_path / "flax" / name).read_text() == text == (tmp_path / "back" / name).read_text()
    names = {str(file.relative_to(tmp_path / "back")) for file in (tmp_path / "back").rglob("*") if file.is_file()}
    assert names == {*COMPANIONS, "config.json", "model.safetensors"}
    marker = json.loads((tmp_path / "flax" / "jaxmerge.json").read_text())
    assert marker == {"format": "flax", "version": 1, "dtype": "float32"}


def test_a_head_that_is_tied_and_equal_is_dropped(make_checkpoint, tmp_path, read_all, same_bits):
    source = make_checkpoint(
        tied=True, change=lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].copy()})
    )
    convert(source, tmp_path / "flax")
    convert(tmp_path / "flax", tmp_path / "back")
    expected = read_all(source)
    del expected["lm_head.weight"]
    assert same_bits(read_all(tmp_path / "back"), expected)


def test_outputs_are_not_replaced_unless_forced(make_checkpoint, tmp_path):
    source = make_checkpoint()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(InputError, match="out: exists"):
        convert(source, tmp_path / "out")
    convert(source, tmp_path / "out", force=True)
    assert not (tmp_path / "out" / "precious").exists()
    with pytest.raises(InputError, match="source itself"):
        convert(source, source, force=True)


@pytest.mark.parametrize(
    "change", [lambda t: t.pop("model.norm.weight"), lambda t: t["model.norm.weight"].fill(np.nan)]
)
def test_a_refused_source_leaves_nothing(make_checkpoint, tmp_path, change):
    source = make_checkpoint(change=change)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        convert(source, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_one_line_that_names_the_output(make_checkpoint, tmp_path, monkeypatch):
    """Orbax's storage reports a full disk as a ValueError."""
    message = "RESOURCE_EXHAUSTED: Failed to write 5 bytes: No space left on device [os_error_code='28']"

    async def full(*args, **options):
        raise ValueError(message)

    monkeypatch.setattr(orbax_store.LazyArrayHandler, "serialize", full)
    with pytest.raises(InputError, match="no space left") as caught:
        convert(make_checkpoint(), tmp_path / "out")
    assert str(tmp_path / "out") in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_flax_folders_load_as_their_source_does(make_checkpoint, tmp_path, dtype, same_bits):
    source = make_checkpoint(dtype=dtype)
    convert(source, tmp_path / "flax")
    for target in (None, jnp.bfloat16, jnp.float32):
        a, b = load_model(source, target), load_model(tmp_path / "flax", target)
        assert (a.config, a.table) == (b.config, b.table)
        assert same_bits(
            {path: np.asarray(array) for path, array in a.params.items()},
            {path: np.asarray(array) for path, array in b.params.items()},
        )


def test_a_flax_folder_is_no_hugging_face_checkpoint(make_checkpoint, tmp_path):
    convert(make_checkpoint(), tmp_path / "flax")
    with pytest.raises(CheckpointError, match=r"Flax folder.*jaxmerge convert"):
        Checkpoint.open(tmp_path / "flax")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_flax_folders_that_are_unsound(make_checkpoint, tmp_path):
    convert(make_checkpoint(), tmp_path / "flax")

    def refused(change, *words):
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(tmp_path / "flax", tmp_path / "bad")
        change(tmp_path / "bad")
        with pytest.raises(CheckpointError) as caught:
            load_model(tmp_path / "bad")
        assert str(tmp_path / "bad") in str(caught.value) and "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)

    def config(**changes):
        def change(folder):
            content = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(content | changes))

        return change

    def emptied(pattern):
        return lambda folder: [file.write_bytes(b"") for file in folder.glob(pattern) if file.is_file()]

    refused(lambda folder: (folder / "config.json").unlink(), "config.json")
    refused(lambda folder: (folder / "jaxmerge.json").write_text("{}"), "jaxmerge.json", "version")
    refused(lambda folder: (folder / "jaxmerge.json").write_text("["), "jaxmerge.json", "JSON")
    refused(lambda folder: shutil.rmtree(folder / "params"), "params")
    refused(emptied("params/_METADATA"), "params")
    refused(emptied("params/**/d/*"), "params", "cannot be read")
    refused(config(vocab_size=50), "embed_tokens.weight", "[50, 16]")
    refused(config(num_hidden_layers=4), "layers.")
    refused(config(attention_bias=True), "q_proj.bias", "missing")
    refused(config(tie_word_embeddings=True), "lm_head.weight", "not a part")


def test_flax_folders_with_nan_or_wrong_dtype(make_checkpoint, tmp_path):
    model = load_model(make_checkpoint())
    model.params["norm.weight"] = model.params["norm.weight"].at[3].set(jnp.nan)
    flax_folder.save(model.params, tmp_path / "nan", like=model.source)
    with pytest.raises(CheckpointError, match=r"norm\.weight.*NaN"):
        load_model(tmp_path / "nan")
    model.params["norm.weight"] = jnp.zeros(16, jnp.int32)
    flax_folder.save(model.params, tmp_path / "ints", like=model.source)
    assert FlaxFolder.open(tmp_path / "ints").tensors["norm.weight"].dtype == jnp.int32
    with pytest.raises(CheckpointError, match=r"norm\.weight.*int32"):
        load_model(tmp_path / "ints")
