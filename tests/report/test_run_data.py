"""Reading a run's folder: half-written lines, broken files, the recipe's table."""

import pytest

from jaxmerge.errors import InputError
from jaxmerge.report.run_data import read_run, recipe_table


def test_a_half_written_last_line_is_left_out(make_run):
    folder = make_run()
    assert len(read_run(folder).history) == 80
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"stage": "random_search", "gener')
    assert len(read_run(folder).history) == 80


def test_a_broken_line_is_named(make_run):
    folder = make_run()
    lines = (folder / "history.jsonl").read_text().splitlines()
    lines[4] = lines[4][:20]
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"history\.jsonl:5: "):
        read_run(folder)


@pytest.mark.parametrize(("name", "text"), [("summary.json", "{"), ("best.yaml", "a: [")])
def test_a_broken_file_is_named(make_run, name, text):
    folder = make_run()
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=name):
        read_run(folder)


def test_recipe_of_one_value_a_group_has_one_column(best):
    table = recipe_table(best)
    assert table is not None
    assert table.parameters["lambda"] == ((1.0,),) * 8
    assert table.parameters["weight"][3] == (1.72, 1.30)
    assert table.experts == ("math", "ja")


def test_a_recipe_of_mergekits_own_has_no_table():
    assert recipe_table({"merge_method": "linear", "models": []}) is None
