"""Downloads that go on where they were interrupted, and count only with the known hash."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robench.core.errors import RunError

if TYPE_CHECKING:
    from requests import Response

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here, and the bytes of the whole file when the host says so."""

_CHUNK = 1 << 20
_SECONDS = 30  # without a byte before a host counts as unreachable
_RETRIES = 2


class DownloadFailed(RunError):
    """The host cannot be reached, or sends something else."""


def download(url: str, known_hash: str, folder: Path, progress: Progress | None = None) -> Path:
    """The file of `url` in `folder`, under its own name, with the known hash.

    What an interrupted call has fetched stays as `<name>.part`; the next one asks for the rest.
    known_hash: "md5:..." or "sha256:...". Raises: DownloadFailed.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it has a handler of its own, on stderr
    name = url.rsplit("/", 1)[-1]
    downloader = _Resuming(folder / f"{name}.part", progress)
    cache = pooch.create(
        folder,
        base_url="",
        registry={name: known_hash},
        urls={name: url},
        retry_if_failed=_RETRIES,
    )
    try:
        return Path(cache.fetch(name, downloader=downloader))
    except requests.RequestException as error:
        raise DownloadFailed(f"{url} cannot be fetched: {_reason(error)}") from error
    except ValueError as error:  # pooch's own, once the hash has failed each time
        raise DownloadFailed(f"{url} does not send the file with the hash {known_hash}") from error


@dataclass(frozen=True)
class _Resuming:
    """A pooch downloader that collects the file in `part` and moves it when it is whole."""

    part: Path
    progress: Progress | None

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        import requests

        have = self.part.stat().st_size if self.part.exists() else 0
        # identity: the offset of a range counts the bytes that are sent, compressed or not.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(url, headers=headers, stream=True, timeout=_SECONDS) as response:
            # 416: nothing is left to send; whether `part` is the whole file, its hash decides.
            if response.status_code != requests.codes.requested_range_not_satisfiable:
                response.raise_for_status()
                self._receive(response, have)
        self.part.replace(output_file)

    def _receive(self, response: "Response", have: int) -> None:
        import requests
        from urllib3.exceptions import HTTPError

        resumed = response.status_code == requests.codes.partial_content
        have = have if resumed else 0  # a host without ranges starts again
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        with self.part.open("ab" if resumed else "wb") as file:
            try:
                # Not iter_content, which undoes a Content-Encoding: the hash is of what is sent.
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    have += file.write(chunk)
                    if self.progress is not None:
                        self.progress(have, total)
            except HTTPError as error:
                # As requests reports it from iter_content; pooch tries such errors again.
                raise requests.exceptions.ChunkedEncodingError(
                    f"the connection broke after {have} of {total or 'unknown'} bytes"
                ) from error


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError | requests.exceptions.ChunkedEncodingError):
        return str(error)
    if isinstance(error, requests.Timeout):
        return f"no answer for {_SECONDS} seconds"
    # The innermost cause says it in a few words; requests wraps it in a page of object names.
    while isinstance(cause := error.__cause__ or error.__context__, Exception):
        error = cause
    return str(error) or type(error).__name__
