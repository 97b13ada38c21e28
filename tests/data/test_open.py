import pytest

from robench.core.errors import InputError
from robench.data.open import describe, load_evalset


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny-imagenet"])
def test_what_is_missing_says_how_to_get_it(home, name):
    with pytest.raises(InputError) as caught:
        load_evalset(name)
    assert str(caught.value) == f"{name} is not on this machine: run `robench data fetch {name}`"


def test_it_reads_from_the_users_data_folder(home, write_cifar10):
    written = write_cifar10(home / "data" / "cifar10", count=2)
    assert load_evalset("cifar10").labels.tolist() == written["test_batch"][1].tolist()
    assert len(load_evalset("cifar10", "train")) == 10


def test_it_reads_from_another_root(home, tmp_path, write_cifar10):
    write_cifar10(tmp_path / "elsewhere", count=2)
    assert len(load_evalset("cifar10", root=tmp_path / "elsewhere")) == 2
    with pytest.raises(InputError, match="nowhere does not hold cifar10"):
        load_evalset("cifar10", root=tmp_path / "nowhere")


def test_an_unknown_part_lists_the_parts(home):
    with pytest.raises(InputError, match="cifar10 has no part 'val': it has test and train"):
        load_evalset("cifar10", "val")


def test_describe_says_that_files_differ_from_the_published_ones(home, write_cifar10):
    write_cifar10(home / "data" / "cifar10")
    facts = describe("cifar10", "train")
    assert facts["hash_state"] == "differs"
    assert (facts["images"], facts["classes"], facts["shape"]) == (15, 10, [3, 32, 32])
    assert facts["digest"] == load_evalset("cifar10", "train").digest
