"""The table of benchmarks/README.md says what the results say."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_table_is_that_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import table

    assert table.README.read_text(encoding="utf-8") == table.page(), "run python benchmarks/table.py"
    assert {row.result for row in table.ROWS} <= {file.stem for file in (BENCHMARKS / "results").glob("*.json")}


def test_every_benchmark_is_run_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import everything

    scripts = {file.stem for file in BENCHMARKS.glob("*.py") if "\nif __name__ == " in file.read_text(encoding="utf-8")}
    assert {*everything.SCRIPTS, "against_mergekit"} == scripts - {"everything", "table"}
    scripts -= {"everything"}
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert not [name for name in scripts if f"`{name}.py`" not in text]
    sys.modules.pop("everything")
