"""A run's report served over HTTP while the run goes on: read-only, from memory, one page."""

import base64
import hashlib
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import xxhash

from jaxmerge.errors import InputError, JaxmergeError
from jaxmerge.report.build import render
from jaxmerge.report.run_data import read_run
from jaxmerge.search.folder import RunFolder

# Asks for the page every few seconds; where it has changed, its body takes the place of the one that is shown.
_SCRIPT = """
const root = document.documentElement;
async function look() {
  try {
    const answer = await fetch(location.pathname, {cache: "no-store", headers: {"If-None-Match": root.dataset.tag}});
    if (answer.status === 200) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const open = [...document.querySelectorAll("details")].map(element => element.open);
      document.title = page.title;
      document.body.replaceWith(page.body);
      document.querySelectorAll("details").forEach((element, i) => { element.open = open[i] || false; });
      root.dataset.tag = answer.headers.get("ETag");
    }
    root.style.opacity = "";
  } catch { root.style.opacity = "0.5"; }
  setTimeout(look, 3000);
}
setTimeout(look, 3000);
"""
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'; connect-src 'self'; img-src data:"
)


class Page:
    """The report of a run as its folder stands now. It is drawn again when a file that it reads has changed.

    Raises InputError where the folder is no run's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._stamp: tuple[object, ...] = ()
        self._tag, self._body = "", b""
        self._draw()

    def current(self) -> tuple[str, bytes]:
        """Its ETag and its bytes. While a file is being written that cannot be read, the page before stays."""
        with self._lock:
            if self._look() != self._stamp:
                with suppress(JaxmergeError, OSError):
                    self._draw()
            return self._tag, self._body

    def _draw(self) -> None:
        # Looked at before it is read: what changes meanwhile is seen the next time.
        stamp = self._look()
        page = render(read_run(self.folder))
        self._stamp, self._tag = stamp, f'"{xxhash.xxh3_64_hexdigest(page.encode())}"'
        live = f'<link rel="icon" href="data:,">\n<script type="module">{_SCRIPT}</script>\n</head>'
        page = page.replace("</head>", live, 1).replace("<html ", f"<html data-tag='{self._tag}' ", 1)
        self._body = page.encode()

    def _look(self) -> tuple[object, ...]:
        run = RunFolder.at(self.folder)
        files = (run.config, run.history, run.measurements, run.best, run.summary)
        stats = [file.stat() if file.exists() else None for file in files]
        return tuple(None if stat is None else (stat.st_mtime_ns, stat.st_size) for stat in stats)


def serve(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server that listens; `serve_forever` answers. port: 0 takes a free one.

    On a loopback address only requests for a loopback name are answered, so that no page from elsewhere can read the
    run through a name of its own. Raises InputError where the folder is no run's or the address cannot be had.
    """
    page = Page(folder)
    handler = type("Handler", (_Handler,), {"page": page, "local": _is_local(host)})
    try:
        return ThreadingHTTPServer((host, port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--host {host} --port {port}: cannot listen ({reason}); give another, or --port 0") from None


class _Handler(BaseHTTPRequestHandler):
    page: Page
    local: bool
    server_version, sys_version = "jaxmerge", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not news."""

    def _answer(self, *, with_body: bool) -> None:
        if self.local and not _is_local(urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""):
            self._send(HTTPStatus.FORBIDDEN, b"This address is not served.\n", with_body)
            return
        if urlsplit(self.path).path not in ("/", "/report.html"):
            self._send(HTTPStatus.NOT_FOUND, b"There is one page: /\n", with_body)
            return
        tag, body = self.page.current()
        if self.headers.get("If-None-Match") == tag:
            self._send(HTTPStatus.NOT_MODIFIED, b"", False, tag)
        else:
            self._send(HTTPStatus.OK, body, with_body, tag, "text/html; charset=utf-8")

    def _send(
        self, status: HTTPStatus, body: bytes, with_body: bool, tag: str | None = None, kind: str = "text/plain"
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        for name, value in {**headers, **({} if tag is None else {"ETag": tag})}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
