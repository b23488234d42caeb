"""A Hugging Face Hub of a few files, served on this machine, that can break off a download.

It answers the three requests that the hub's client makes: what a repository is, which files it
holds, and one file or a range of it. It notes every file asked for.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FakeHub:
    """The repositories, and what happened.

    Args:
        repositories: files by name, by "owner/name".
        gated: repositories that nobody may read.
        lost: files that are listed and cannot be had.
        break_after: bytes after which the first answer for a file breaks off.
        asked: (file, first byte) of every download.
    """

    repositories: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    break_after: int | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def __enter__(self) -> "FakeHub":
        handler = type("HandlerOfThisHub", (Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        serve = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)
        serve.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """What HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def commit(self, repository: str) -> str:
        """The only commit of a repository; it also has the branch main."""
        return hashlib.sha1(repository.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers one request; `hub` is set by `FakeHub`."""

    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if is_api else parts
        repository = f"{owner}/{name}"
        revision = rest[1] if len(rest) > 1 else "main"
        if repository in self.hub.gated:
            self._fail(403, "GatedRepo")
        elif repository not in self.hub.repositories:
            self._fail(401, "RepoNotFound")
        elif revision not in ("main", self.hub.commit(repository)):
            self._fail(404, "RevisionNotFound")
        elif not is_api:
            self._send_file(repository, "/".join(rest[2:]))
        elif rest[:1] == ["tree"]:
            self._send_json(
                [
                    {"type": "file", "path": path, "size": len(data), "oid": etag(data)}
                    for path, data in self.hub.repositories[repository].items()
                ]
            )
        else:
            files = [{"rfilename": path} for path in self.hub.repositories[repository]]
            commit = self.hub.commit(repository)
            self._send_json({"id": repository, "sha": commit, "siblings": files})

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, repository: str, path: str) -> None:
        data = self.hub.repositories[repository].get(path)
        if data is None or path in self.hub.lost:
            self._fail(404, "EntryNotFound")
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("ETag", f'"{etag(data)}"')
        self.send_header("X-Repo-Commit", self.hub.commit(repository))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self.hub.asked.append((path, start))
            self._send_body(path, data[start:])

    def _send_body(self, path: str, data: bytes) -> None:
        limit = self.hub.break_after
        if limit is not None and len(data) > limit and path not in self.hub.broken:
            self.hub.broken.add(path)
            self.wfile.write(data[:limit])
            self.close_connection = True
        else:
            self.wfile.write(data)


def etag(data: bytes) -> str:
    """What names a file's content, as on the hub: git's SHA-1 for small files, else SHA-256."""
    if len(data) < 1000:
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return hashlib.sha256(data).hexdigest()
