"""From a search to its card, its page and its table; the engine is a stand-in without models."""

import pytest
from fake_engine import FakeEngine, write_config
from ruamel.yaml import YAML

from jaxmerge.cli.outcome import show
from jaxmerge.evolution import _Publisher
from jaxmerge.report.build import build
from jaxmerge.search.evolve import evolve


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder)
    (folder / "one" / "README.md").write_text("---\nlicense: mit\n---\n")
    return evolve(config, folder / "out", publish=_Publisher(), build=FakeEngine)


def test_the_card_lies_with_the_model(run):
    card = (run.folder / "model" / "README.md").read_text()
    _, matter, body = card.split("---\n", 2)
    assert YAML(typ="safe").load(matter)["base_model"] == ["one", "two", "base"]
    assert "- one: `one`, license: mit" in body
    assert "  - test: `test.jsonl`, " in body
    assert "merge_method: fake" in body
    assert "| evolved |  |" in body


def test_the_page_says_what_the_summary_says(run):
    page = (run.folder / "report.html").read_text()
    for name in ("one", "two", "base", "uniform", "random_search"):
        assert f">{name.replace('_', '_<wbr>')}</th>" in page
    assert run.summary["comparison"]["baseline"] in page
    assert "Still running" not in page


def test_the_page_can_be_built_again(run):
    first = (run.folder / "report.html").read_bytes()
    assert build(run.folder).read_bytes() == first


def test_the_terminal_shows_the_table_and_the_files(run, capsys):
    show(run)
    shown = capsys.readouterr().out
    assert "random_search" in shown and "evolved" in shown
    for name in ("model", "best.yaml", "report.html"):
        assert f"{run.folder / name}" in shown and (run.folder / name).exists()
