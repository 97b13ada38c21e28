"""Image folders: `root/<class>/<image>`, PNG or JPEG, one size per set; `root/classes.txt` may be.

What the labels are is told from the names of the class folders: `label_order.py`.
"""

from pathlib import Path

import numpy as np

from robench.core.errors import InputError
from robench.data import DATASETS
from robench.data.class_list import read_class_list
from robench.data.evalset import EvalSet
from robench.data.label_order import LabelOrder, listed_order, understood_order
from robench.data.pixels import decode_image

CLASS_LIST = "classes.txt"
"""The file in an image folder that gives the order of its classes."""
_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_folder(root: Path, class_order: str | None = None) -> EvalSet:
    """The images of a folder as an EvalSet.

    Labels follow the class list where there is one (the file `class_order`, else `classes.txt` in
    the folder), else what the names of the class folders say; ids the sorted (class, file name),
    whatever the labels. Hidden files and files of other kinds are passed over.
    Raises: InputError for no classes, an empty class, an unreadable image, two sizes, or a class
    list that does not name every class folder.
    """
    classes = sorted(path for path in root.iterdir() if _shown(path) and path.is_dir())
    if not classes:
        raise InputError(f"{root} has no class folders: expected {root.name}/<class>/<image>.png")
    order = _label_order(root, [folder.name for folder in classes], class_order)
    files = [(path, order.label_of[f.name]) for f in classes for path in _images(f)]
    first = _decoded(files[0][0], root)
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    for place, (path, _) in enumerate(files):
        pixels = _decoded(path, root)
        if pixels.shape != first.shape:
            raise InputError(
                f"{root} holds two sizes: {_size(files[0][0], root, first)} and "
                f"{_size(path, root, pixels)}; a set has one size"
            )
        images[place] = pixels
    return EvalSet(
        name=folder_name(root),
        images=images,
        labels=np.array([label for _, label in files], dtype=np.int64),
        ids=np.arange(len(files), dtype=np.int64),
        class_names=order.class_names,
        notes=(order.note,),
        class_order=class_order,
    )


def _label_order(root: Path, names: list[str], class_order: str | None) -> LabelOrder:
    if class_order is not None:
        path = Path(class_order).expanduser()
        return listed_order(names, read_class_list(path), path.name)
    if (root / CLASS_LIST).is_file():
        return listed_order(names, read_class_list(root / CLASS_LIST), CLASS_LIST)
    return understood_order(names)


def folder_name(root: Path) -> str:
    """The set's name: the folder's, set apart where a data set of the table has it."""
    name = root.resolve().name or "root"
    return f"folder-{name}" if name in DATASETS.names() else name


def _shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _images(folder: Path) -> list[Path]:
    found = sorted(
        path for path in folder.iterdir() if _shown(path) and path.suffix.lower() in _SUFFIXES
    )
    if not found:
        raise InputError(f"class folder {folder} holds no PNG or JPEG image")
    return found


def _decoded(path: Path, root: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        return decode_image(path.read_bytes(), str(path.relative_to(root)))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _size(path: Path, root: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    return f"{path.relative_to(root)} is {pixels.shape[2]}x{pixels.shape[1]}"
