"""References: folders first and without a network, then the hub, with one clear line where neither has
them."""

import socket

import huggingface_hub
import pytest
from huggingface_hub.errors import RevisionNotFoundError

from jaxmerge.converters.reference import resolve
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
    assert resolve("models/a", relative_to=bases) == first / "models" / "a"
    assert resolve("./models/a", relative_to=[second]) == second / "models" / "a"
    assert resolve("b+c@d", relative_to=bases) == second / "b+c@d"
    assert resolve(str(second / "models"), relative_to=[first]) == second / "models"
    assert resolve(str(second / "models"), relative_to=[]) == second / "models"


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert resolve("~/model", relative_to=[tmp_path / "elsewhere"]) == tmp_path / "model"


@pytest.mark.parametrize("ref", ["nowhere", "./org/name", "/org/name", "../x", "a/b/c", "models/typo", "~/none"])
def test_what_can_only_be_a_folder_never_asks_the_hub(tmp_path, ref):
    (tmp_path / "models").mkdir()
    with pytest.raises(InputError, match="no such folder") as caught:
        resolve(ref, relative_to=[tmp_path])
    assert ref in str(caught.value) and "\n" not in str(caught.value)


def test_empty():
    with pytest.raises(InputError, match="empty"):
        resolve(" ", relative_to=[])


@pytest.mark.parametrize("ref", ["org/name+org/lora", "folder+lora", "org/name@main+lora@v2"])
def test_lora_is_refused(tmp_path, ref):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="LoRA references are not supported yet") as caught:
        resolve(ref, relative_to=[tmp_path])
    assert ref in str(caught.value)


def test_hub_ids_are_fetched_with_their_revision_and_without_pickles(tmp_path, monkeypatch):
    calls = []

    def download(repo, revision, allow_patterns):
        calls.append((repo, revision))
        assert "*.safetensors" in allow_patterns and not any("bin" in pattern for pattern in allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve("org/name", relative_to=[tmp_path]) == tmp_path
    assert resolve("org/na.me-1@refs/pr/1", relative_to=[tmp_path]) == tmp_path
    assert calls == [("org/name", None), ("org/na.me-1", "refs/pr/1")]


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
    assert resolve("org/name", relative_to=[tmp_path / "elsewhere"]) == snapshot
    with pytest.raises(InputError, match="not in the hub's cache"):
        resolve("org/other", relative_to=[tmp_path / "elsewhere"])
