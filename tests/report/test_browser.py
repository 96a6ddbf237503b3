"""The page in a real browser: screenshots on a screen and a phone, light and dark; nothing cut off, no console error.

Where there is no Chromium, what can be checked of the page without one stands in test_build.py.
"""

import json
import re
import shutil
import subprocess
import threading

import pytest
from run_folder import CONFIG, KINSHIP, best_of, history_of, measurements_of, path_of, summary_of, write_run

from jaxmerge.report.build import build
from jaxmerge.report.live import serve

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

WIDTHS = {"phone": 360, "wide": 1280}
SECTIONS = ("answer", "results", "search", "recipe", "path", "genomes", "front", "kinship", "examples", "cost", "files")
# Both widths side by side, each in a frame of its own, for a window cannot be as narrow as a phone.
FRAMES = """<!doctype html><meta charset="utf-8"><body style="margin:0"><div style="display:flex">%s</div>
<pre id="probe"></pre><script>
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, width = frame.contentWindow.innerWidth;
    const beyond = [...page.querySelectorAll("body *")].filter(element => {
      const box = element.getBoundingClientRect();
      return box.width && (box.left < -0.5 || box.right > width + 0.5) && !element.closest(".scroll, pre");
    });
    found[frame.id] = {
      width, scroll: page.documentElement.scrollWidth,
      beyond: beyond.map(element => element.outerHTML.slice(0, 120)),
      sections: [...page.querySelectorAll("section, header")].filter(s => s.getBoundingClientRect().height > 40)
        .map(s => s.id),
      flat: [...page.querySelectorAll("svg.frame")].filter(s => s.getBoundingClientRect().width < 60).length,
    };
  }
  document.getElementById("probe").textContent = JSON.stringify(found);
});
</script>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A run with everything in it, as two: a parameter space, and a data flow with two objectives."""
    root = tmp_path_factory.mktemp("pages")
    config = json.loads(json.dumps(CONFIG))
    config["objectives"].append({"name": "what_was_not_forgotten", "kind": "likelihood", "data": {"search": "f.jsonl"}})
    history = history_of(20)
    for line in history:
        line["scores"]["what_was_not_forgotten"] = None if line["score"] is None else -1.2 - line["score"] ** 2
    front = [
        {"candidate": f"parameter:{line['generation']}:{line['index']}", "search": line["scores"], "test": {}}
        for line in history[-330:-320]
    ]
    runs = {
        "parameter": {"history": history_of(20), "best": best_of(), "measurements": measurements_of(120, 400)},
        "dataflow": {"config": config, "history": history, "best": path_of(40, 28)},
    }
    for name, parts in runs.items():
        summary = summary_of() | {"front": front, "best": {"stage": "parameter", "generation": 19, "index": 2}}
        if name == "parameter":
            summary["best"]["generation"] = 39
        write_run(root / name, summary=summary, kinship=KINSHIP, **parts)
        build(root / name)
    return root


def _chromium(profile, address, *arguments):
    """What it prints; a message on its console fails."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    command += [f"--user-data-dir={profile}", *arguments, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


def _browse(pages, *arguments):
    frames = "".join(
        f'<iframe id="{run}-{name}" src="{run}/report.html" width="{width}" height="5000" frameborder="0"></iframe>'
        for run in ("parameter", "dataflow")
        for name, width in WIDTHS.items()
    )
    (pages / "frames.html").write_text(FRAMES % frames)
    options = ("--allow-file-access-from-files", "--window-size=3300,5000")
    return _chromium(pages / "profile", (pages / "frames.html").as_uri(), *options, *arguments)


@pytest.fixture(scope="module")
def probe(pages):
    found = re.search(r'<pre id="probe">(.*?)</pre>', _browse(pages, "--dump-dom"), re.DOTALL)
    assert found and found[1]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.mark.parametrize("run", ["parameter", "dataflow"])
@pytest.mark.parametrize("name", WIDTHS)
def test_nothing_is_wider_than_the_window(probe, run, name):
    seen = probe[f"{run}-{name}"]
    assert seen["width"] == WIDTHS[name]
    assert seen["beyond"] == []
    assert seen["scroll"] <= seen["width"]
    assert seen["flat"] == 0


def test_every_section_is_there(probe):
    for name in WIDTHS:
        there = set(probe[f"parameter-{name}"]["sections"]) | set(probe[f"dataflow-{name}"]["sections"])
        assert set(SECTIONS) <= there


def test_light_and_dark_are_different_pictures_of_the_same_page(pages):
    shots = {}
    for scheme, number in (("dark", 0), ("light", 1)):
        shot = pages / f"{scheme}.png"
        _browse(pages, f"--screenshot={shot}", f"--blink-settings=preferredColorScheme={number}")
        shots[scheme] = shot.read_bytes()
    assert all(shot.startswith(b"\x89PNG") and len(shot) > 100_000 for shot in shots.values())
    assert shots["dark"] != shots["light"]


def test_a_served_page_follows_the_run_without_being_loaded_again(tmp_path):
    history = history_of()
    run = write_run(tmp_path / "run", history=history[:80])
    with serve(run, "127.0.0.1", 0) as server:
        page = server.RequestHandlerClass.page
        asked, current = [], page.current

        def grows():
            """What the browser asks for the second time has more generations."""
            asked.append(len(asked))
            if len(asked) == 2:
                with (run / "history.jsonl").open("a") as file:
                    file.writelines(json.dumps(line) + "\n" for line in history[80:160])
            return current()

        page.current = grows
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        shown = _chromium(tmp_path / "profile", address, "--virtual-time-budget=12000", "--dump-dom")
        server.shutdown()
    assert "after 160 candidates in 10 generations" in shown and len(asked) >= 2
