"""Where the sources and candidates of a search lie: home, mesh, and how many candidates run at once on a device."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import jax
from jax.sharding import Mesh

from jaxmerge.converters.writer import parse_size
from jaxmerge.runtime.dtype import cache_dtype
from jaxmerge.runtime.memory import Devices, here, named
from jaxmerge.runtime.mesh import MODEL, POP, make_mesh
from jaxmerge.runtime.placement import Placement
from jaxmerge.search.chunk import SIZES
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engines.compression import require_compressible
from jaxmerge.search.engines.forward import Forward, require_merged
from jaxmerge.search.engines.home import Home, choose
from jaxmerge.search.engines.needs import Needs
from jaxmerge.search.engines.requirements import dtype_of, mesh_of, model_choices
from jaxmerge.search.engines.sources import Models


class Placed(ABC):
    """The part of an engine that knows devices. Home and mesh are chosen when they are first asked for, by bytes."""

    # Whether the devices of one candidate may be those of several processes.
    _spans: ClassVar[bool] = False

    def __init__(self, config: EvolveConfig, models: Models) -> None:
        require_compressible(config)
        self._config, self._models = config, models
        self._dtype, self._cache = dtype_of(config), cache_dtype(config.runtime.cache)
        self._wanted = mesh_of(config, models.config, spans=self._spans)
        chunk = config.runtime.chunk
        # An engine that was not told begins with one candidate at a time.
        self._settled, self._chunk = chunk != "auto", 1 if chunk == "auto" else int(chunk)

    @property
    @abstractmethod
    def _needs(self) -> Needs: ...

    @property
    @abstractmethod
    def _refused(self) -> Mapping[str, str]:
        """Homes that the bank cannot have, each with the reason."""

    @cached_property
    def _forward(self) -> Forward:
        """How candidates are scored."""
        return require_merged(self._config)

    @property
    def approximates(self) -> bool:
        return self._forward.batched or self._config.runtime.compression is not None

    @cached_property
    def _home(self) -> Home:
        """Where the bank lies, and over how many devices a candidate. Raises InputError where it fits nowhere."""
        memory = self._config.runtime.memory
        devices = here(jax.devices(), None if memory is None else parse_size(memory))
        if self._wanted is not None:
            models: tuple[int, ...] = (self._wanted.shape[MODEL],)
        else:
            models = self._model_choices(devices)
        return choose(self._needs, devices, self._config.runtime.bank, models=models, refused=self._refused)

    @cached_property
    def _mesh(self) -> Mesh:
        return make_mesh(model=self._home.model) if self._wanted is None else self._wanted

    @cached_property
    def _place(self) -> Placement:
        return Placement.of(self._models.config, self._mesh)

    @property
    def placed(self) -> str:
        return self._home.line

    def _model_choices(self, devices: Devices) -> tuple[int, ...]:
        if self.approximates:
            return (1,)
        found = model_choices(self._config, self._models.config, devices.count)
        host = devices.host
        return tuple(m for m in found if host % m == 0 or (self._spans and m % host == 0))

    def _home_on(self, name: str) -> Home:
        devices, runtime = named(name), self._config.runtime
        if runtime.memory is not None:
            devices = replace(devices, memory=parse_size(runtime.memory))
        models = self._model_choices(devices)
        return choose(self._needs, devices, runtime.bank, models=models, refused=self._refused)

    @property
    def chosen(self) -> Mapping[str, Any]:
        return {
            "mesh": {"pop": self._mesh.shape[POP], "model": self._mesh.shape[MODEL]},
            "bank": self._home.name,
            "compression": self._config.runtime.compression,
            "chunk": self._chunk if self._settled else "auto",
            "forward": self._forward.name,
            "dtype": self._dtype.name,
            "cache": (self._cache or self._dtype).name,
        }

    @property
    def devices(self) -> str:
        found = jax.devices()
        return f"{len(found)} x {found[0].device_kind}"

    def chunks(self, population: int) -> tuple[int, ...]:
        # A layer of sources on the host is waited for by all candidates, however many run at once.
        if self._settled or self._home.name == "host":
            return (self._chunk,)
        each = -(-population // self._mesh.shape[POP])
        return tuple(size for size in SIZES if size == 1 or (size <= each and self._home.at(size).fits))
