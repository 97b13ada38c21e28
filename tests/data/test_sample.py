import hashlib
import time

import numpy as np
import pytest

from robench.core.errors import InputError
from robench.data.cifar import CIFAR10
from robench.data.open import base_name, load_evalset
from robench.data.sample import CIFAR10_SAMPLE, encode_sample, read_sample

# Of the first 500 records of the official test_batch.bin, whose own hash is in cifar.py.
RECORDS_SHA256 = "ba456e78b292ef2a6e366d304e587255370906951905b2e06af8e9f54f412f62"


def test_it_is_the_first_500_records_of_the_official_test_batch():
    sample = load_evalset("cifar10-sample")
    labels = sample.labels.astype(np.uint8)[:, None]
    records = np.concatenate([labels, sample.images.reshape(500, -1)], axis=1)
    assert hashlib.sha256(records.tobytes()).hexdigest() == RECORDS_SHA256
    assert sample.ids.tolist() == list(range(500))
    assert sample.name == "cifar10-sample"


@pytest.mark.full_cifar10
def test_it_shares_its_digest_with_the_first_500_of_cifar10(full_cifar10):
    cifar10 = CIFAR10.read(full_cifar10, "test")
    assert load_evalset("cifar10-sample").digest == cifar10.first(500).digest


def test_defenses_for_cifar10_fit_it():
    assert base_name("cifar10-sample") == base_name("cifar10") == "cifar10"


def test_the_file_is_the_published_one():
    assert CIFAR10_SAMPLE.hash_state(CIFAR10_SAMPLE.folder) == "verified"


def test_what_is_encoded_is_what_is_read(tmp_path):
    sample = load_evalset("cifar10-sample")
    (tmp_path / "cifar10_sample.png").write_bytes(encode_sample(sample))
    assert read_sample(tmp_path, "test").digest == sample.digest


def test_it_loads_in_milliseconds():
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        load_evalset("cifar10-sample")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.2  # 20 ms measured; the rest is room for a busy machine


def test_it_has_no_training_part():
    with pytest.raises(InputError, match="cifar10-sample has no part 'train': it has test"):
        load_evalset("cifar10-sample", "train")


def test_a_damaged_installation_says_so(tmp_path):
    with pytest.raises(InputError, match="install robench again"):
        read_sample(tmp_path, "test")
