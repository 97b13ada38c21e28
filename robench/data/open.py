"""From what a user types to an EvalSet: a name of the table, or the path of an image folder."""

import os
from pathlib import Path

from robench.core.errors import InputError
from robench.data import DATASETS
from robench.data.dataset import Dataset
from robench.data.evalset import EvalSet
from robench.data.folder import folder_name, read_folder


def load_evalset(
    name: str,
    part: str = "test",
    root: Path | None = None,
    class_order: Path | str | None = None,
) -> EvalSet:
    """The images of a data set, all of a part.

    name: of the table, or the path of an image folder (`./cifar10` where the name is taken).
    part: "test", or "train" where the data set has it. root: where its files lie, by default the
    user's data folder. class_order: a file with the classes of an image folder, one name a line, in
    the order of the labels.
    Raises: InputError for unknown names and parts, files that are not there, or damaged ones, and
    for a class order where the data set has its own.
    """
    if (folder := _image_folder(name)) is not None:
        _check_part(name, part, ("test",))
        return read_folder(folder, None if class_order is None else str(class_order))
    check_no_class_order(name, class_order)
    dataset: Dataset = DATASETS.load(name)
    _check_part(name, part, dataset.parts)
    return dataset.read(root or dataset.folder, part)


def check_no_class_order(name: str, class_order: Path | str | None) -> None:
    """Raises: InputError for a class order given to a set that is no image folder."""
    if class_order is not None:
        raise InputError(
            f"--class-order {class_order} is for image folders: {name} has an order of its own; "
            "leave the option out"
        )


def base_name(name: str) -> str:
    """The data set whose defenses fit: "cifar10" for "cifar10-sample", else the set's own name."""
    if (folder := _image_folder(name)) is not None:
        return folder_name(folder)
    dataset: Dataset = DATASETS.load(name)
    return dataset.base


def describe(name: str, part: str = "test") -> dict[str, object]:
    """What there is to know about a data set on this machine, ready for JSON.

    hash_state: "verified" (every file has its published hash), "differs" (one has not), or
    "unknown" (none was published, as for image folders).
    """
    evalset = load_evalset(name, part)
    folder = _image_folder(name)
    if folder is None:
        dataset: Dataset = DATASETS.load(name)
        path, state = dataset.folder, dataset.hash_state(dataset.folder)
    else:
        path, state = folder.resolve(), "unknown"
    return {
        "name": evalset.name,
        "base": base_name(name),
        "part": part,
        "path": str(path),
        "images": len(evalset),
        "classes": evalset.num_classes,
        "shape": list(evalset.images.shape[1:]),
        "digest": evalset.digest,
        "hash_state": state,
    }


def _image_folder(name: str) -> Path | None:
    if name in DATASETS.names():
        return None
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if os.sep in name or (os.altsep and os.altsep in name):
        raise InputError(f"there is no folder {name}: expected <folder>/<class>/<image>.png")
    return None


def _check_part(name: str, part: str, parts: tuple[str, ...]) -> None:
    if part not in parts:
        raise InputError(f"{name} has no part {part!r}: it has {' and '.join(parts)}")
