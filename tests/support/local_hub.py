"""A server that answers as the Hugging Face hub does, for as much of it as a download asks."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit


@dataclass
class LocalHub:
    """models: folders by `org/name`. gated: those that ask for a log-in. fetched: `org/name/file`, in order."""

    models: dict[str, Path]
    gated: frozenset[str] = frozenset()
    fetched: list[str] = field(default_factory=list)
    url: str = ""

    @staticmethod
    def commit(repo: str, revision: str = "main") -> str:
        return hashlib.sha1(f"{repo}@{revision}".encode()).hexdigest()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if repo in self.gated:
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, b""
        if repo not in self.models:
            return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
        folder = self.models[repo]
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        if parts[0] == "api" and parts[4] == "revision":
            known = {"main": self.commit(repo), "v1": self.commit(repo, "v1")}
            if "/".join(parts[5:]) not in (*known, *known.values()):
                return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
            return 200, {}, json.dumps({"id": repo, "sha": known.get(parts[5], parts[5]), "siblings": []}).encode()
        if parts[0] == "api" and parts[4] == "tree":
            entry = ({"type": "file", "path": str(p.relative_to(folder)), "size": p.stat().st_size} for p in files)
            return 200, {}, json.dumps([e | {"oid": self.commit(e["path"])} for e in entry]).encode()
        file = "/".join(parts[4:])
        content = (folder / file).read_bytes()
        return 200, {"ETag": f'"{self.commit(file)}"', "X-Repo-Commit": parts[3]}, content


@contextmanager
def serving(hub: LocalHub) -> Iterator[LocalHub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, content = hub.answer(self.path)
            if "/resolve/" in self.path and status == 200 and self.command == "GET":
                before, _, behind = urlsplit(self.path).path.strip("/").partition("/resolve/")
                hub.fetched.append(f"{before}/{behind.partition('/')[2]}")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
