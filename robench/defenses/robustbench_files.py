"""Where the checkpoint of a RobustBench id lies, and how to get it.

Looked for as `models/<dataset>/<threat>/<id>.pt`, in the current folder as RobustBench does, then
in the user's folder, where downloads go.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robench.core.errors import InputError, RunError
from robench.core.folders import models_folder
from robench.models.robustbench_compat import inside_robustbench
from robench.models.weights import check_opens, is_web_page


@dataclass(frozen=True)
class Part:
    """One checkpoint file of an id; ensembles have several.

    place: below the model folder. url: for a browser. drive: Google Drive's id of the file, None
    where it lies elsewhere.
    """

    place: Path
    url: str
    drive: str | None = None


def find_files(what: str, parts: Sequence[Part]) -> tuple[Path, list[str]]:
    """The model folder that holds every part, and the SHA-256 of each.

    Parts that are in no folder are downloaded. what: names the reference in errors.
    Raises: InputError when a part is not there and cannot be downloaded, or does not open as
    weights only (a saved web page, pickled objects, a damaged file); RunError for a full disk.
    """
    places = (Path("models"), models_folder())
    whole = [folder for folder in places if all((folder / p.place).is_file() for p in parts)]
    folder = whole[0] if whole else places[-1]
    for part in parts:
        if not (folder / part.place).is_file():
            _download(what, part, folder / part.place)
    return folder, [check_opens(folder / part.place) for part in parts]


def _download(what: str, part: Part, target: Path) -> None:
    """Whole or not at all, and never a web page."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that it can be renamed; gdown leaves pieces of its own.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
            partial = Path(folder) / "file"
            reason = _why_not_fetched(part, partial)
            if reason is None:
                partial.replace(target)
                return
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}") from error
    raise InputError(
        f"{what}: there is no {Path('models') / part.place}, and the download is impossible here "
        f"({reason}): get {part.url} with a browser and save it as {target}"
    )


def _why_not_fetched(part: Part, path: Path) -> str | None:
    """None once the file is at `path`."""
    try:
        _fetch(part, path)
    # gdown, requests and torch.hub each raise their own kinds.
    except (Exception, SystemExit) as error:
        # Only what the system itself reports has a number: a full disk is no failed download.
        if isinstance(error, OSError) and error.errno:
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
    if not path.is_file() or not path.stat().st_size:
        return "nothing came"
    with path.open("rb") as file:
        return "a web page came instead of the file" if is_web_page(file.read(512)) else None


def _fetch(part: Part, path: Path) -> None:
    with inside_robustbench():
        if part.drive is None:
            from torch.hub import download_url_to_file

            download_url_to_file(part.url, str(path), progress=False)
        else:
            import gdown

            gdown.download(id=part.drive, output=str(path), quiet=True)
