"""A run in an object store: here a folder that is only reached by its URL."""

import json
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine, write_config

from jaxmerge.errors import InputError, Interrupted
from jaxmerge.runtime import at_work
from jaxmerge.runtime.object_store import ObjectStore
from jaxmerge.search import remote
from jaxmerge.search.evolve import evolve
from jaxmerge.search.progress import Progress


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything is sent at once, and copies lie where they can be looked at."""
    monkeypatch.setattr(remote, "EVERY", 0.0)
    monkeypatch.setattr(remote.tempfile, "tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "here")


def url(folder: Path) -> str:
    return folder.as_uri()


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) | {"seconds": 0} for line in (folder / "history.jsonl").read_text().splitlines()]


def require_same(found: Path, wanted: Path) -> None:
    for name in ("best.yaml", "model/config.json"):
        assert (found / name).read_bytes() == (wanted / name).read_bytes()
    assert history(found) == history(wanted)


def test_a_run_by_url_is_that_by_path(config: Path, tmp_path: Path) -> None:
    evolve(config, tmp_path / "path", build=FakeEngine)
    run = evolve(config, url(tmp_path / "store" / "run"), build=FakeEngine)
    assert run.home == url(tmp_path / "store" / "run") and run.summary["best"]
    require_same(tmp_path / "store" / "run", tmp_path / "path")
    sent, wanted = (set(ObjectStore(url(folder)).names()) for folder in (tmp_path / "store/run", tmp_path / "path"))
    assert sent == wanted - {"state/lock"}
    # Done: nothing is scored or sent again.
    before = (tmp_path / "store" / "run" / "history.jsonl").stat().st_mtime_ns
    evolve(config, url(tmp_path / "store" / "run"), build=FakeEngine)
    assert (tmp_path / "store" / "run" / "history.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize("lost", [False, True])
def test_it_goes_on_from_what_was_sent(config: Path, tmp_path: Path, lost: bool) -> None:
    """Interrupted, or lost with its host at a moment of which the store has the files."""
    evolve(config, tmp_path / "path", build=FakeEngine)
    store, moment = tmp_path / "store", tmp_path / "moment"

    def stop(event: Progress) -> None:
        if event.stage == "parameter" and event.done == 3:
            shutil.copytree(store, moment)
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="file://"):
        evolve(config, url(store), build=FakeEngine, progress=stop)
    assert not list((tmp_path / "copies").iterdir())
    if lost:
        shutil.rmtree(store)
        moment.rename(store)
        mark = json.loads((store / at_work.MARK).read_text())
        (store / at_work.MARK).write_text(json.dumps(mark | {"pid": 2**22 + 1}))
    assert 0 < len(history(store)) < len(history(tmp_path / "path"))
    evolve(config, url(store), build=FakeEngine)
    require_same(store, tmp_path / "path")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = ObjectStore(url(tmp_path / "store"))
    mark = {"host": f"not-{socket.gethostname()}", "pid": 1, "since": "noon"}
    store.write(at_work.MARK, json.dumps(mark).encode())
    done = threading.Event()

    def beats() -> None:
        count = 0
        while not done.wait(0.02):
            count += 1
            store.write(at_work.MARK, json.dumps(mark | {"beat": count}).encode())

    other = threading.Thread(target=beats)
    other.start()
    with pytest.raises(InputError, match=r"file://.*: process 1 on not-.* is at work in it"):
        at_work.at_work(store, silence=1).__enter__()
    done.set()
    other.join()
    with at_work.at_work(store, silence=0.2):
        assert json.loads(store.read(at_work.MARK) or b"")["host"] == socket.gethostname()
    assert store.read(at_work.MARK) is None


def test_a_store_that_is_gone_costs_nothing(config: Path, tmp_path: Path) -> None:
    """The search goes on without it, and says where what it could not send is."""
    store = tmp_path / "store"

    def break_off(event: Progress) -> None:
        if event.stage == "parameter" and event.done == 3 and store.is_dir():
            shutil.rmtree(store)
            store.write_text("no folder")

    with (
        pytest.warns(UserWarning, match="cannot be read or written .* the run goes on"),
        pytest.raises(InputError, match=r"cannot be read or written .* the run is kept in (.*): copy it") as caught,
    ):
        evolve(config, url(store), build=FakeEngine, progress=break_off)
    kept = Path(str(caught.value).split("kept in ")[1].split(":")[0])
    evolve(config, tmp_path / "path", build=FakeEngine)
    require_same(kept, tmp_path / "path")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs://bucket/run", r"gs://bucket/run: nothing here reads gs://; pip install jaxmerge\[gcs\]"),
        ("fax://number", "fax://number: nothing here reads fax://; fsspec says: "),
    ],
)
def test_a_store_that_nothing_reads(
    config: Path, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=message):
        evolve(config, address, build=FakeEngine)


def test_a_refused_run_leaves_nothing(config: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="generatoins"):
        evolve(config, url(tmp_path / "store"), overrides=["search.generatoins=1"], build=FakeEngine)
    assert ObjectStore(url(tmp_path / "store")).names() == []
