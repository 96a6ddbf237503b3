"""Transplanted tokenizers: pursuit finds sparse sums again, shared tokens keep their rows, transformers loads it."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from miniature import checkpoints
from safetensors.numpy import load_file, save_file
from tiny_world import WORDS, write_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from jaxmerge.cli.main import main
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging.pursuit import pursue
from jaxmerge.merging.token_ids import TokenIds
from jaxmerge.merging.transplant import transplant_tokens
from jaxmerge.tokens.vocabulary import Vocabulary

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """model and donor; the donor has new words in place of six, in another order, special tokens of other names, and
    three rows of padding. The model ties embedding and head, the donor does not."""
    monkeypatch.chdir(tmp_path)
    base, _ = checkpoints()
    write_model(Path("model"), base)
    write_model(Path("donor"), base)
    rng = np.random.default_rng(3)
    words = [*(f"new{i}" for i in range(6)), *reversed(WORDS[6:]), "</s>", "<begin>", "<unk>", "<pad>"]
    tokenizer = json.loads(Path("donor/tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {word: i for i, word in enumerate(words)}
    for entry in tokenizer["added_tokens"]:
        entry["content"] = entry["content"].replace("<s>", "<begin>")
        entry["id"] = words.index(entry["content"])
    Path("donor/tokenizer.json").write_text(json.dumps(tokenizer))
    rewrite("donor", "tokenizer_config.json", bos_token="<begin>")
    rewrite("model", "tokenizer_config.json", bos_token="<s>")
    special = {"bos_token_id": 34, "eos_token_id": 33, "pad_token_id": 36}
    rewrite("donor", "config.json", vocab_size=40, hidden_size=12, tie_word_embeddings=False, **special)
    rewrite("donor", "generation_config.json", eos_token_id=[33, 0], pad_token_id=36)
    matrices = {name: rng.normal(size=(40, 12)).astype(np.float32) for name in (EMBEDDING, HEAD)}
    save_file(load_file("donor/model.safetensors") | matrices, "donor/model.safetensors")
    return tmp_path


def rewrite(folder: str, name: str, **changes: object) -> None:
    file = Path(folder) / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def untie(folder: str) -> None:
    file = Path(folder) / "model.safetensors"
    head = np.random.default_rng(9).normal(size=(37, 16)).astype(np.float32)
    save_file(load_file(file) | {HEAD: head}, file, metadata={"format": "pt"})
    rewrite(folder, "config.json", tie_word_embeddings=False)


@pytest.mark.parametrize("seed", range(25))
def test_a_sparse_sum_is_found_again(seed: int) -> None:
    """Of nearly orthogonal atoms: where pursuit must find what a sum is made of (Tropp 2004)."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(24, 24)))
    atoms = ((basis[:20] + 0.01 * rng.normal(size=(20, 24))) * rng.uniform(0.9, 1.1, (20, 1))).astype(np.float32)
    true = np.zeros((5, 20))
    for count, row in enumerate(true):
        row[rng.choice(20, count, replace=False)] = rng.choice([-1, 1], count) * rng.uniform(1, 2, count)
    chosen, coefficients = map(np.asarray, pursue((true @ atoms).astype(np.float32), atoms, k=6))
    found = np.zeros_like(true)
    np.put_along_axis(found, chosen, coefficients, axis=1)
    np.testing.assert_allclose(found, true, atol=1e-4)
    # What is not needed is not used.
    assert np.count_nonzero(np.abs(coefficients) > 1e-5, axis=1).tolist() == [0, 1, 2, 3, 4]


