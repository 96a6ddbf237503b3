"""The built wheel, installed into an environment of its own, has everything that a user needs."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    # Not isolated: setuptools is installed with the test extra, and nothing has to be fetched.
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = out.glob("*.whl")
    return file


def test_the_wheel_has_every_module_and_data_file_of_the_package(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    folders = [ROOT / "jaxmerge", *((ROOT / "jaxmerge" / name) for name in ("kernels", "converters", "launch"))]
    wanted = {
        f"jaxmerge/{file.relative_to(ROOT / 'jaxmerge')}"
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {"jaxmerge/kernels/__init__.py", "jaxmerge/converters/hf.py", "jaxmerge/launch/README.md"} <= wanted
    assert wanted <= packed, sorted(wanted - packed)[:10]
    assert not any(name.startswith(("kernels/", "converters/", "launch/", "tests/")) for name in packed)


def test_the_installed_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """A short search, by the command of a new environment that sees this one's libraries, but not its jaxmerge."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    install = [sys.executable, "-m", "pip", "--python", str(home), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, env=environment, timeout=300)
    [site] = home.glob("lib/python*/site-packages")
    # A folder named in a .pth file is searched, but the .pth files in it (an editable install has one) are not read.
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    words = ["demo", "out", "--set", "search.generations=1", "--set", "search.population=4"]
    done = subprocess.run(
        [home / "bin" / "jaxmerge", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    for name in ("model/model.safetensors", "model/README.md", "best.yaml", "report.html", "summary.json"):
        assert (tmp_path / "out" / name).exists(), name
    for row in ("math", "ja", "uniform", "task_arithmetic", "ties", "dare_ties", "random_search", "evolved"):
        assert row in done.stdout
