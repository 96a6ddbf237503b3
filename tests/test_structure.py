"""The house keeps its order: floors, names, sizes, a light face, and the checkers pass."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from jaxmerge.operators.markdown import table

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxmerge"

# From the ground up. A room imports from its own floor and from those below.
FLOORS = (
    ("errors", "strict", "documents", "plugins"),
    ("kernels", "architectures", "runtime"),
    ("operators", "models", "converters", "tokens"),
    ("recipe",),
    ("merging", "population", "objectives"),
    ("spaces", "search"),
    ("report", "launch"),
    ("evolution", "loading", "demo", "cli", "__main__", "__init__"),
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# What a room must not know, although it stands no higher.
STRANGERS = {
    "models": {"operators", "tokens"},
    "objectives": {"operators", "recipe", "merging", "population"},
    # What starts a run needs nothing of what a run needs.
    "launch": {"operators", "models", "merging", "population", "objectives", "spaces", "search", "report"},
    "recipe": {"models", "runtime"},
    "spaces": {"models", "runtime", "population", "search"},
}
# Imports against these rules, each with the reason why the code needs it.
EXCEPTIONS: dict[tuple[str, str], str] = {}

MODULES = {
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts): file
    # Links to folders are not followed by rglob: they are named.
    for folder in (PACKAGE, PACKAGE / "kernels", PACKAGE / "converters", PACKAGE / "launch")
    for file in folder.rglob("*.py")
}


def room(module: str) -> str:
    return module.split(".")[0]


def imports(module: str) -> set[str]:
    """What a module imports of jaxmerge when it runs, inside functions too: names below the package. The version, which
    is there before anything else, does not count."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    typing = [n for n in ast.walk(tree) if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    skipped = {inner for node in typing for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxmerge":
            found |= {f"jaxmerge.{alias.name}" for alias in node.names if alias.name != "__version__"}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{module}: write absolute imports"
            found.add(node.module)
    below = {name.removeprefix("jaxmerge.") for name in found if name.startswith("jaxmerge.")}
    # `from jaxmerge import evolve` takes it from the face.
    return {name if room(name) in FLOOR else "__init__" for name in below}


def breaches(wrong) -> list[str]:
    return [
        f"{module} -> {other}"
        for module in MODULES
        for other in imports(module)
        if wrong(room(module), room(other)) and (module, other) not in EXCEPTIONS
    ]


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES} <= set(FLOOR)
    assert {"kernels", "converters", "launch", "operators", "search"} <= {room(module) for module in MODULES}


def test_no_import_runs_back_up():
    assert not breaches(lambda here, there: FLOOR[there] > FLOOR[here])


def test_rooms_do_not_know_what_is_none_of_their_business():
    assert not breaches(lambda here, there: there in STRANGERS.get(here, ()))


def test_rooms_do_not_import_in_circles():
    edges = {(room(module), room(other)) for module in MODULES for other in imports(module)}
    edges = {(here, there) for here, there in edges if here != there and FLOOR[here] < len(FLOORS) - 1}
    left = {here for here, _ in edges}
    while free := {here for here in left if not any(h == here and there in left for h, there in edges)}:
        left -= free
    assert not left


@pytest.mark.parametrize("name", ["recipe", "spaces"])
def test_what_to_merge_knows_no_devices(name):
    for module, file in MODULES.items():
        if room(module) == name:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
            names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
            assert not {n for n in names if n.split(".")[0] in ("jax", "jaxlib", "flax")}, module


def test_torch_is_not_used_at_run_time():
    for module, file in MODULES.items():
        assert "import torch" not in file.read_text(encoding="utf-8"), module


def test_files_are_named_by_what_they_hold_and_small():
    for module, file in MODULES.items():
        assert not {"utils", "util", "helpers", "common", "misc"} & set(module.split(".")), module
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, module


def test_the_face_is_light():
    heavy = ("jax", "flax", "transformers", "torch", "evosax", "orbax", "numpy")
    code = f"import sys, jaxmerge, jaxmerge.cli.main; print([m for m in {heavy} if m in sys.modules])"
    assert run("-c", code).stdout.strip() == "[]"


def test_the_readme_lists_the_operators():
    _, begin, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- operators -->")
    listed, end, _ = rest.partition("<!-- /operators -->")
    assert bool(begin) == bool(end)
    assert not begin or listed.strip() == table().strip()


def test_ruff():
    result = run("-m", "ruff", "check", "--no-cache", str(ROOT))
    assert result.returncode == 0, result.stdout


def test_mypy():
    result = run("-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"))
    assert result.returncode == 0, result.stdout


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # -P: the top-level kernels/ must not hide a package of that name.
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