def test_pursuit_is_least_squares_on_the_largest_products() -> None:
    """Against the textbook's loop; atoms that repeat and targets that are zero do no harm."""
    rng = np.random.default_rng(0)
    atoms, targets = rng.normal(size=(30, 16)).astype(np.float32), rng.normal(size=(5, 16)).astype(np.float32)
    atoms[7], targets[4] = atoms[6], 0
    chosen, coefficients = map(np.asarray, pursue(targets, atoms, k=20))
    assert np.isfinite(coefficients).all() and all(len(set(row)) == 20 for row in chosen)
    np.testing.assert_allclose(np.einsum("bk,bkd->bd", coefficients, atoms[chosen]), targets, atol=1e-4)
    chosen, coefficients = map(np.asarray, pursue(targets, atoms, k=5))
    for target, places, own in zip(targets[:4], chosen, coefficients, strict=False):
        left, support = target.astype(np.float64), []
        for _ in range(5):
            support.append(int(np.abs(atoms @ left).argmax()))
            solution = np.linalg.lstsq(atoms[support].T.astype(np.float64), target, rcond=None)[0]
            left = target - solution @ atoms[support]
        assert places.tolist() == support
        np.testing.assert_allclose(own, solution, atol=1e-4)


def test_a_donor_like_the_model_changes_nothing(world: Path) -> None:
    """Padding rows neither, which no token has."""
    rewrite("model", "config.json", vocab_size=41)
    tensors = load_file("model/model.safetensors")
    padded = np.concatenate([tensors[EMBEDDING], np.random.default_rng(0).normal(size=(4, 16))]).astype(np.float32)
    save_file(tensors | {EMBEDDING: padded}, "model/model.safetensors", metadata={"format": "pt"})
    shutil.copytree("model", "twin")
    found = transplant_tokens("model", "twin", "out")
    assert (found.tokens, found.kept, found.made, found.rows) == (37, 37, 0, 41)
    for file in Path("model").iterdir():
        if file.suffix != ".safetensors":
            assert (Path("out") / file.name).read_bytes() == file.read_bytes(), file.name
    one, two = Checkpoint.open("model"), Checkpoint.open("out")
    assert list(one.tensors) == list(two.tensors)
    assert all(one.read(name).tobytes() == two.read(name).tobytes() for name in one.tensors)


@pytest.mark.parametrize("untied", [False, True])
def test_rows_of_shared_and_of_new_tokens(world: Path, untied: bool) -> None:
    if untied:
        untie("model")
    donor = load_file("donor/model.safetensors")
    vocabulary = json.loads(Path("donor/tokenizer.json").read_text())["model"]["vocab"]
    old = json.loads(Path("model/tokenizer.json").read_text())["model"]["vocab"]
    # The first new word is such a sum of two shared ones in the donor.
    for matrix in donor.values():
        if len(matrix) == 40:
            matrix[0] = 30 * matrix[vocabulary["w12"]] - 20 * matrix[vocabulary["w20"]]
    save_file(donor, "donor/model.safetensors")
    steps: list[tuple[int, int]] = []
    found = transplant_tokens("model", "donor", "out", k=2, progress=lambda *step: steps.append(step))
    assert steps == sorted(set(steps)) and steps[-1][0] == steps[-1][1]
    assert (found.tokens, found.kept, found.made, found.rows) == (37, 31, 6, 40)
    before, after = load_file("model/model.safetensors"), load_file("out/model.safetensors")
    assert set(before) == set(after) and set(found.error) == ({EMBEDDING, HEAD} if untied else {EMBEDDING})
    for name in found.error:
        own, new = before[name], after[name]
        assert new.shape == (40, 16)
        for token, i in vocabulary.items():
            # `<begin>` is what `<s>` was: the first of a text.
            spelt = "<s>" if token == "<begin>" else token
            assert spelt not in old or np.array_equal(new[i], own[old[spelt]]), token
        expected = 30 * own[old["w12"]] - 20 * own[old["w20"]]
        np.testing.assert_allclose(new[0], expected, atol=2e-4)
        np.testing.assert_allclose(new[37:], np.broadcast_to(own.mean(axis=0), (3, 16)), atol=1e-6)
    assert all(np.array_equal(before[name], after[name]) for name in before if name not in found.error)


