"""What a mesh may be, and how a model is divided over it."""

from dataclasses import replace
from unittest.mock import Mock

import jax
import pytest
from miniature import CONFIG

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.errors import InputError
from jaxmerge.runtime.mesh import make_mesh
from jaxmerge.runtime.placement import Placement, model_axes


def sizes(heads: int, kv_heads: int, mlp: int, vocab: int = 64):
    config = architecture_of(CONFIG).read(CONFIG)
    return replace(config, num_heads=heads, num_kv_heads=kv_heads, intermediate_size=mlp, vocab_size=vocab)


def devices(count: int) -> list[Mock]:
    return [Mock(spec=jax.Device, process_index=0, id=i) for i in range(count)]


@pytest.mark.parametrize(("pop", "model", "shape"), [(None, 1, (8, 1)), (None, 4, (2, 4)), (4, 2, (4, 2))])
def test_all_devices_take_part_and_those_of_a_candidate_are_neighbours(
    pop: int | None, model: int, shape: tuple[int, int]
) -> None:
    mesh = make_mesh(pop, model, devices(8))
    assert mesh.devices.shape == shape
    assert [device.id for device in mesh.devices[0]] == list(range(model))


@pytest.mark.parametrize(
    ("pop", "model", "message"),
    [
        (3, 1, "runtime.mesh: {pop: 3, model: 1} takes 3 devices, but there are 8"),
        (4, 4, "runtime.mesh: {pop: 4, model: 4} takes 16 devices, but there are 8"),
        (None, 3, "runtime.mesh: {model: 3} takes 6 devices, but there are 8"),
        (None, 16, "runtime.mesh: {model: 16} takes 16 devices, but there are 8"),
    ],
)
def test_a_mesh_that_is_not_all_devices_names_both(pop: int | None, model: int, message: str) -> None:
    with pytest.raises(InputError) as failed:
        make_mesh(pop, model, devices(8))
    assert str(failed.value).startswith(message)


def test_a_candidate_has_a_part_of_a_process_or_all_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    assert make_mesh(4, 3, devices(12)).devices.shape == (4, 3)
    assert make_mesh(2, 6, devices(12)).devices.shape == (2, 6)
    with pytest.raises(InputError, match="model: 2 neither divides the 3 devices of each process nor is a multiple"):
        make_mesh(6, 2, devices(12))


@pytest.mark.parametrize(
    ("config", "model", "usable"),
    [
        (sizes(8, 8, 48), 3, "1, 2, 4, 8"),  # not the heads
        (sizes(12, 12, 20), 3, "1, 2, 4"),  # not the ffn
        (sizes(12, 6, 24), 4, "1, 2, 3, 6, 12"),  # heads of keys that are neither divided nor shared
    ],
)
def test_a_model_that_cannot_be_divided_names_numbers_and_remedy(config, model: int, usable: str) -> None:
    with pytest.raises(InputError) as failed:
        Placement.of(config, make_mesh(1, model, devices(model)))
    message = str(failed.value)
    assert message.startswith(f"runtime.mesh: model: {model} does not divide num_attention_heads, {config.num_heads}, ")
    assert str(config.intermediate_size) in message and message.endswith(f"; it may be {usable}")


def test_what_does_not_divide_is_whole_on_every_device() -> None:
    mesh = make_mesh(1, 4, devices(4))
    assert Placement.of(sizes(8, 4, 48), mesh).divided == {"heads", "kv_heads", "mlp", "vocab"}
    assert Placement.of(sizes(8, 2, 48), mesh).divided == {"heads", "mlp", "vocab"}
    odd = Placement.of(sizes(8, 2, 48, vocab=37), mesh)
    assert odd.divided == {"heads", "mlp"} and odd.vocabulary_shards == 1
    assert tuple(odd.sharding(("layers", "embed", "heads")).spec) == (None, None, "model")


def test_the_model_axes_divide_devices_heads_and_ffn() -> None:
    assert model_axes(sizes(32, 8, 11008), 16) == (1, 2, 4, 8, 16)
    assert model_axes(sizes(32, 8, 11008), 12) == (1, 2, 4)
    assert model_axes(sizes(6, 6, 48), 16) == (1, 2)
