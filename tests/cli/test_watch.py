"""`jaxmerge watch`: says where the page is, and ends with 0 on Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from run_folder import history_of, write_run

from jaxmerge.cli.main import main


def test_it_serves_until_it_is_interrupted(tmp_path):
    run = write_run(tmp_path / "run", history=history_of()[:80])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-P", "-m", "jaxmerge", "watch", str(run)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        found = re.match(r"(http://127\.0\.0\.1:\d+/) shows .*run; Ctrl-C ends it", process.stdout.readline())
        assert found
        with urllib.request.urlopen(found[1], timeout=20) as answer:
            assert "80 candidates" in answer.read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 0 and error == ""


@pytest.mark.parametrize(
    "arguments", [["nowhere"], ["{run}", "--port", "99999"], ["{run}", "--host", "no.such.host.invalid"]]
)
def test_wrong_input_is_one_line(tmp_path, capsys, arguments):
    run = write_run(tmp_path / "run", history=[])
    assert main(["watch", *[a.format(run=run) for a in arguments]]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("jaxmerge: ") and "\n" not in error
