"""A package index on loopback, which keeps a journal of what it is asked for, and small wheels for it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Protocol


def wheel(name: str, version: str, requires: Sequence[str] = (), extras: Sequence[str] = ()) -> bytes:
    """Make a wheel with one module."""
    module = name.replace("-", "_")
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    return _zipped(
        module, version, {f"{module}/__init__.py": "", f"{module}-{version}.dist-info/METADATA": metadata}
    )


def installed_wheel(name: str) -> bytes:
    """Make a wheel of a pure distribution of this environment."""
    result = importlib.metadata.distribution(name)
    files = {
        str(file): file.read_binary()
        for file in result.files or ()
        if not str(file).startswith("..")
        and "__pycache__" not in str(file)
        and file.name not in ("RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json")
    }
    return _zipped(name, result.version, files)


def _zipped(module: str, version: str, files: Mapping[str, bytes | str | Sequence[str]]) -> bytes:
    info = f"{module}-{version}.dist-info"
    about = ["Wheel-Version: 1.0", "Generator: tests", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    record = [f"{item},," for item in (*files, f"{info}/WHEEL", f"{info}/RECORD")]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, content in {**files, f"{info}/WHEEL": about, f"{info}/RECORD": record}.items():
            whole = content if isinstance(content, str | bytes) else "\n".join(content) + "\n"
            archive.writestr(zipfile.ZipInfo(path), whole)
    return packed.getvalue()


class Answers(Protocol):
    """What is served on loopback: it keeps its port, and answers a path with a status and content."""

    port: int

    def answer(self, path: str) -> tuple[int, bytes]: ...


class Index:
    """What the index offers (file name -> content), and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.gone: set[str] = set()
        """Files that a page still names and that are answered with 404."""
        self.asked: list[str] = []
        self.port = 0

    def offer(self, name: str, version: str, content: bytes) -> str:
        """Offer a release, and return the line that locks it."""
        self.files[f"{name.replace('-', '_').lower()}-{version}-py3-none-any.whl"] = content
        return f"{name.lower()}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple"

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        kind, _, name = path.strip("/").partition("/")
        if kind == "files" and name in self.files and name not in self.gone:
            return 200, self.files[name]
        named = sorted(file for file in self.files if file.split("-")[0] == name.replace("-", "_"))
        if kind == "simple" and named:
            return 200, "".join(f'<a href="/files/{item}">{item}</a><br>' for item in named).encode()
        return 404, b"no such thing"


@contextmanager
def serving(index: Answers) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = index.answer(self.path)
            self.send_response(status)
            self.send_header(
                "Content-Type", "text/html" if self.path.startswith("/simple") else "application/zip"
            )
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        index.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
