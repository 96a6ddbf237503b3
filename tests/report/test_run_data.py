"""Reading a run's folder: half-written lines, broken files, the recipe's table."""

import pytest
from run_folder import history_of, write_run

from jaxmerge.errors import InputError
from jaxmerge.report.run_data import read_run, recipe_table
from jaxmerge.report.standings import kind_of


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


def test_a_run_in_stages_shows_its_own_and_what_an_earlier_stage_made_as_such(make_run, config, summary):
    config |= {"name": "second", "earlier": ["first"], "models": config["models"] | {"first": "stages/first/model"}}
    lines = [line | {"stage": "second"} if line["stage"] == "parameter" else line for line in history_of(5)]
    first = [line | {"stage": "first"} for line in history_of(2) if line["stage"] == "parameter"]
    folder = make_run(config=config, history=first + lines)
    stage = write_run(folder / "stages" / "first", config | {"name": "first", "earlier": []}, history=[])
    (stage / "history.jsonl").unlink()
    assert [g.stage for g in read_run(folder).history] == ["first"] * 2 + ["second"] * 5 + ["random_search"] * 5
    assert [g.stage for g in read_run(stage).history] == ["first"] * 2
    assert kind_of("first", config) == "stage" and kind_of("math", config) == "parent"
