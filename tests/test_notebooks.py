"""Every notebook runs from top to bottom in a fresh interpreter."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize('path', sorted((ROOT / 'nbs').glob('*.ipynb')), ids=lambda path: path.stem)
def test_notebook_runs(path):
    runner = Path(sys.executable).parent / 'nbdev-test'
    if not runner.exists(): pytest.skip('nbdev is not installed in this environment')
    environment = {**os.environ, 'MPLBACKEND': 'Agg'}
    done = subprocess.run([str(runner), '--n-workers', '0', str(path)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
