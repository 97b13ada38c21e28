import subprocess
import sys

import pytest

from robench.data import DATASETS
from robench.data.dataset import Dataset


def test_the_table_needs_no_numpy():
    code = "import robench.data, sys; sys.exit('numpy' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", DATASETS.lines)
def test_every_line_leads_to_the_dataset_of_its_name(name):
    dataset = DATASETS.load(name)
    assert isinstance(dataset, Dataset)
    assert dataset.name == name
    assert dataset.base in DATASETS.group(dataset.base)
    assert name in DATASETS.group(dataset.base)
    assert DATASETS.help(name)
