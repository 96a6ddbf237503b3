"""Extracted LoRAs: at full rank they give the model again, fewer ranks miss more, and PEFT's keys say what was left."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lora_folder import product, write_lora
from miniature import CONFIG, checkpoints
from safetensors.numpy import load_file, save_file
from tiny_world import write_model

from jaxmerge.cli.main import main
from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.reference import Location
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging.decomposition import chosen_rank, decompose
from jaxmerge.merging.extraction import extract_lora

NORMS = ("norm", "input_layernorm", "post_attention_layernorm")
Q = "model.layers.0.self_attn.q_proj"
UP = "model.layers.1.mlp.up_proj"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """base and tuned, which differs in every tensor; both tie their embeddings."""
    monkeypatch.chdir(tmp_path)
    base, (tuned, _) = checkpoints()
    write_model(Path("base"), base)
    write_model(Path("tuned"), tuned)
    return tmp_path


def again(lora: str = "lora") -> dict[str, np.ndarray]:
    adapted = open_checkpoint(Location(Path("base"), Path(lora)))
    return {name: adapted.read(name) for name in adapted.tensors}


@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_at_full_rank_the_model_comes_back(world: Path, untied: bool, whole: bool) -> None:
    if untied:
        for i, name in enumerate(("base", "tuned")):
            file = Path(name) / "model.safetensors"
            head = np.random.default_rng(i).normal(size=(CONFIG["vocab_size"], CONFIG["hidden_size"]))
            save_file(load_file(file) | {"lm_head.weight": head.astype(np.float32)}, file)
            (Path(name) / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": False}))
    saved = (*NORMS, "embed_tokens") if whole else NORMS
    found = extract_lora("tuned", "lora", base="base", rank=64, embeddings=not whole, save_modules=saved)
    assert found.error < 2e-6 and not found.left_out
    base, tuned, ours = Checkpoint.open("base"), Checkpoint.open("tuned"), again()
    assert set(ours) == set(tuned.tensors)
    for name, tensor in ours.items():
        own = tuned.read(name)
        delta = (own - base.read(name)).reshape(len(own), -1)
        # Decomposing in float32 errs by a few of its last digits of the largest singular value.
        last = np.finfo(np.float32).eps * (8 * np.linalg.norm(delta, 2) + np.abs(own).max())
        np.testing.assert_allclose(tensor, own, atol=last, rtol=0, err_msg=name)
        assert not whole or "embed" not in name or tensor.tobytes() == own.tobytes()


def test_a_larger_share_of_the_energy_takes_more_ranks_and_misses_less(world: Path) -> None:
    runs = [extract_lora("tuned", f"e{e}", base="base", energy=e / 100) for e in (50, 90, 99)]
    for few, more in pairwise(runs):
        assert few.error > more.error
        assert all(few.modules[m].rank <= more.modules[m].rank for m in few.modules)
        assert all(few.modules[m].error >= more.modules[m].error for m in few.modules)
    assert all(part.error <= np.sqrt(1 - 0.9) for part in runs[1].modules.values())
    config = json.loads(Path("e90/adapter_config.json").read_text())
    ranks = {module: part.rank for module, part in runs[1].modules.items()}
    assert config["r"] == config["lora_alpha"] == max(ranks.values())
    assert (
        config["rank_pattern"] == {m: r for m, r in ranks.items() if r != config["r"]} == config["alpha_pattern"] != {}
    )
    capped = extract_lora("tuned", "capped", base="base", energy=0.99, rank=3)
    assert {part.rank for part in capped.modules.values()} == {3}


def test_of_a_rank_nothing_is_nearer(world: Path) -> None:
    delta = np.random.default_rng(0).normal(size=(12, 7)).astype(np.float32)
    a, b = decompose("x", delta, 3, None)
    assert a.shape == (3, 7) and b.shape == (12, 3)
    np.testing.assert_allclose((a * a).sum(1), (b * b).sum(0), rtol=1e-4)
    missed = np.linalg.norm(delta - b @ a)
    np.testing.assert_allclose(missed**2, (np.linalg.svd(delta)[1][3:] ** 2).sum(), rtol=1e-4)
    assert decompose("x", np.zeros_like(delta), 3, None) is None
    assert [chosen_rank(np.array([2.0, 1, 1, 0]), 4, None, share) for share in (0.5, 0.67, 0.9, 1.0)] == [1, 2, 3, 3]
    assert chosen_rank(np.array([2.0, 1, 1e-9]), 4, 9, None) == 2


def test_a_lora_is_found_again_with_its_own_rank(world: Path) -> None:
    given = product(UP, (CONFIG["intermediate_size"], CONFIG["hidden_size"])) | product(Q, (16, 16), 2)
    write_lora(Path("given"), given, base_model_name_or_path="base", rank_pattern={"q_proj": 2})
    found = extract_lora("base+given", "lora", base="base", dtype="bfloat16")
    assert set(found.modules) == {Q, UP} and found.error < 2**-7
    # What rounding leaves of the other directions is taken for the zero that it is.
    assert {module: part.rank for module, part in found.modules.items()} == {Q: 2, UP: 4}
    # Not every q_proj has a product, so whole names.
    assert json.loads(Path("lora/adapter_config.json").read_text())["target_modules"] == [Q, UP]
    assert {str(array.dtype) for array in load_file("lora/adapter_model.safetensors").values()} == {"bfloat16"}
    assert not any(Path(".").glob("*.tmp"))


def test_the_command_says_how_near_each_module_comes(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["extract-lora", "tuned", "lora", "--base", "base", "--max-rank", "2", "--save-modules", "norm"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert f"{Q}: rank 2, relative error 0." in text and "model.norm.weight: stored whole" in text
    assert "model.embed_tokens.weight: left out, 0." in text and "lora: 21 modules, relative error 0." in text
    config = json.loads(Path("lora/adapter_config.json").read_text())
    assert config["target_modules"] == sorted(f"{m}_proj" for m in ("q", "k", "v", "o", "gate", "up", "down"))
    assert config["modules_to_save"] == ["model.norm"] and config["base_model_name_or_path"] == "base"
    card = Path("lora/README.md").read_text()
    assert "library_name: peft" in card and "base_model:\n- base\n" in card
    assert main([*words, "--force", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modules"][Q]["rank"] == 2 and 0 < found["modules"][Q]["error"] < 1


@pytest.mark.parametrize(
    ("base", "folder"),
    [
        ("{}/me@work/base", "{}/me@work/base"),
        ("me@work/base", "me@work/base"),
        ("my/b@2", "my/b@2"),
        ("~/base", "{}/me@work/base"),
    ],
)
def test_the_written_base_is_the_folder_that_was_named(
    world: Path, monkeypatch: pytest.MonkeyPatch, base: str, folder: str
) -> None:
    """Also where its path has an `@`, which parts a hub id from its revision."""
    monkeypatch.setenv("HOME", f"{world}/me@work")
    folder = folder.format(world)
    Path(folder).parent.mkdir(parents=True)
    Path("base").rename(folder)
    extract_lora("tuned", "lora", base=base.format(world), rank=1)
    config = json.loads(Path("lora/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (folder, None)
    assert "\n- me\n" not in Path("lora/README.md").read_text()


def test_gpt2_keeps_inputs_first_in_its_layers_only(world: Path) -> None:
    rng = np.random.default_rng(4)
    shapes = {"wte": (37, 16), "h.0.attn.c_attn": (16, 48), "lm_head": (37, 16)}
    for name in ("two", "one"):
        Path(name).mkdir()
        (Path(name) / "config.json").write_text(json.dumps({"model_type": "gpt2", "tie_word_embeddings": False}))
        tensors = {f"{module}.weight": rng.normal(size=shape).astype(np.float32) for module, shape in shapes.items()}
        save_file(tensors, Path(name) / "model.safetensors")
    assert extract_lora("one", "lora", base="two", rank=16, embeddings=True).error < 1e-5
    stored = load_file("lora/adapter_model.safetensors")
    assert stored["base_model.model.lm_head.lora_A.weight"].shape == (16, 16)
    assert stored["base_model.model.h.0.attn.c_attn.lora_B.weight"].shape == (48, 16)
    adapted = open_checkpoint(Location(Path("two"), Path("lora")))
    for name, tensor in tensors.items():
        np.testing.assert_allclose(adapted.read(name), tensor, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is 0; it must be at least 1"),
        ({"energy": 1.5}, r"energy is 1.5; it must be in \(0, 1\]"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"save_modules": ["nrm"]}, "unknown module 'nrm'; did you mean 'norm'"),
        ({"model": "base"}, "base: is the base itself"),
        ({"base": "base+org/lora"}, r"base\+org/lora: has a LoRA itself, .* passthrough\) and name that folder"),
        ({"model": "nowhere"}, "nowhere: no such folder"),
        ({"model": "same"}, "same: no linear layer differs from base"),
        ({"out": "tuned"}, "tuned: exists"),
    ],
)
def test_wrong_arguments(world: Path, options: dict, message: str) -> None:
    base, _ = checkpoints()
    write_model(Path("same"), base)
    model, out = options.pop("model", "tuned"), options.pop("out", "lora")
    with pytest.raises(InputError, match=message):
        extract_lora(model, out, **({"base": "base"} | options))
    assert not Path("lora").exists()


def test_models_that_do_not_fit_each_other(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, whole = Path("tuned/model.safetensors"), load_file("tuned/model.safetensors")

    def forbidden(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("jaxmerge.converters.checkpoint._read_bytes", forbidden)
    for change, message in (
        ({Q + ".weight": np.ones((8, 16), np.float32)}, r"q_proj.weight' is \[8, 16\] but \[16, 16\] in base"),
        ({"model.embed_tokens.weight": np.ones((40, 16), np.float32)}, "bring both to one vocabulary first"),
        ({"model.extra.weight": np.ones(3, np.float32)}, "base: tensor 'model.extra.weight' is missing"),
        ({Q + ".weight": np.ones((16, 16), np.int8)}, "q_proj.weight' is int8; save it in BF16"),
    ):
        save_file(whole | change, file)
        with pytest.raises(CheckpointError, match=message):
            extract_lora("tuned", "lora", base="base")
    save_file(whole | {"lm_head.weight": np.ones((37, 16), np.float32)}, file)
    (Path("tuned") / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": False}))
    with pytest.raises(CheckpointError, match="base: ties embedding and head, tuned does not"):
        extract_lora("tuned", "lora", base="base")
    assert not Path("lora").exists()
