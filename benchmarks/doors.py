"""What a door of the README costs: wall time and peak memory of its command, written to results/door_NAME.json.

    python benchmarks/doors.py tour_notebook        the tour notebook from top to bottom, two threads
    python benchmarks/doors.py demo                 track4d tour at its full budget
"""
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from track4d_ref.presets import load_preset
from track4d_ref.runcard import run_card
from track4d_ref.storage import write_json

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def command_of(name: str, folder: Path) -> list[str]:
    """The command that is timed; what it writes goes into `folder`."""
    commands = {'tour_notebook': [BIN / 'jupyter', 'nbconvert', '--to', 'notebook', '--execute', ROOT / 'nbs/00_tour.ipynb',
                                  '--output-dir', folder, '--ExecutePreprocessor.timeout=600'],
                'demo': [BIN / 'track4d', 'tour', '--out', folder / 'tour']}
    if name not in commands: raise SystemExit(f'{name}: no such door; choose from {", ".join(commands)}')
    return list(map(str, commands[name]))


def main(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command, started = command_of(name, Path(folder)), time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True)
        wall_s = time.perf_counter() - started
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2 ** 20
    shown = f'python benchmarks/doors.py {name}'
    write_json(ROOT / 'results' / f'door_{name}.json', {'card': run_card(shown, load_preset('tiny'), 0), 'wall_s': round(wall_s, 1), 'peak_gib': round(peak_gib, 2)})
    print(f'{name}: {wall_s / 60:.1f} minutes, {peak_gib:.1f} GiB in the largest process')


if __name__ == '__main__':
    main(*sys.argv[1:] or ['tour_notebook'])
