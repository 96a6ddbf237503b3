"""Reading checkpoint folders: values, and one clear error for each way in which a folder can be wrong."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.finite import require_finite
from jaxmerge.errors import CheckpointError, InputError

TENSORS = {
    "a": np.arange(12, dtype=np.float32).reshape(4, 3),
    "b": np.arange(6, dtype=np.float16).reshape(2, 3),
    "c": np.arange(10, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(5, 2),
    "scalar": np.array(3.0, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
}


def write_config(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


@pytest.fixture
def single(tmp_path):
    folder = write_config(tmp_path / "single")
    safetensors.numpy.save_file(dict(TENSORS), folder / "model.safetensors")
    return folder


@pytest.fixture
def sharded(tmp_path):
    folder = write_config(tmp_path / "sharded")
    shards = {"one.safetensors": ["a", "b"], "two.safetensors": ["c", "scalar", "empty"]}
    for shard, names in shards.items():
        safetensors.numpy.save_file({name: TENSORS[name] for name in names}, folder / shard)
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def edit_index(folder, change):
    file = folder / "model.safetensors.index.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def write_raw(folder, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + text + data)


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(folder)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("kind", ["single", "sharded"])
def test_reads_every_tensor_in_its_own_dtype(kind, request):
    checkpoint = Checkpoint.open(request.getfixturevalue(kind))
    assert checkpoint.config == {"model_type": "llama"}
    assert set(checkpoint.tensors) == set(TENSORS)
    for name, expected in TENSORS.items():
        got = checkpoint.read(name)
        assert got.dtype == expected.dtype == checkpoint.tensors[name].dtype
        assert got.shape == expected.shape == checkpoint.tensors[name].shape
        assert got.tobytes() == expected.tobytes()


def test_reads_rows(single):
    checkpoint = Checkpoint.open(single)
    for name, start, stop in [("a", 1, 3), ("a", 2, 99), ("c", 0, 5), ("c", 3, 3), ("empty", 0, 2)]:
        assert checkpoint.read_rows(name, start, stop).tobytes() == TENSORS[name][start:stop].tobytes()
        assert checkpoint.read_rows(name, start, stop).shape == TENSORS[name][start:stop].shape


def test_links_are_followed_within_the_folder_and_the_hubs_cache(sharded, tmp_path):
    snapshot = tmp_path / "models--org--name" / "snapshots" / "0"
    snapshot.parent.mkdir(parents=True)
    (snapshot.parent.parent / "blobs").mkdir()
    sharded.rename(snapshot)
    for i, file in enumerate(sorted(snapshot.iterdir())):
        blob = snapshot.parent.parent / "blobs" / str(i)
        file.rename(blob)
        file.symlink_to(f"../../blobs/{i}")
    assert Checkpoint.open(snapshot).read("a").tobytes() == TENSORS["a"].tobytes()
    (tmp_path / "link").symlink_to(snapshot)
    assert Checkpoint.open(tmp_path / "link").read("a").tobytes() == TENSORS["a"].tobytes()


@pytest.mark.parametrize("name", ["one.safetensors", "config.json", "model.safetensors.index.json"])
def test_links_out_of_the_folder_are_refused(sharded, tmp_path, name):
    (sharded / name).rename(tmp_path / "secret")
    (sharded / name).symlink_to("../secret")
    refused(sharded, name, "is a link out of the folder")


def test_missing_folder_and_file_are_the_users_input(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Checkpoint.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Checkpoint.open(tmp_path / "file")


def test_config(tmp_path, single):
    (tmp_path / "bare").mkdir()
    refused(tmp_path / "bare", "no config.json")
    for text in ["{", "[]", "\x00"]:
        (single / "config.json").write_text(text)
        refused(single, "config.json")


def test_no_weights_and_pickles(tmp_path):
    folder = write_config(tmp_path / "model")
    refused(folder, "neither model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    refused(folder, "pickled", "save_pretrained")


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "..\\x", ""])
def test_index_that_leaves_the_folder(sharded, name):
    edit_index(sharded, lambda content: content["weight_map"].update(a=name))
    refused(sharded, "'a'", "outside the folder")


def test_index_and_shards_disagree(sharded):
    (sharded / "two.safetensors").rename(sharded / "kept")
    refused(sharded, "two.safetensors", "missing")
    (sharded / "kept").rename(sharded / "two.safetensors")
    edit_index(sharded, lambda content: content["weight_map"].update(new="one.safetensors"))
    refused(sharded, "'new'", "one.safetensors")
    edit_index(sharded, lambda content: content["weight_map"].pop("new"))
    edit_index(sharded, lambda content: content["weight_map"].pop("b"))
    refused(sharded, "lacks tensor 'b'", "one.safetensors")


def test_duplicate_tensor_across_shards(sharded):
    safetensors.numpy.save_file({name: TENSORS[name] for name in "ca"}, sharded / "two.safetensors")
    refused(sharded, "'a'", "one.safetensors", "two.safetensors")


def test_index_malformed(sharded):
    for text in [
        "{",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}',
    ]:
        (sharded / "model.safetensors.index.json").write_text(text)
        refused(sharded, "model.safetensors.index.json")


def test_both_an_index_and_a_single_file(sharded, single):
    (single / "model.safetensors").rename(sharded / "model.safetensors")
    refused(sharded, "both", "remove")


@pytest.mark.parametrize("keep", [0, 5, 8, 60, -1])
def test_truncated_files(single, keep):
    file = single / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(single, "model.safetensors")


def test_truncated_after_opening(single):
    checkpoint = Checkpoint.open(single)
    (single / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="'a'"):
        checkpoint.read("a")


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"nonsense", b"", ["JSON"]),
        (b"[1]", b"", ["JSON object"]),
        (b"\xff\xfe", b"", ["JSON"]),
        (b"[" * 100_000, b"", ["JSON"]),
        (b'{"a": 1, "a": 2}', b"", ["'a'", "twice"]),
        ({"a": 1}, b"", ["'a'", "malformed"]),
        ({"a": {"dtype": "F32", "shape": [2]}}, b"", ["'a'", "malformed"]),
        ({"a": entry(0, 4)}, b"1234", ["'a'", "8 bytes", "4"]),
        ({"a": entry(0, 8, shape=(-2,))}, b"12345678", ["'a'", "no whole numbers"]),
        ({"a": entry(0, 8, shape=(2.0,))}, b"12345678", ["'a'", "no whole numbers"]),
        ({"a": entry(0, 8), "b": entry(4, 12)}, b"x" * 12, ["'b'", "overlaps"]),
        ({"a": entry(0, 8), "b": entry(12, 20)}, b"x" * 20, ["'b'", "hole"]),
        ({"a": entry(4, 12)}, b"x" * 12, ["'a'", "hole"]),
        ({"a": entry(0, 8)}, b"x" * 9, ["1 bytes after"]),
        ({"a": entry(0, 2**60, shape=(2**58,))}, b"x" * 8, ["truncated"]),
        ({"a": entry(0, 2, dtype="F8_E4M3")}, b"12", ["'a'", "F8_E4M3", "BF16"]),
        ({"a": entry(0, 8, dtype=["F32"])}, b"12345678", ["'a'", "dtype"]),
    ],
)
def test_headers_that_lie(single, header, data, words):
    write_raw(single, header, data)
    refused(single, "model.safetensors", *words)


@pytest.mark.parametrize(("length", "words"), [(10**9, "too large"), (2**63, "too large"), (5000, "truncated")])
def test_header_lengths_that_lie(single, length, words):
    write_raw(single, {"a": entry(0, 8)}, b"x" * 8, length=length)
    refused(single, words)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_require_finite(dtype, value):
    array = np.full((3, 5), 1.0).astype(dtype)
    array[0, 0] = ml_dtypes.finfo(dtype).max
    require_finite("w", array)
    array[2, 4] = value
    with pytest.raises(CheckpointError, match="w: has NaN"):
        require_finite("w", array)


def test_require_finite_of_integers_and_nothing():
    require_finite("w", np.arange(3))
    require_finite("w", np.zeros((0, 3), np.float32))
