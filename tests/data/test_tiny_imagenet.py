import io
import itertools
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from robench.core.errors import InputError
from robench.data.tiny_imagenet import TINY_IMAGENET, read_tiny_imagenet

ARCHIVE = "tiny-imagenet-200.zip"
pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def real(tmp_path_factory, tiny_zip):
    root = tmp_path_factory.mktemp("tiny")
    (root / ARCHIVE).symlink_to(tiny_zip)
    return root, read_tiny_imagenet(root, "test")


@pytest.fixture(scope="module")
def members(tiny_zip):
    """Real members of two classes, three training and two validation images of each."""
    with zipfile.ZipFile(tiny_zip) as file:
        wnids = file.read("tiny-imagenet-200/wnids.txt").decode().split()[:2]
        lines = file.read("tiny-imagenet-200/val/val_annotations.txt").decode().splitlines()
        rows = [[x for x in lines if x.split("\t")[1] == wnid][:2] for wnid in wnids]
        kept = sorted(itertools.chain(*rows), key=lambda row: int(row.split("\t")[0][4:-5]))
        names = ["words.txt", *(f"val/images/{row.split(chr(9))[0]}" for row in kept)]
        names += [f"train/{w}/images/{w}_{n}.JPEG" for w in wnids for n in (0, 10, 2)]
        found = {name: file.read(f"tiny-imagenet-200/{name}") for name in names}
    found["wnids.txt"] = "\n".join(sorted(wnids, reverse=True)).encode()
    found["val/val_annotations.txt"] = "\n".join(kept).encode()
    return found


def write_zip(root, members, prefix="tiny-imagenet-200/"):
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / ARCHIVE, "w") as file:
        for name, content in members.items():
            file.writestr(prefix + name, content)
    return root


def write_folder(root, members):
    for name, content in members.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def jpeg(size):
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "JPEG")
    return file.getvalue()


def test_the_real_validation_split(real, tiny_zip):
    _, evalset = real
    assert evalset.images.shape == (2000, 3, 64, 64)
    assert np.bincount(evalset.labels).tolist() == [10] * 200
    with zipfile.ZipFile(tiny_zip) as file:
        wnids = sorted(file.read("tiny-imagenet-200/wnids.txt").decode().split())
        lines = file.read("tiny-imagenet-200/val/val_annotations.txt").decode().splitlines()
        row = lines[777].split("\t")
        picture = Image.open(io.BytesIO(file.read(f"tiny-imagenet-200/val/images/{row[0]}")))
    assert evalset.labels[777] == wnids.index(row[1])
    assert row[0] == f"val_{evalset.ids[777]}.JPEG"
    np.testing.assert_array_equal(
        evalset.images[777].transpose(1, 2, 0), np.asarray(picture.convert("RGB"))
    )


def test_names_are_the_first_words(real):
    _, evalset = real
    assert evalset.class_names[:2] == ("goldfish", "European fire salamander")
    assert len(set(evalset.class_names)) == 200


def test_grey_images_have_three_equal_planes(real):
    images = real[1].images
    grey = (images[:, 0] == images[:, 1]).all(axis=(1, 2)) & (images[:, 1] == images[:, 2]).all(
        axis=(1, 2)
    )
    assert 10 < grey.sum() < 100  # about 2 % of Tiny-ImageNet


def test_the_subset_is_told_from_the_official_archive(real):
    assert TINY_IMAGENET.hash_state(real[0]) == "differs"


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_training_part(tmp_path, members, write):
    evalset = read_tiny_imagenet(write(tmp_path, members), "train")
    # Sorted ids give the labels, whatever the order of wnids.txt; numbers sort as numbers.
    assert evalset.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert evalset.ids.tolist() == [0, 2, 10, 500, 502, 510]
    first = sorted(members["wnids.txt"].decode().split())[0]
    picture = Image.open(io.BytesIO(members[f"train/{first}/images/{first}_10.JPEG"]))
    expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(evalset.images[2], expected)


