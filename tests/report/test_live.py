"""A run's report over HTTP: fresh while the run grows, the same until then, and for this machine only."""

import http.client
import json
import threading

import pytest
from run_folder import history_of, write_run

from jaxmerge.errors import InputError
from jaxmerge.report.live import serve


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", history=history_of()[:80])


@pytest.fixture
def ask(run):
    """`ask(path, method=, **headers)` gives status, headers and text."""
    with serve(run, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()

        def ask(path="/", method="GET", **headers):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=given)
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            return answer.status, dict(answer.getheaders()), text

        yield ask
        server.shutdown()
        thread.join(timeout=10)


def test_the_page_grows_with_the_run(ask, run):
    status, headers, text = ask()
    assert status == 200 and "after 80 candidates in 5 generations" in text
    assert ask(If_None_Match=headers["ETag"])[0] == 304
    with (run / "history.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in history_of()[80:96])
    status, fresh, text = ask(If_None_Match=headers["ETag"])
    assert status == 200 and fresh["ETag"] != headers["ETag"] and "after 96 candidates in 6 generations" in text


def test_a_file_that_is_half_written_leaves_the_page_before(ask, run):
    before = ask()
    (run / "summary.json").write_text("{")
    assert ask()[1]["ETag"] == before[1]["ETag"] and ask()[2] == before[2]


def test_nothing_of_the_run_is_written_and_nothing_else_is_served(ask, run):
    names = {file.name for file in run.iterdir()}
    assert ask("/report.html?x=1")[0] == 200
    for path in ("/config.yaml", "/../config.yaml", "/state/measurements.jsonl", "/favicon.ico"):
        assert ask(path)[0] == 404
    assert ask(method="POST")[0] == ask(method="DELETE")[0] == 501
    assert {file.name for file in run.iterdir()} == names


def test_head_is_the_answer_without_its_body(ask):
    _, headers, text = ask()
    status, others, nothing = ask(method="HEAD")
    assert status == 200 and nothing == "" and others["Content-Length"] == str(len(text.encode()))
    assert headers["ETag"] == others["ETag"]


def test_only_names_of_this_machine_are_answered(ask):
    for name in ("127.0.0.1", "localhost:80", "[::1]:80"):
        assert ask(Host=name)[0] == 200
    for name in ("evil.example", "evil.example:80", "10.0.0.1", ""):
        assert ask(Host=name)[0] == 403


def test_only_its_own_script_may_run(ask):
    _, headers, text = ask()
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert text.count("<script") == 1


def test_what_cannot_be_served_is_wrong_input(run, tmp_path):
    with pytest.raises(InputError, match="is not a run's folder"):
        serve(tmp_path / "nowhere", "127.0.0.1", 0)
    with serve(run, "127.0.0.1", 0) as server:
        port = server.server_address[1]
        with pytest.raises(InputError, match=f"--port {port}: cannot listen"):
            serve(run, "127.0.0.1", port)
    for host, port in (("no.such.host.invalid", 0), ("127.0.0.1", 99999)):
        with pytest.raises(InputError, match="cannot listen"):
            serve(run, host, port)
