import os
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')      # small tensors: one thread is faster than two that wait for each other

import matplotlib
import pytest

matplotlib.use('Agg')
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='session')
def root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def data_root() -> Path:
    """The folder of real samples; skips the test where there is none."""
    place = os.environ.get('TRACK4D_DATA')
    if not place: pytest.skip('TRACK4D_DATA is not set: no real samples here')
    if not Path(place).is_dir(): pytest.skip(f'TRACK4D_DATA={place} is not a folder')
    return Path(place)
