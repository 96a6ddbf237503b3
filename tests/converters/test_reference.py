"""References: folders first and without a network, then the hub, with one clear line where neither has
them."""

import socket

import huggingface_hub
import pytest
from huggingface_hub.errors import RevisionNotFoundError

from jaxmerge.converters.reference import Location, hub_name, resolve, spelled_out
from jaxmerge.errors import InputError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a local reference touched the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


def test_folders_are_found_in_order(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first / "models" / "a", second / "models" / "a", second / "b+c@d"):
        folder.mkdir(parents=True)
    bases = [first, second]
    assert resolve("models/a", relative_to=bases) == Location(first / "models" / "a")
    assert resolve("./models/a", relative_to=[second]) == Location(second / "models" / "a")
    assert resolve("b+c@d", relative_to=bases) == Location(second / "b+c@d")
    assert resolve(str(second / "models"), relative_to=[first]) == Location(second / "models")
    assert resolve(str(second / "models"), relative_to=[]) == Location(second / "models")


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert resolve("~/model", relative_to=[tmp_path / "elsewhere"]) == Location(tmp_path / "model")


@pytest.mark.parametrize("ref", ["nowhere", "./org/name", "/org/name", "../x", "a/b/c", "models/typo", "~/none"])
def test_what_can_only_be_a_folder_never_asks_the_hub(tmp_path, ref):
    (tmp_path / "models").mkdir()
    with pytest.raises(InputError, match="no such folder") as caught:
        resolve(ref, relative_to=[tmp_path])
    assert ref in str(caught.value) and "\n" not in str(caught.value)


def test_empty():
    with pytest.raises(InputError, match="empty"):
        resolve(" ", relative_to=[])


def test_a_lora_stands_behind_its_model(tmp_path):
    for name in ("model", "lora", "c++/model", "a+b"):
        (tmp_path / name).mkdir(parents=True)
    bases = [tmp_path / "nowhere", tmp_path]
    assert resolve("model+lora", relative_to=bases) == Location(tmp_path / "model", tmp_path / "lora")
    assert resolve(f"./model+{tmp_path}/lora", relative_to=bases).adapter == tmp_path / "lora"
    # A folder's own name comes first, whatever is in it.
    assert resolve("a+b", relative_to=bases) == Location(tmp_path / "a+b")
    assert resolve("c++/model+lora", relative_to=bases) == Location(tmp_path / "c++/model", tmp_path / "lora")
    assert spelled_out("model+org/lora@v2", tmp_path) == f"{tmp_path}/model+org/lora@v2"
    assert spelled_out("model+./lora", tmp_path) == f"{tmp_path}/model+{tmp_path}/lora"


def test_a_hub_name_has_a_revision_and_a_folder_has_none(tmp_path):
    (tmp_path / "org" / "name@v2").mkdir(parents=True)
    assert hub_name("org/name@v2", [tmp_path / "org"]) == ("org/name", "v2")
    assert hub_name("org/name", [tmp_path / "org"]) == ("org/name", None)
    assert hub_name("org/name@v2", [tmp_path]) == ("org/name@v2", None)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("model+lora+lora", "more than one LoRA"),
        ("org/name+org/lora+org/other", "more than one LoRA"),
        ("model+", "is empty"),
        ("+lora", "is empty"),
        ("model+typo", "no such folder"),
        ("typo+lora", "no such folder"),
    ],
)
def test_what_is_wrong_with_a_lora_reference_is_named(tmp_path, ref, message):
    for name in ("model", "lora"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=message) as caught:
        resolve(ref, relative_to=[tmp_path])
    assert ref in str(caught.value) and "\n" not in str(caught.value)


def test_hub_ids_are_fetched_with_their_revision_and_without_pickles(tmp_path, monkeypatch):
    calls = []

    def download(repo, revision, allow_patterns):
        calls.append((repo, revision))
        assert not any(pattern.endswith((".bin", ".py", "*.safetensors")) for pattern in allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("org/name", relative_to=[tmp_path]) == Location(tmp_path)
    assert resolve("org/na.me-1@refs/pr/1", relative_to=[tmp_path]) == Location(tmp_path)
    assert resolve("org/name@v1+org/lora@v2", relative_to=[tmp_path]) == Location(tmp_path, tmp_path)
    # What is small comes first and tells which weights there are; a LoRA is fetched at once.
    twice = [("org/name", None), ("org/na.me-1", "refs/pr/1"), ("org/name", "v1")]
    assert calls == [*(call for call in twice for _ in range(2)), ("org/lora", "v2")]


def test_failures_of_the_hub_are_one_line(tmp_path, monkeypatch):
    def failing(error):
        def download(*args, **options):
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        with pytest.raises(InputError) as caught:
            resolve("org/name@v9", relative_to=[tmp_path])
        assert "org/name@v9" in str(caught.value) and "\n" not in str(caught.value)
        return str(caught.value)

    assert "cannot be fetched (no route)" in failing(OSError("no route\nmore"))
    revision = RevisionNotFoundError.__new__(RevisionNotFoundError)
    assert "not this revision" in failing(revision)


def test_offline_cache(tmp_path, monkeypatch):
    """The cache's own layout, read by huggingface_hub without a network."""
    monkeypatch.undo()
    commit = "0" * 40
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda *args, **options: huggingface_hub._snapshot_download.snapshot_download(
            *args, cache_dir=tmp_path, **options
        ),
    )
    assert resolve("org/name", relative_to=[tmp_path / "elsewhere"]) == Location(snapshot)
    with pytest.raises(InputError, match="not in the hub's cache"):
        resolve("org/other", relative_to=[tmp_path / "elsewhere"])
