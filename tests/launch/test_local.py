"""Processes of this machine that stand and fall together."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxmerge.cli.main import COMMANDS
from jaxmerge.errors import InputError
from jaxmerge.launch.command import Command
from jaxmerge.launch.local import Local
from jaxmerge.launch.shell import Live, Printed, Start
from jaxmerge.launch.start import launch
from jaxmerge.launch.together import together

Capture = pytest.CaptureFixture[str]


def started(script: str, processes: int = 2, **keys: object) -> int:
    target = Local.model_validate({"kind": "local", "processes": processes, "retries": 0, **keys})
    return launch(target, Command.parse(["bash", "-c", script], COMMANDS), Live())


def test_each_process_knows_which_it_is(capfd: Capture) -> None:
    show = 'echo "$JAXMERGE_PROCESS of $JAXMERGE_PROCESSES at ${JAXMERGE_COORDINATOR%%:*} with $JAX_NUM_CPU_DEVICES"'
    assert started(show, 3, devices=2) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    assert lines == [f"[{i}] {i} of 3 at localhost with 2" for i in range(3)]


def test_one_process_is_left_as_it_is(capfd: Capture) -> None:
    assert started('echo "${JAXMERGE_PROCESSES-none}"; echo aside >&2; exit 4', 1) == 4
    shown = capfd.readouterr()
    assert shown.out == "none\n" and shown.err.startswith("aside\n")
    assert "the command ended with exit code 4; its last lines:" in shown.err
    assert {"  none", "  aside"} == {*shown.err.splitlines()[-2:]}


def test_the_first_failure_ends_the_rest(capfd: Capture) -> None:
    before = time.monotonic()
    assert started('if [ $JAXMERGE_PROCESS = 1 ]; then echo alas; exit 3; fi; sleep 60') == 3
    assert time.monotonic() - before < 10
    assert "process 1 ended with exit code 3; its last lines:\n  alas" in capfd.readouterr().err


def test_a_killed_process_counts_as_lost_and_the_others_end_by_themselves() -> None:
    # The survivor notices after a while and asks to be started again.
    starts = [
        Start("0", ("bash", "-c", "sleep 0.6; exit 75")),
        Start("1", ("bash", "-c", "kill -9 $$")),
    ]
    ending = together(starts, patience=20)
    assert (ending.code, ending.who) == (75, "process 1 (killed)")


def test_a_process_that_will_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxmerge.launch.together._end.__defaults__", (0.5,))
    stubborn = ("bash", "-c", "trap '' TERM; sleep 60 & wait; sleep 60")
    before = time.monotonic()
    assert together([Start("0", stubborn), Start("1", ("bash", "-c", "sleep 0.3; exit 2"))], 0).code == 2
    assert time.monotonic() - before < 10


def test_a_variable_of_the_caller_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setenv("MY_TOKEN", "hf_" + "x" * 30)
    assert started('[ "$HF_TOKEN" = "$MY_TOKEN" ]', 1, env={"HF_TOKEN": "${MY_TOKEN}"}) == 0
    target = Local.model_validate({"kind": "local", "env": {"HF_TOKEN": "${MY_TOKEN}"}})
    launch(target, Command.parse(["true"], COMMANDS), Printed())
    shown = capfd.readouterr().out
    assert 'HF_TOKEN="${MY_TOKEN}"' in shown and "hf_x" not in shown
    monkeypatch.delenv("MY_TOKEN")
    with pytest.raises(InputError, match="MY_TOKEN is not set here"):
        launch(target, Command.parse(["true"], COMMANDS), Live())


def test_ctrl_c_ends_all_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("kind: local\nprocesses: 2\n")
    wait = f"trap 'echo bye >> {tmp_path}/bye; exit 75' TERM; echo up >> {tmp_path}/up; sleep 60 & wait"
    words = [sys.executable, "-P", "-m", "jaxmerge", "launch", str(tmp_path / "t.yaml"), "--", "bash", "-c", wait]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 20
    while not ((tmp_path / "up").exists() and len((tmp_path / "up").read_text().split()) == 2):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 75 and shown.strip().splitlines()[-1].endswith("the same command goes on")
    assert len((tmp_path / "bye").read_text().split()) == 2
