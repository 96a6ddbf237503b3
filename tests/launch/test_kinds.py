"""What each kind of target sends, with programs that only record it."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_programs import Programs
from ruamel.yaml import YAML

from jaxmerge.cli.main import COMMANDS, main
from jaxmerge.errors import InputError
from jaxmerge.launch.command import Command
from jaxmerge.launch.kinds import KINDS, read_target
from jaxmerge.launch.shell import Live, Printed
from jaxmerge.launch.start import launch

TARGETS = {
    "local": "kind: local\nprocesses: 2\ndevices: 2\n",
    "tpu": "kind: tpu\nname: pod\nzone: us-west4-a\naccelerator: v5litepod-16\nversion: v2-alpha-tpuv5-lite\n",
    "slurm": "kind: slurm\nname: pod\nnodes: 2\ngpus_per_node: 8\ntime: 1:00:00\n",
    "gke": "kind: gke\nname: pod\nimage: me/jaxmerge:1\nhosts: 4\naccelerator: tpu-v5-lite-podslice\ntopology: 4x4\n"
    "chips: 4\n",
    "skypilot": "kind: skypilot\nname: pod\nnodes: 2\naccelerators: H100:8\nspot: true\n",
}
PROGRAM = {"tpu": "gcloud", "slurm": "sbatch", "gke": "kubectl", "skypilot": "sky"}
REMOTE = sorted(PROGRAM)
# What a shell would take for something else.
HOSTILE = ["a b", "it's", 'say "x"', "$HOME", "$(id)", "`id`", "two\nlines", "*", "", "\\", "${X}", "ö", "--x=#"]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    made = Programs(folder, *PROGRAM.values())
    monkeypatch.setenv("PATH", made.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxmerge.launch.tpu.POLL", 0.01)
    return made


def target(folder: Path, kind: str, more: str = "") -> Any:
    file = folder / f"{kind}.yaml"
    file.write_text(TARGETS[kind] + more)
    return read_target(file)


def started(folder: Path, kind: str, *words: str, more: str = "") -> int:
    return launch(target(folder, kind, more), Command.parse(words, COMMANDS), Live())


def sent_script(programs: Programs, kind: str) -> str:
    """The shell text in which the command stands."""
    if kind == "tpu":
        [command] = [w for words in programs.words for w in words if w.startswith("--command=")]
        return shlex.split(command.removeprefix("--command="))[2]
    if kind == "slurm":
        [call] = programs.calls
        return call["stdin"]
    if kind == "gke":
        [call] = [call for call in programs.calls if "apply" in call["words"]]
        job = YAML(typ="safe").load(call["stdin"])["spec"]["replicatedJobs"][0]["template"]["spec"]
        bash, c, text = job["template"]["spec"]["containers"][0]["command"]
        assert (bash, c) == ("bash", "-c") and "$" not in text.replace("$$", "")
        return text.replace("$$", "$")
    [call] = programs.calls
    return YAML(typ="safe").load(call["file"])["run"]


@pytest.mark.parametrize("kind", REMOTE)
def test_every_argument_arrives_as_it_was_given(programs: Programs, tmp_path: Path, kind: str) -> None:
    assert started(tmp_path, kind, "show", *HOSTILE, more="env: {GREETING: \"it's $5 $(id)\"}\n") == 0
    text = sent_script(programs, kind)
    # Run by a real bash, with programs in the place of those of the hosts.
    here = tmp_path / "hosts"
    here.mkdir()
    show = here / "show"
    show.write_text('#!/bin/bash\nprintf "%s\\0" "$GREETING" "$@" > "$OUT"\n')
    (here / "srun").write_text('#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done; SLURM_PROCID=0 exec "$@"\n')
    (here / "scontrol").write_text("#!/bin/bash\necho first\n")
    for file in here.iterdir():
        file.chmod(0o755)
    env = {"PATH": f"{here}:/usr/bin:/bin", "OUT": str(tmp_path / "out"), "SLURM_JOB_ID": "7", "HOME": str(tmp_path)}
    env |= {"JOB_COMPLETION_INDEX": "0"} | ({"GREETING": "it's $5 $(id)"} if kind == "skypilot" else {})
    done = subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text().split("\0")[:-1] == ["it's $5 $(id)", *HOSTILE]


def test_tpu_asks_for_a_queued_resource_and_starts_all_workers(programs: Programs, tmp_path: Path) -> None:
    waiting = (["describe"], {"out": "WAITING_FOR_RESOURCES\n", "once": True})
    programs.answer(waiting, waiting, (["describe"], {"out": "ACTIVE\n"}))
    more = "spot: true\nproject: mine\ncopy: {data: /tmp/data}\nsetup: [pip install jaxmerge]\n"
    assert started(tmp_path, "tpu", "evolve", "c.yaml", "out", more=more) == 0
    calls = [" ".join(words[3:5]) for words in programs.words]
    assert calls == ["queued-resources create", *["queued-resources describe"] * 3, "tpu-vm scp", "tpu-vm ssh"]
    create, scp, run = (programs.words[i] for i in (0, 4, 5))
    assert {"--node-id=pod", "--accelerator-type=v5litepod-16", "--spot", "--zone=us-west4-a"} <= {*create}
    assert all("--project=mine" in words for words in programs.words)
    assert scp[7:9] == ["data", "pod:/tmp/data"]
    assert "--worker=all" in run and "pip install jaxmerge" in " ".join(run)
    assert "JAXMERGE_COORDINATOR=auto" in " ".join(run) and "jaxmerge evolve c.yaml out" in " ".join(run)


def test_tpu_tells_which_worker_failed(programs: Programs, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    programs.answer((["ssh"], {"runs": True}))
    assert started(tmp_path, "tpu", "bash", "-c", "echo so far; echo no good >&2; exit 7") == 7
    shown = capfd.readouterr().err
    assert "ended with exit code 7" in shown and "no good" in shown and "queued-resources delete pod" in shown


def test_tpu_obtains_a_preempted_machine_anew(programs: Programs, tmp_path: Path) -> None:
    programs.answer(
        (["ssh"], {"code": 255, "err": "Connection reset\n", "once": True}),
        (["create"], {"once": True}),
        (["describe"], {"out": "ACTIVE\n", "once": True}),
        (["create"], {"code": 1, "err": "ALREADY_EXISTS\n", "once": True}),
        (["describe"], {"out": "SUSPENDED\n", "once": True}),
        (["describe"], {"out": "SUSPENDED\n", "once": True}),
        (["describe"], {"out": "ACTIVE\n"}),
    )
    assert started(tmp_path, "tpu", "evolve", "c.yaml", "out", more="keep: false\n") == 0
    verbs = [words[4] for words in programs.words]
    assert verbs == [
        "create", "describe", "ssh", "describe", "create", "describe", "delete", "create", "describe", "ssh", "delete",
    ]  # fmt: skip


def test_slurm_waits_and_reads_the_log_of_the_task_that_failed(
    programs: Programs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    programs.answer((["sbatch"], {"out": "41;cluster\n", "code": 2}))
    (tmp_path / "pod-41.log").write_text(
        "0: fine\n1: jaxmerge: c.yaml: there is no such file\nsrun: error: n1: task 1: Exited with exit code 2\n"
    )
    assert started(tmp_path, "slurm", "evolve", "c.yaml", "out") == 2
    assert programs.words == [["sbatch", "--wait", "--parsable"]]
    shown = capfd.readouterr().err
    assert "task 1 of job 41 ended with exit code 2" in shown and "no such file" in shown and "0: fine" not in shown
    script = programs.calls[0]["stdin"]
    assert "#SBATCH --nodes=2\n" in script and "#SBATCH --signal=TERM@120\n" in script


@pytest.mark.parametrize("kind", ["slurm", "local"])
def test_what_was_interrupted_is_started_again_so_often(programs: Programs, tmp_path: Path, kind: str) -> None:
    programs.answer((["sbatch"], {"code": 75}))
    words = ["bash", "-c", f"echo x >> {tmp_path / 'calls'}; exit 75"]
    assert started(tmp_path, kind, *words, more="retries: 2\n") == 75
    if kind == "slurm":
        assert len(programs.calls) == 3
    else:
        assert 3 <= len((tmp_path / "calls").read_text().split()) <= 6


def test_gke_tells_how_the_pod_ended(programs: Programs, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ended = {"state": {"terminated": {"exitCode": 3, "finishedAt": "2026-01-01T00:00:00Z"}}}
    pods = {"items": [{"metadata": {"name": "pod-workers-0-2-x"}, "status": {"containerStatuses": [ended]}}]}
    programs.answer(
        (["get", "jsonpath"], {"out": "Failed"}),
        (["pods"], {"out": json.dumps(pods)}),
        (["logs"], {"out": "jaxmerge: bad checkpoint\n"}),
    )
    assert started(tmp_path, "gke", "evolve", "c.yaml", "out", more="retries: 5\nnamespace: ours\n") == 3
    shown = capfd.readouterr().err
    assert "pod pod-workers-0-2-x ended with exit code 3" in shown and "bad checkpoint" in shown
    assert all(words[1] == "--namespace=ours" for words in programs.words)


def test_the_jobset_restarts_what_was_interrupted_only(tmp_path: Path) -> None:
    more = "retries: 5\nsecrets: {HF_TOKEN: {secret: hub, key: token}}\nvolumes: [{claim: runs, path: /runs}]\n"
    manifest = target(tmp_path, "gke", more).manifest(Command.parse(["evolve", "c", "o"], COMMANDS))
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 5 and policy["rules"][0]["action"] == "FailJobSet"
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 4
    assert job["podFailurePolicy"]["rules"][1]["onExitCodes"] == {"operator": "NotIn", "values": [75, 137, 143]}
    pod = job["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    assert pod["containers"][0]["resources"] == {"limits": {"google.com/tpu": 4}}
    assert pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "token"}


def test_skypilot_gets_a_task_that_finds_its_peers(programs: Programs, tmp_path: Path) -> None:
    assert started(tmp_path, "skypilot", "evolve", "c.yaml", "out") == 0
    [call] = programs.calls
    assert call["words"][:5] == ["sky", "jobs", "launch", "--yes", "--name=pod"]
    task = YAML(typ="safe").load(call["file"])
    assert task["num_nodes"] == 2 and task["resources"]["job_recovery"] == {"recover_on_exit_codes": [75]}
    show = task["run"].replace("exec jaxmerge evolve c.yaml out", "env")
    env = {"PATH": "/usr/bin:/bin", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "1"}
    told = subprocess.run(["bash", "-c", show], env=env, capture_output=True, text=True).stdout.splitlines()
    assert {"JAXMERGE_COORDINATOR=10.0.0.1:8476", "JAXMERGE_PROCESSES=2", "JAXMERGE_PROCESS=1"} <= {*told}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_dry_run_prints_all_and_runs_nothing(
    programs: Programs, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    before = sorted(tmp_path.rglob("*"))
    what = Command.parse(["jaxmerge", "evolve", "c.yaml", "a run"], COMMANDS)
    assert launch(target(tmp_path, kind), what, Printed()) == 0
    shown = capsys.readouterr().out
    assert PROGRAM.get(kind, "JAXMERGE_PROCESS=1") in shown
    assert "jaxmerge evolve c.yaml 'a run'" in shown.replace("'\"'\"'", "'")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / f"{kind}.yaml"]) and not programs.calls


@pytest.mark.parametrize("kind", REMOTE)
def test_a_missing_program_is_named_with_where_it_is_to_be_had(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=rf"'{PROGRAM[kind]}' is not on the PATH; .*"):
        started(tmp_path, kind, "evolve", "c.yaml", "out")


@pytest.mark.parametrize("kind", REMOTE)
def test_a_launcher_that_fails_shows_its_last_lines(
    programs: Programs, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    programs.answer(([], {"code": 9, "err": "quota exceeded\n"}))
    assert started(tmp_path, kind, "evolve", "c.yaml", "out") == 9
    assert "ended with exit code 9; its last lines:\n  quota exceeded" in capfd.readouterr().err


TOKEN = "hf_" + "abcdefghijklmnopqrstuvwx"


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("tpu", f"env: {{HF_TOKEN: {TOKEN}}}", r"tpu.yaml:6: env.HF_TOKEN: looks like a token.*hf auth login"),
        ("slurm", "env: {MY_PASSWORD: hunter2}", "env.MY_PASSWORD: looks like a token"),
        ("gke", f"env: {{X: {TOKEN}}}", "looks like a token.*Secret of the cluster"),
        ("local", f"env: {{X: {TOKEN}}}", r"looks like a token.*name it here as \$\{NAME\}"),
        ("tpu", f"setup: [echo, 'hf auth login --token {TOKEN}']", "setup: item 1 holds what looks like a token"),
        ("tpu", "env: {X: '${HOME}'}", "env.X: variables of this machine are put in for 'kind: local' only"),
        ("local", "env: {JAXMERGE_PROCESS: 1}", "set by the launch itself"),
        ("local", "env: {A-B: 1}", "'A-B' is no name of a variable"),
        ("local", "processes: 0", "processes: .*greater than or equal to 1"),
        ("local", "setup: [x]", "local.yaml:4: unknown key 'setup'"),
        ("tpu", "zones: x", "tpu.yaml:6: unknown key 'zones'; did you mean 'zone'"),
        ("slurm", r'options: ["--x\ny"]', "options.0"),
        ("slurm", "partition: 'a b'", "partition: "),
        ("gke", "name: Not_This", "name: "),
    ],
)  # fmt: skip
def test_a_bad_target_is_refused_by_its_key(tmp_path: Path, kind: str, more: str, message: str) -> None:
    key = more.split(":")[0]
    text = "".join(line for line in TARGETS[kind].splitlines(True) if not line.startswith(f"{key}:"))
    file = tmp_path / f"{kind}.yaml"
    file.write_text(f"{text}{more}\n")
    with pytest.raises(InputError, match=message):
        read_target(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "target.yaml: the key 'kind' is missing; there are: local, tpu"),
        ("kind: slrum\n", "target.yaml:1: unknown kind 'slrum'; did you mean 'slurm'"),
        ("kind: tpu\nname: a\n", "target.yaml: the keys 'zone', 'accelerator' and 'version' are missing"),
        ("- a\n", "target.yaml: the key 'kind' is missing"),
    ],
)
def test_a_target_without_what_it_needs(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "target.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_target(tmp_path / "target.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no command after '--'"),
        (["jaxmerge"], "there is no command after '--'"),
        (["jaxmerge", "evlove", "c"], "unknown command 'evlove'; did you mean 'evolve'"),
        (["launch", "t", "--", "evolve"], "name what it shall start"),
        (["merge", "r", "o"], "'merge' runs in one process, and the target has 2"),
        (["evolve", TOKEN], "argument 2 of the command looks like a token"),
    ],
)
def test_a_bad_command_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        launch(target(tmp_path, "local"), Command.parse(words, COMMANDS), Printed())


def test_the_command_line_leaves_the_command_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.yaml").write_text(TARGETS["local"])
    launching = ["launch", str(tmp_path / "t.yaml"), "--dry-run", "--"]
    assert main([*launching, "evolve", "c", "o", "--set", "a=b c", "--debug"]) == 0
    assert capsys.readouterr().out.count("evolve c o --set 'a=b c' --debug") == 2
    assert main(launching) == 2