@pytest.mark.parametrize("part", ["test", "train"])
def test_folders_and_archives_hold_the_same(tmp_path, members, part):
    digests = {
        read_tiny_imagenet(root, part).digest
        for root in (
            write_zip(tmp_path / "zip", members),
            write_zip(tmp_path / "flat", members, prefix=""),
            write_folder(tmp_path / "folder", members),
        )
    }
    assert len(digests) == 1


def changed(members, **changes):
    """The members with some replaced; None removes one. `val_images` stands for its first file."""
    names = {
        "annotations": "val/val_annotations.txt",
        "wnids": "wnids.txt",
        "val_images": next(name for name in members if name.startswith("val/images/")),
    }
    found = members | {names[key]: content for key, content in changes.items()}
    return {name: content for name, content in found.items() if content is not None}


@pytest.mark.parametrize("write", [write_zip, write_folder])
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"annotations": None}, r"val/val_annotations\.txt"),
        ({"annotations": b""}, "no image of the part 'test'"),
        ({"annotations": b"val_1.JPEG\tn99999999\t0"}, "line 1: expected"),
        ({"annotations": b"../../etc/passwd\tn01443537\t0"}, "line 1: expected"),
        ({"val_images": None}, r"val/images/val_\d+\.JPEG"),
        ({"val_images": b"no picture"}, "not a readable PNG or JPEG"),
        ({"val_images": jpeg((64, 32))}, "is 64x32: expected 64x64"),
    ],
)
def test_damage_is_named(tmp_path, members, write, changes, message):
    root = write(tmp_path, changed(members, **changes))
    with pytest.raises(InputError, match=message):
        read_tiny_imagenet(root, "test")


def test_training_files_of_unlisted_classes_are_refused(tmp_path, members):
    stranger = {"train/n99999999/images/n99999999_0.JPEG": jpeg((64, 64))}
    with pytest.raises(InputError, match=r"n99999999_0\.JPEG is no training file"):
        read_tiny_imagenet(write_zip(tmp_path, members | stranger), "train")


def test_training_numbers_beyond_500_would_take_another_place(tmp_path, members):
    wnid = members["wnids.txt"].decode().split()[0]
    stranger = {f"train/{wnid}/images/{wnid}_500.JPEG": jpeg((64, 64))}
    with pytest.raises(InputError, match="n below 500"):
        read_tiny_imagenet(write_zip(tmp_path, members | stranger), "train")


def test_a_damaged_archive_is_named(tmp_path, members):
    root = write_zip(tmp_path, members)
    content = (root / ARCHIVE).read_bytes()
    name = next(name for name in members if name.startswith("val/images/"))
    place = content.index(members[name]) + 200
    (root / ARCHIVE).write_bytes(content[:place] + b"\0\1\2\3" + content[place + 4 :])
    with pytest.raises(InputError, match=f"cannot read tiny-imagenet-200/{name}.*CRC"):
        read_tiny_imagenet(root, "test")
    (root / ARCHIVE).write_bytes(content[:-50])
    with pytest.raises(InputError, match="not a readable archive"):
        read_tiny_imagenet(root, "test")


def test_another_archive_under_the_name_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no wnids\.txt in it"):
        read_tiny_imagenet(write_zip(tmp_path, {"readme": b""}), "test")


def test_oversized_members_are_not_read(tmp_path, members):
    archive = write_zip(tmp_path, members)
    with zipfile.ZipFile(archive / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("wnids.txt", b"\0" * (1 << 25))
    with pytest.raises(InputError, match="larger than any official file"):
        read_tiny_imagenet(archive, "test")


def test_an_unpacked_official_folder_is_read_in_place(tmp_path, members):
    write_folder(tmp_path, members)
    assert TINY_IMAGENET.hash_state(tmp_path) == "unknown"
    shutil.rmtree(tmp_path / "tiny-imagenet-200" / "train")  # the test part needs none of it
    assert len(read_tiny_imagenet(tmp_path, "test")) == 4
