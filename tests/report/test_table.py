"""The table in the terminal."""

from rich.console import Console

from jaxmerge.report.table import result_table


def _printed(summary, config, width=90):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(result_table(summary, config))
    return console.export_text()


def test_rows_go_from_parents_to_the_evolved_merge_with_the_verdict_below(summary, config):
    summary["baselines"] = dict(reversed(summary["baselines"].items()))
    text = _printed(summary, config)
    rows = [line.split()[0] for line in text.splitlines() if "%" in line and " to " in line]
    assert rows[:3] == ["base", "ja", "math"] and rows[-3:-1] == ["random_search", "evolved"]
    assert "equal budget" in next(line for line in text.splitlines() if line.split()[:1] == ["random_search"])
    assert "+17.4 points over random_search" in text
    assert "55.7 to 64.3" in text


def test_brackets_in_a_name_are_not_markup(summary, config):
    summary["baselines"]["a[/b][red]"] = summary["baselines"].pop("ties")
    assert "a[/b][red]" in _printed(summary, config)
