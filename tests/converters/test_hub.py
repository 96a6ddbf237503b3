"""Models of the hub, against a server that stands in for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_api
from local_hub import LocalHub, serving

from jaxmerge.cli.main import main
from jaxmerge.converters.reference import resolve
from jaxmerge.errors import InputError


@pytest.fixture
def hub(make_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """`org/two` in shards and `org/one`, with what is of no use beside them."""
    models = {f"org/{name}": make_checkpoint(shards=n, name=name, seed=n) for name, n in (("one", 1), ("two", 2))}
    for folder in models.values():
        beside = ("pytorch_model.bin", "modeling.py", "consolidated.safetensors", "onnx/model.onnx", "old/config.json")
        for name in beside:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"{}")
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    with serving(LocalHub({**models, "org/closed": models["org/one"]}, frozenset({"org/closed"}))) as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        monkeypatch.chdir(tmp_path)
        yield server


def test_a_merge_fetches_what_it_needs_and_names_the_commits(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: org/one}, {model: org/two@v1}]\n"
    )
    assert main(["merge", "r.yaml", "out"]) == 0
    small = ("README.md", "config.json")
    weights = ("model.safetensors.index.json", "part-0.safetensors", "part-1.safetensors")
    assert sorted(hub.fetched) == [
        *(f"org/one/{name}" for name in (*small, "model.safetensors")),
        *(f"org/two/{name}" for name in (*small, *weights)),
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"`org/one@{hub.commit('org/one')}`" in card and f"`org/two@{hub.commit('org/two', 'v1')}`" in card
    assert "license: mit" in card and (tmp_path / "out" / "mergekit_config.yml").read_text() == recipe.read_text()

    # A second time, and without the hub, from the cache.
    hub.fetched.clear()
    assert main(["merge", "r.yaml", "again", "--dry-run"]) == 0 and not hub.fetched
    hub.models.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["merge", "r.yaml", "again"]) == 0
    made = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again")]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("ref", "remedy"),
    [
        ("org/none", "no such model, or it is private; correct the name or log in: hf auth login"),
        ("org/one@v9", "the model but not this revision; correct it"),
        ("org/closed", "gives access on request only; ask for it on the model's page and log in"),
    ],
)
def test_what_cannot_be_had_is_one_line_with_the_remedy(
    hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], ref: str, remedy: str
) -> None:
    with pytest.raises(InputError, match=remedy) as failed:
        resolve(ref, relative_to=[tmp_path])
    assert str(failed.value).startswith(f"{ref}: no such folder") and "\n" not in str(failed.value)
    assert not hub.fetched


def test_a_hub_that_does_not_answer_is_one_line(tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"org/one: .* not in the hub's cache .* download it first"):
        resolve("org/one", relative_to=[tmp_path])
