import hashlib
import http.server
import threading

import pytest

from robench.data.download import DownloadFailed, download

CONTENT = bytes(range(256)) * 5000  # 1.28 MB: more than one piece
HASH = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Host(http.server.ThreadingHTTPServer):
    """A file server whose behaviour a test sets.

    cut: answers end after this many bytes, as often as it says. ranges: whether it honours them.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.status = CONTENT, 200
        self.cut, self.cuts, self.ranges = 0, 0, True
        self.asked, self.encoding = [], None

    def handle_error(self, request, client_address):
        """Say nothing of clients that hang up: some tests do."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/folder/data.bin"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host, asked = self.server, self.headers["Range"]
        host.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and host.ranges else 0
        body = host.content[start:]
        past = start >= len(host.content) > 0
        self.send_response(416 if past else 206 if start else host.status)
        if host.encoding:
            self.send_header("Content-Encoding", host.encoding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if host.cuts:
            host.cuts -= 1
            body = body[: host.cut]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)  # its pauses to try again
    with Host() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_alone(host, tmp_path):
    path = download(host.url, HASH, tmp_path)
    assert path == tmp_path / "data.bin"
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["data.bin"]


def test_a_file_that_is_there_is_not_asked_for(host, tmp_path):
    download(host.url, HASH, tmp_path)
    download(host.url, HASH, tmp_path)
    assert host.asked == [None]


def test_a_broken_connection_goes_on_where_it_stopped(host, tmp_path):
    host.cut, host.cuts = 500_000, 2
    assert download(host.url, HASH, tmp_path).read_bytes() == CONTENT
    assert host.asked == [None, "bytes=500000-", "bytes=1000000-"]


def test_the_next_call_goes_on_where_an_interrupted_one_stopped(host, tmp_path):
    def interrupt(here, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(host.url, HASH, tmp_path, progress=interrupt)
    assert names(tmp_path) == ["data.bin.part"]
    part = (tmp_path / "data.bin.part").stat().st_size
    assert 0 < part < len(CONTENT)
    assert download(host.url, HASH, tmp_path).read_bytes() == CONTENT
    assert host.asked == [None, f"bytes={part}-"]
    assert names(tmp_path) == ["data.bin"]


def test_a_host_without_ranges_starts_again(host, tmp_path):
    host.ranges = False
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    seen = []
    path = download(host.url, HASH, tmp_path, progress=lambda here, total: seen.append(here))
    assert path.read_bytes() == CONTENT
    assert host.asked == ["bytes=1000-"]
    assert seen[-1] == len(CONTENT)


def test_a_partial_file_that_is_already_whole_is_used(host, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert download(host.url, HASH, tmp_path).read_bytes() == CONTENT
    assert host.asked == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("stale", [b"x" * 1000, b"x" * (len(CONTENT) + 5)], ids=["less", "more"])
def test_a_partial_file_of_something_else_is_dropped(host, tmp_path, stale):
    (tmp_path / "data.bin.part").write_bytes(stale)
    assert download(host.url, HASH, tmp_path).read_bytes() == CONTENT
    assert host.asked[-1] is None


def test_a_content_encoding_changes_no_byte(host, tmp_path):
    host.encoding = "x-gzip"  # as some hosts label a .tar.gz
    assert download(host.url, HASH, tmp_path).read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(host, tmp_path):
    host.content = b"<html>sign in</html>"
    with pytest.raises(DownloadFailed, match=r"does not send the file with the hash md5:"):
        download(host.url, HASH, tmp_path)
    assert names(tmp_path) == []


def test_an_error_of_the_host_is_named(host, tmp_path):
    host.status = 404
    with pytest.raises(DownloadFailed, match="404"):
        download(host.url, HASH, tmp_path)
    assert "data.bin" not in names(tmp_path)


def test_a_connection_that_keeps_breaking_says_how_far_it_came(host, tmp_path):
    host.cut, host.cuts = 100, 99
    with pytest.raises(DownloadFailed) as caught:
        download(host.url, HASH, tmp_path)
    assert "the connection broke after 300 of 1280000 bytes" in str(caught.value)
    assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:300]


def test_a_host_that_is_not_there_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with pytest.raises(
        DownloadFailed, match=r"^http://127.0.0.1:9/a cannot be fetched: .*refused"
    ) as caught:
        download("http://127.0.0.1:9/a", HASH, tmp_path)
    assert "\n" not in str(caught.value)
    assert "object at" not in str(caught.value)


def test_progress_counts_what_was_here_already(host, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    seen = []
    download(host.url, HASH, tmp_path, progress=lambda here, total: seen.append((here, total)))
    assert all(total == len(CONTENT) for _, total in seen)
    assert seen[0][0] > 1000
    assert seen[-1][0] == len(CONTENT)