def test_transformers_loads_it_and_the_ids_are_the_donors(world: Path) -> None:
    assert main(["transplant-tokens", "model", "donor", "out", "--k", "2", "--pad-to-multiple-of", "16"]) == 0
    model, tokenizer = AutoModelForCausalLM.from_pretrained("out"), AutoTokenizer.from_pretrained("out")
    assert tokenizer("new1 w30")["input_ids"] == AutoTokenizer.from_pretrained("donor")("new1 w30")["input_ids"]
    config = json.loads(Path("out/config.json").read_text())
    assert [config[f"{role}_token_id"] for role in ("bos", "eos", "pad")] == [34, 33, 36]
    assert json.loads(Path("out/generation_config.json").read_text()) == {"eos_token_id": [33, 0], "pad_token_id": 36}
    # The shared words mean what they meant: the logits of shared words are those of the model before.
    before, own = AutoModelForCausalLM.from_pretrained("model"), AutoTokenizer.from_pretrained("model")
    with torch.no_grad():
        pairs = (before, own), (model, tokenizer)
        texts = [m(**t("w20 w11 w30", return_tensors="pt")).logits[0, -1] for m, t in pairs]
    words = WORDS[6:]
    rows = [t.convert_tokens_to_ids(words) for t in (own, tokenizer)]
    assert texts[1].shape == (48,)
    torch.testing.assert_close(texts[0][rows[0]], texts[1][rows[1]], atol=1e-5, rtol=0)
    card = Path("out/README.md").read_text()
    assert "31 of 37 tokens keep their embeddings, 6 are made" in card and "- donor\n" in card


def test_ids_of_a_composite_model() -> None:
    """Those in its language model's section and those beside it; what the donor has no token for has no id."""
    source, target = (Vocabulary({token: i for i, token in enumerate(tokens)}, {}, {}) for tokens in ("abcd", "dcx"))
    ids = TokenIds.of(source, target, Path("nowhere"), {"vocab_size": 3, "eos_token_id": 2})
    config = {
        "image_token_id": 2,
        "video_token_index": 1,
        "eos_token_id": [0, 3],
        "text_config": {"vocab_size": 4, "eos_token_id": 3, "pad_token_id": None},
        "vision_config": {"hidden_size": 4},
    }
    assert ids.config(config, 8) == {
        "image_token_id": 1,
        "video_token_index": None,
        "eos_token_id": 2,
        "text_config": {"vocab_size": 8, "eos_token_id": 2, "pad_token_id": None},
        "vision_config": {"hidden_size": 4},
    }


def test_other_methods(world: Path) -> None:
    before = load_file("model/model.safetensors")[EMBEDDING]
    for method, row in (("average", before.mean(axis=0)), ("zero", np.zeros(16))):
        assert transplant_tokens("model", "donor", method, method=method).error == {}
        np.testing.assert_allclose(load_file(f"{method}/model.safetensors")[EMBEDDING][:6], [row] * 6, atol=1e-6)


def test_the_dtype_is_the_models(world: Path) -> None:
    tensors = load_file("model/model.safetensors")
    narrow = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in tensors.items()}
    save_file(narrow, "model/model.safetensors")
    transplant_tokens("model", "donor", "out", k=2)
    assert {tensor.dtype for tensor in load_file("out/model.safetensors").values()} == {np.dtype(ml_dtypes.bfloat16)}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--method", "ompp"], 2, "unknown method 'ompp'; did you mean 'omp'"),
        (["--k", "0"], 2, "k is 0; it must be at least 1"),
        (["--pad-to-multiple-of", "0"], 2, "pad_to_multiple_of is 0; it must be at least 1"),
        (["--max-shard-size", "big"], 2, "'big' is not a size"),
    ],
)
def test_wrong_options_are_one_line(
    world: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert main(["transplant-tokens", "model", "donor", "out", *words]) == code
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1 and not Path("out").exists()


def test_folders_that_will_not_do(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("jaxmerge.converters.checkpoint._read_bytes", forbidden)
    with pytest.raises(InputError, match="donor: exists; name another output"):
        transplant_tokens("model", "donor", "donor")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        transplant_tokens("model", "nowhere", "out")
    rewrite("donor", "config.json", vocab_size=39)
    with pytest.raises(CheckpointError, match=r"donor/config.json: no embedding has the 39 rows of 'vocab_size'"):
        transplant_tokens("model", "donor", "out")
    Path("donor/tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"donor/tokenizer.json: is missing"):
        transplant_tokens("model", "donor", "out", method="zero")
    assert not Path("out").exists()
