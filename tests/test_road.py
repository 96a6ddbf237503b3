"""The whole road by the real command: evolve, kill it, go on, evaluate what it wrote, merge its recipe again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_world import OBJECTIVES, write_world

from jaxmerge.converters.checkpoint import Checkpoint


def command(*arguments: object, devices: int = 1) -> tuple[list[str], dict[str, str]]:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    return [sys.executable, "-P", "-m", "jaxmerge", *map(str, arguments)], environment


def run(*arguments: object, devices: int = 1, expect: int = 0) -> str:
    words, environment = command(*arguments, devices=devices)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == expect, done.stderr
    return done.stdout


def history(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("road")
    space = {"operator": "dare_ties", "parameters": {"weight": [-0.3, 1.8], "density": [0.2, 1.0]}}
    # Two of the four candidates at once: with two devices each has two of them.
    write_world(root, objectives=OBJECTIVES, space=space, search={"generations": 4}, runtime={"chunk": 2})
    run("evolve", root / "evolve.yaml", root / "run")
    return root


def test_a_killed_search_goes_on_to_the_same_end_on_two_devices_as_well(finished: Path) -> None:
    out = finished / "killed"
    words, environment = command("evolve", finished / "evolve.yaml", out)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if (out / "history.jsonl").exists() and (out / "history.jsonl").read_text().count("\n") >= 9:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (out / "history.jsonl").open("a") as stream:
        stream.write('{"stage": "parameter", "generation": 2, "ind')
    run("evolve", finished / "evolve.yaml", out, devices=2)
    assert history(out) == history(finished / "run")
    assert (out / "best.yaml").read_bytes() == (finished / "run" / "best.yaml").read_bytes()


def test_the_exported_model_scores_what_the_run_recorded(finished: Path) -> None:
    summary = json.loads((finished / "run" / "summary.json").read_text())
    printed = run("evaluate", finished / "run" / "model", finished / "evolve.yaml", "--split", "test", "--json")
    evaluated = json.loads(printed)
    assert evaluated["score"] == pytest.approx(summary["test_score"], abs=1e-5)
    assert evaluated["objectives"]["copy"]["n"] == 8


def test_the_recipe_merges_to_the_exported_model_bit_for_bit(finished: Path) -> None:
    run("merge", finished / "run" / "best.yaml", finished / "again")
    ours, again = (Checkpoint.open(folder) for folder in (finished / "run" / "model", finished / "again"))
    assert ours.tensors.keys() == again.tensors.keys()
    for name in ours.tensors:
        np.testing.assert_array_equal(ours.read(name), again.read(name))


def test_plain_transformers_gives_the_recorded_score(finished: Path) -> None:
    import transformers

    folder = finished / "run" / "model"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    examples = [json.loads(line) for line in (finished / "test.jsonl").read_text().splitlines()]
    means, said = [], []
    for example in examples:
        prompt = tokenizer(example["question"], return_tensors="pt").input_ids
        whole = tokenizer(f"{example['question']} {example['answer']}", return_tensors="pt").input_ids
        with torch.no_grad():
            logs = model(whole).logits[0, :-1].log_softmax(-1)
            text = model.generate(prompt, max_new_tokens=6, do_sample=False)[0, prompt.shape[1] :]
        taken = logs.gather(1, whole[0, 1:, None])[:, 0]
        means.append(float(taken[prompt.shape[1] - 1 :].mean()))
        said.append(tokenizer.decode(text, skip_special_tokens=True))
    run("evaluate", folder, finished / "evolve.yaml", "--examples", finished / "examples.jsonl")
    rows = [json.loads(line) for line in (finished / "examples.jsonl").read_text().splitlines()]
    recorded = [row for row in rows if row["objective"] == "copy"]
    np.testing.assert_allclose([row["score"] for row in recorded], means, atol=2e-4)
    assert [row["output"] for row in rows if row["objective"] == "say"] == said


def test_any_candidate_of_the_history_can_be_exported(finished: Path) -> None:
    run("export", finished / "run", finished / "candidate", "--candidate", "1:2")
    assert (finished / "candidate" / "model.safetensors").exists()
    run("export", finished / "run", finished / "nobody", "--candidate", "99:0", expect=2)
    assert not (finished / "nobody").exists()


def test_ctrl_c_ends_with_75_and_the_same_command_goes_on(finished: Path) -> None:
    out = finished / "interrupted"
    words, environment = command("evolve", finished / "evolve.yaml", out)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (out / "history.jsonl").exists() or not (out / "history.jsonl").read_text():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors and "the same command goes on" in errors
    run("evolve", finished / "evolve.yaml", out)
    assert history(out) == history(finished / "run")


def test_a_finished_run_is_not_run_again_and_another_config_is_refused(finished: Path) -> None:
    before = (finished / "run" / "history.jsonl").stat().st_mtime_ns
    run("evolve", finished / "evolve.yaml", finished / "run")
    assert (finished / "run" / "history.jsonl").stat().st_mtime_ns == before
    run("evolve", finished / "evolve.yaml", finished / "run", "--set", "search.seed=9", expect=2)
