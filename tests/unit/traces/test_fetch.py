import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from controller.errors import RunError, TraceError
from traces.fetch import fetch
from traces.registry import PUBLIC_TRACES, PublicTrace

BODY = b"".join(b"%d\n" % (i % 251) for i in range(40_000))
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves BODY; `cut` sends only that many bytes of it, `ranges` is what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut: int | None = None
        self.takes_ranges = True
        self.ranges: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path != "/t.txt":
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.takes_ranges else 0
        if begin >= len(BODY):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(BODY) - begin))
        self.end_headers()
        self.wfile.write(BODY[begin : self.server.cut])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def registry(server: Server, sha256: str | None = SHA256, path: str = "/t.txt") -> dict[str, PublicTrace]:
    url = f"http://127.0.0.1:{server.server_port}{path}"
    return {"t": PublicTrace("t", url, "t.txt", sha256, "none", "a test")}


def test_a_trace_is_downloaded_checked_and_put_in_place(server: Server, tmp_path: Path) -> None:
    path = fetch("t", tmp_path / "new", registry(server), show_progress=True)
    assert path == tmp_path / "new" / "t.txt"
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == ["t.txt"]


def test_a_file_that_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    fetch("t", tmp_path, registry(server))
    fetch("t", tmp_path, registry(server))
    assert len(server.ranges) == 1
    (tmp_path / "t.txt").write_text("edited")
    with pytest.raises(TraceError, match="exists with another checksum"):
        fetch("t", tmp_path, registry(server))
    assert (tmp_path / "t.txt").read_text() == "edited"


def test_other_bytes_than_the_checksum_says_are_deleted(server: Server, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(RunError, match=f"expected sha256 {wrong}, got {SHA256}") as caught:
        fetch("t", tmp_path, registry(server, wrong))
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_cut_download_is_no_trace_and_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.cut = 70_000
    with pytest.raises(RunError, match=f"expected {len(BODY)} bytes, got 70000"):
        fetch("t", tmp_path, registry(server))
    assert not (tmp_path / "t.txt").exists()
    server.cut = None
    assert fetch("t", tmp_path, registry(server)).read_bytes() == BODY
    assert server.ranges == [None, "bytes=70000-"]


def test_a_server_without_ranges_is_read_from_the_begin(server: Server, tmp_path: Path) -> None:
    server.cut = 70_000
    with pytest.raises(RunError):
        fetch("t", tmp_path, registry(server))
    server.cut, server.takes_ranges = None, False
    assert fetch("t", tmp_path, registry(server)).read_bytes() == BODY


def test_a_whole_partial_file_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"t.txt.{SHA256[:8]}.partial").write_bytes(BODY)
    assert fetch("t", tmp_path, registry(server)).read_bytes() == BODY


def test_refusals_of_the_server_are_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the server answered 404"):
        fetch("t", tmp_path, registry(server, path="/gone"))
    entries = registry(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(RunError, match="cannot be downloaded"):
        fetch("t", tmp_path, entries)


def test_nothing_is_downloaded_without_a_checksum(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no checksum is pinned.*--sha256"):
        fetch("t", tmp_path, registry(server, None))
    assert server.ranges == []
    assert fetch("t", tmp_path, registry(server, None), sha256=SHA256.upper()).read_bytes() == BODY


def test_wrong_arguments_are_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="name: expected one of t, got 'u'"):
        fetch("u", tmp_path, registry(server))
    with pytest.raises(TraceError, match="sha256: expected 64 hexadecimal digits, got 'abc'"):
        fetch("t", tmp_path, registry(server), sha256="abc")
    with pytest.raises(TraceError, match=f"sha256: expected the pinned {SHA256}"):
        fetch("t", tmp_path, registry(server), sha256="0" * 64)
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="dest: expected a directory"):
        fetch("t", tmp_path / "file", registry(server))


def test_public_traces_are_pinned_to_a_commit_and_named_apart() -> None:
    files = [entry.file_name for entry in PUBLIC_TRACES.values()]
    assert len(set(files)) == len(files)
    for name, entry in PUBLIC_TRACES.items():
        assert entry.name == name
        assert entry.url.startswith("https://raw.githubusercontent.com/")
        assert len(entry.url.split("/")[5]) == 40
        assert entry.sha256 is None or len(entry.sha256) == 64


@pytest.mark.data
@pytest.mark.parametrize("shape", ["diurnal", "diurnal-2", "noisy", "bursty"])
def test_pinned_checksums_are_of_the_known_counts(data_dir: Path, shape: str) -> None:
    from traces.readers import read_trace

    counts = read_trace(data_dir / f"requests/autothrottle_1h/{shape}.npz").counts[0]
    text = "".join(f"{count}\n" for count in counts.tolist())
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLIC_TRACES[f"autothrottle-{shape}"].sha256
