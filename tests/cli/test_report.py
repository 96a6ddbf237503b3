"""`jaxmerge report`: the path of the page, or one line that says what is wrong."""

import pytest
import typer

from jaxmerge.cli.report import command
from jaxmerge.errors import InputError


def _run(*arguments: str) -> None:
    app = typer.Typer()
    app.command()(command)
    app(args=list(arguments), standalone_mode=False)


def test_prints_the_page_it_wrote(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("models: {a: x}\nspace: {}\nsearch: {population: 4}\n")
    _run(str(tmp_path))
    page = tmp_path / "report.html"
    assert capsys.readouterr().out.strip() == str(page)
    assert page.read_text().startswith("<!doctype html>")


def test_a_foreign_folder_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match="not a run's folder"):
        _run(str(tmp_path))
