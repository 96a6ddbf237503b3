"""The live line of a search."""

from types import SimpleNamespace

from jaxmerge.cli.progress import bar, line, shown


def _progress(**given):
    empty = dict.fromkeys(("total", "best", "mean", "rate", "left", "note"))
    return SimpleNamespace(**{"stage": "search", "done": 3, "failed": 0, **empty, **given})


def test_line_says_what_is_known():
    everything = _progress(total=40, best=0.612, mean=0.5, failed=2, rate=5.123, left=108.4)
    assert line(everything) == "search 3/40 · best 0.6120 · mean 0.5000 · 2 failed · 5.12 candidates/s · 1:48 left"
    assert line(_progress()) == "search 3"
    assert line(_progress(stage="loading", done=0)) == "loading"


def test_without_a_terminal_every_tenth_step_is_a_line(capsys):
    with shown() as report:
        report(_progress(stage="loading", done=0, note="bank device"))
        for done in range(1, 41):
            report(_progress(done=done, total=40))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["bank device", *(f"search {done}/40" for done in range(4, 41, 4))]


def test_without_a_terminal_a_bar_is_silent(capsys):
    with bar("merging") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")
