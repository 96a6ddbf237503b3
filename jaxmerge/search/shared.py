"""A search in several processes: each walks the whole of it, with the scores of process 0.

All ask, evaluate and tell the same, for what decides is the same in all of them: the history that process 0 found at
the start, and then every score as process 0 has it. Only process 0 writes to the run's folder. The others work in a
copy of it in a temporary folder, so that they need no common disk, and nothing else in the search knows of them.
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from jaxmerge import __version__
from jaxmerge.errors import InputError
from jaxmerge.objectives.interface import Block
from jaxmerge.runtime.distributed import join
from jaxmerge.runtime.object_store import ObjectStore, is_remote
from jaxmerge.runtime.peers import Peers
from jaxmerge.runtime.watch import request_stop
from jaxmerge.search.chunk import Timing
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Candidate, Engine, Measurement
from jaxmerge.search.folder import RunFolder
from jaxmerge.search.linearised import Linearised
from jaxmerge.search.remote import scratch, working_copy
from jaxmerge.search.resolved import first_difference, plain
from jaxmerge.search.result import Result

# Of the run's folder what nobody reads during the search.
LEFT_OUT = ("log", "report.html", "lock")


@dataclass(frozen=True)
class Part:
    """What this process has to do with a run. out: the run's folder, a path or a URL; folder: the one it works in.
    keep: makes sure, now and then, that `out` has what `folder` has."""

    out: str | Path
    folder: Path
    peers: Peers | None
    keep: Callable[[], None] = lambda: None

    @property
    def leads(self) -> bool:
        return self.peers is None or self.peers.leads

    def engine(self, engine: Engine, folder: RunFolder) -> Engine:
        """The engine of a leg, whose scores are process 0's."""
        return engine if self.peers is None else cast(Engine, SharedEngine(engine, self.peers, folder))

    def require_alike(self, config: EvolveConfig) -> None:
        """Raises InputError, in all processes, where one has another config, version or content of a file than
        process 0. From here on a signal stops all of them at the same step."""
        if self.peers is None:
            return
        mine = plain(config) | {"version": _versions()}
        first = self.peers.same(lambda: mine)

        def check() -> None:
            if difference := first_difference(first, mine):
                key, theirs, ours = difference
                raise InputError(f"has {key}: {ours}, process 0 has {theirs}; give all hosts the same")

        self.peers.require(f"alike {config.stage}", check)
        request_stop(self.peers)

    def log(self, folder: RunFolder) -> Path:
        """This process's log: of process 0 in the run's folder, of another at the same place of its own host."""
        if self.peers is None or self.peers.leads:
            return folder.log / "run.log"
        # An object store gets it at the end.
        home = self.folder if is_remote(self.out) else Path(self.out)
        return home / folder.path.relative_to(self.folder) / "log" / f"process-{self.peers.number}.log"

    def send_logs(self) -> None:
        """This process's logs to the object store in which the run is, where it is not the one that writes there."""
        if not self.leads and is_remote(self.out):
            for file in self.folder.rglob("log/process-*.log"):
                with suppress(InputError, FileNotFoundError):
                    ObjectStore(str(self.out)).put(file, file.relative_to(self.folder).as_posix())


@contextmanager
def taking_part(out: str | Path) -> Iterator[Part]:
    """This process's part in a run: all of it, where it is alone."""
    peers = join()
    if peers is None:
        with working_copy(out) as copy:
            yield Part(out, copy.folder, None, copy.keep)
        return
    try:
        if peers.leads:
            with working_copy(out) as copy:
                peers.same(lambda: _packed(copy.folder))
                yield Part(out, copy.folder, peers, copy.keep)
        else:
            part = Part(out, _copied(peers), peers)
            try:
                yield part
            finally:
                part.send_logs()
        peers.finish()
    except jax.errors.JaxRuntimeError:
        # A collective that fails has mostly lost a peer: then the watch ends this process, and says which.
        peers.wait_for_loss()
        raise
    except BaseException as error:
        peers.end(error)
        raise


class SharedEngine:
    """An engine whose scores are those of process 0, in every process; all else is the engine's own."""

    def __init__(self, engine: Engine, peers: Peers, folder: RunFolder) -> None:
        self._engine, self._peers, self._folder = engine, peers, folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def chunks(self, population: int) -> tuple[int, ...]:
        sizes = self._engine.chunks(population)
        return self._peers.same(lambda: sizes)

    def timed(self, genomes: np.ndarray, chunk: int) -> Timing:
        self._peers.check()
        timing = self._engine.timed(genomes, chunk)
        return self._peers.same(lambda: timing)

    def load(self) -> None:
        self._engine.load()
        self._peers.step()

    def evaluate(
        self,
        genomes: np.ndarray,
        split: str = "search",
        draw: int | None = None,
        block: Block | None = None,
        exact: bool = False,
    ) -> list[Result]:
        self._peers.check()
        results = self._engine.evaluate(genomes, split, draw, block, exact)
        return self._peers.same(lambda: results)

    def measure(self, candidate: Candidate, split: str) -> Measurement:
        self._peers.check()
        measured = self._engine.measure(candidate, split)
        return self._peers.same(lambda: measured)

    def gradients(self, genomes: np.ndarray, draw: int | None = None) -> list[Result]:
        self._peers.check()
        results = self._engine.gradients(genomes, draw)
        return self._peers.same(lambda: results)

    def linearised(self, genome: np.ndarray, draw: int | None = None) -> Linearised:
        self._peers.check()
        found = self._engine.linearised(genome, draw)
        return self._peers.same(lambda: found)

    def export(self, candidate: Candidate, folder: Path) -> None:
        # A stage's model is one that the next stage loads, in every process.
        if self._peers.leads or self._folder.whole is not None:
            self._engine.export(candidate, folder)
            return
        parameters = getattr(self._engine, "parameters", None)
        if parameters is not None and self._engine.chosen["bank"] == "sharded":
            # Each holds a share of every source, so that all merge what one writes. A path is written from its files.
            jax.block_until_ready(parameters(candidate))
        folder.mkdir(parents=True)


def _copied(peers: Peers) -> Path:
    """The folder to work in where another process writes: what that one's holds, for that decides about the rest."""
    raw = peers.same(lambda: None)
    # Kept until the process ends: what is given back of the run lies there.
    peers.scratch = scratch()
    folder = peers.scratch / "run"
    if raw is not None:
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            archive.extractall(folder, filter="data")
    return folder


def _packed(out: Path) -> bytes | None:
    if not out.is_dir():
        return None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(out.rglob("*")):
            inner = path.relative_to(out)
            # The run's own model counts by being there; those of its stages are read.
            known = inner.parts[0] not in LEFT_OUT and inner.name not in LEFT_OUT and "log" not in inner.parts
            if known and (inner.parts[0] != "model" or len(inner.parts) == 1):
                archive.add(path, str(inner), recursive=False)
    return buffer.getvalue()


def _versions() -> dict[str, str]:
    found = {"jaxmerge": __version__, "jax": jax.__version__}
    for name in ("evosax", "transformers", "tokenizers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
