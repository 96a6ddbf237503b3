"""Streamed writing of safetensors: bit-exact, sharded, and complete or not at all."""

import json

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.output_folder import output_folder, require_apart
from jaxmerge.converters.reference import Location
from jaxmerge.converters.writer import ShardWriter, parse_size
from jaxmerge.errors import InputError

RNG = np.random.default_rng(0)
TENSORS = {
    "odd.bf16": RNG.normal(size=(3, 5)).astype(ml_dtypes.bfloat16),
    "w.f32": RNG.normal(size=(4, 6)).astype(np.float32),
    "h.f16": RNG.normal(size=(7,)).astype(np.float16),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def entries(tensors):
    return [(name, array.dtype, array.shape) for name, array in tensors.items()]


def write(folder, tensors, **options):
    with ShardWriter(folder, entries(tensors), **options) as writer:
        for name, array in tensors.items():
            writer.write(name, array)
    return writer


def same(got, expected):
    return got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes()


def test_one_file_that_safetensors_reads(tmp_path):
    assert write(tmp_path, TENSORS).names == ["model.safetensors"]
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert set(loaded) == set(TENSORS) and all(same(loaded[name], TENSORS[name]) for name in TENSORS)
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_torch_reads_mixed_dtypes_which_need_alignment(tmp_path):
    write(tmp_path, TENSORS)
    loaded = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert loaded["w.f32"].numpy().tobytes() == TENSORS["w.f32"].tobytes()
    assert loaded["scalar"].item() == 2.5


def test_shards_and_index(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    tensors = {f"layers.{i}": RNG.normal(size=(10, 10)).astype(np.float32) for i in range(5)}
    tensors["big"] = RNG.normal(size=(30, 10)).astype(np.float32)
    names = write(tmp_path, tensors, max_shard_size=900).names
    assert names == [f"model-{i:05d}-of-00004.safetensors" for i in (1, 2, 3, 4)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in tensors.values())
    assert list(index["weight_map"]) == list(tensors)
    checkpoint = Checkpoint.open(tmp_path)
    assert all(same(checkpoint.read(name), tensors[name]) for name in tensors)
    assert not list(tmp_path.glob("*.tmp"))


def test_arrays_that_are_not_contiguous_keep_their_values(tmp_path):
    """safetensors 0.8 writes the transposed bytes of `x.T` scrambled."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors = {"t": x.T, "s": x[:, ::2], "f": np.asfortranarray(x), "b": x.astype(ml_dtypes.bfloat16).T}
    write(tmp_path, tensors)
    loaded = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    for name, array in tensors.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_jax_arrays(tmp_path):
    x = jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)
    write(tmp_path, {"x": x})
    assert same(safetensors.numpy.load_file(tmp_path / "model.safetensors")["x"], np.asarray(x))


@pytest.mark.parametrize("wrong", ["order", "dtype", "shape", "more", "missing"])
def test_anything_but_the_announced_tensors_is_refused_and_nothing_is_left(tmp_path, wrong):
    x = np.ones((2, 2), np.float32)
    calls = {
        "order": [("b", x)],
        "dtype": [("a", x.astype(np.float16))],
        "shape": [("a", x[:1])],
        "more": [("a", x), ("b", x), ("c", x)],
        "missing": [("a", x)],
    }[wrong]
    with pytest.raises(ValueError), ShardWriter(tmp_path / "out", entries({"a": x, "b": x}), 16) as writer:
        for name, array in calls:
            writer.write(name, array)
    assert not list((tmp_path / "out").iterdir())


def test_an_error_in_the_middle_leaves_nothing(tmp_path):
    x = np.ones((2, 2), np.float32)
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, entries({"a": x, "b": x}), 16) as writer:
        writer.write("a", x)
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_full_disk(tmp_path, monkeypatch):
    x = np.ones((1000, 1000), np.float32)
    (tmp_path / "model.safetensors.tmp").symlink_to("/dev/full")
    with pytest.raises(InputError, match="no space left") as caught:
        write(tmp_path, {"a": x})
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_refused_before_writing(tmp_path):
    with (
        pytest.raises(InputError, match="no space left"),
        ShardWriter(tmp_path, [("a", np.dtype(np.float32), (2**50,))]),
    ):
        raise AssertionError("not reached")
    assert not list(tmp_path.iterdir())


def test_parse_size():
    assert parse_size("5GB") == 5_000_000_000 == parse_size(5_000_000_000) == parse_size(" 5 gb ")
    assert parse_size("1.5KiB") == 1536 and parse_size("100") == 100 == parse_size("100B")
    for wrong in ["", "0", "5XB", "-1", "GB", -3]:
        with pytest.raises(InputError, match="is not a size"):
            parse_size(wrong)


def test_output_folder_appears_at_the_end_only(tmp_path):
    target = tmp_path / "deep" / "out"
    with output_folder(target) as part:
        (part / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x" and len(list(target.parent.iterdir())) == 1


def test_what_a_killed_run_left_is_taken_care_of(tmp_path):
    (tmp_path / ".out.tmp").mkdir()
    (tmp_path / ".out.tmp" / "half").write_text("")
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "replaced").write_text("")
    with pytest.raises(InputError, match="--force"), output_folder(tmp_path / "out"):
        raise AssertionError("not reached")
    assert (tmp_path / "out" / "replaced").exists()
    with output_folder(tmp_path / "out", force=True) as part:
        (part / "new").write_text("")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_errors_name_the_output_and_not_the_folder_it_is_prepared_in(tmp_path):
    with pytest.raises(InputError) as caught, output_folder(tmp_path / "out") as part:
        write(part, {"a": np.ones(3, np.float32)})
        raise InputError(f"{part}: no space left")
    assert str(caught.value) == f"{tmp_path / 'out'}: no space left"
    assert not list(tmp_path.iterdir())


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out: cannot be written"), output_folder(tmp_path / "file" / "out"):
        raise AssertionError("not reached")


def test_output_folder_is_not_replaced_unless_forced(tmp_path):
    (tmp_path / "old").write_text("")
    with pytest.raises(InputError, match="--force"), output_folder(tmp_path):
        raise AssertionError("not reached")
    target = tmp_path / "out"
    for text in "ab":
        with output_folder(target, force=True) as part:
            (part / text).write_text(text)
    assert [file.name for file in target.iterdir()] == ["b"]
    with pytest.raises(RuntimeError), output_folder(target, force=True) as part:
        (part / "c").write_text("c")
        raise RuntimeError
    assert [file.name for file in target.iterdir()] == ["b"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["old", "out"]


def test_what_a_link_leads_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "out"
    link.symlink_to("real")
    for text in "ab":
        with output_folder(link, force=True) as part:
            (part / text).write_text(text)
    assert [file.name for file in (tmp_path / "real").iterdir()] == ["b"]
    assert link.is_symlink() and len(list(tmp_path.iterdir())) == 2


def test_an_output_holds_none_of_its_sources(tmp_path):
    model, lora = tmp_path / "models" / "math", tmp_path / "loras" / "ja"
    for folder in (model, lora):
        folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(model)
    source = Location(model, lora)
    for out, message in (
        (model, "is itself"),
        (tmp_path / "link", "is itself"),
        (lora, "is itself"),
        (tmp_path / "models", "contains"),
        (tmp_path / "loras", "contains"),
    ):
        with pytest.raises(InputError, match=f"{out.name}: {message}"):
            require_apart(out, [source])
    require_apart(model / "inside", [source])
    require_apart(tmp_path / "out", [source])
