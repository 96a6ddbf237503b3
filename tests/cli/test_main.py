"""The command line as a whole: help, version, exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxmerge.cli.main import COMMANDS, main
from jaxmerge.errors import CheckpointError


def jaxmerge(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-P", "-m", "jaxmerge", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=300)


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from jaxmerge.cli.main import main; code = main(['--help']);"
        "heavy = {'jax', 'flax', 'transformers', 'torch', 'numpy', 'pydantic', 'orbax'} & set(sys.modules);"
        "print('heavy:', sorted(heavy)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "heavy: []" in done.stdout
    for command in COMMANDS:
        assert command in done.stdout


def test_every_command_has_help() -> None:
    for command in COMMANDS:
        assert main([command, "--help"]) == 0


def test_version() -> None:
    done = jaxmerge("--version")
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0")


@pytest.mark.parametrize("arguments", [["evolv"], ["merge"], ["evaluate", "--no-such-option"]])
def test_a_misused_command_line_is_one_line_and_exit_2(arguments: list[str]) -> None:
    done = jaxmerge(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("jaxmerge: ") and done.stderr.count("\n") == 1


def test_an_unexpected_error_is_one_line_and_leaves_its_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a seam came apart")

    monkeypatch.setattr("jaxmerge.merging.inspection.inspect", broken)
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "somewhere"]) == 1
    printed = capsys.readouterr().err
    assert printed.strip().count("\n") == 0 and "a seam came apart" in printed and "crash.log" in printed
    assert "Traceback" in (tmp_path / "crash.log").read_text()
    (tmp_path / "model").mkdir()
    assert main(["inspect", "model"]) == 1
    assert not list((tmp_path / "model").iterdir())


def test_debug_prints_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise CheckpointError("m: tensor 'x' is missing")

    monkeypatch.setattr("jaxmerge.merging.inspection.inspect", refusing)
    assert main(["inspect", "m"]) == 3
    assert "Traceback" not in capsys.readouterr().err
    assert main(["inspect", "m", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_compilations_are_kept_where_the_environment_does_not_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxmerge.runtime.compilation_cache import keep_compilations

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    keep_compilations()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    keep_compilations()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "jaxmerge" / "xla")
