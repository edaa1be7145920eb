"""Every command of the front page is executed, with small stand-ins for what is large or licensed; links and marks are checked."""
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sources import write_kitti
from test_vlm4d import bench  # noqa: F401  a small VLM4D with recorded outputs

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text(encoding='utf-8')
COMMANDS = [line.split(' #')[0].strip() for block in re.findall(r'```bash\n(.*?)```', README, re.S) for line in block.splitlines()]
TRACK4D = [command for command in COMMANDS if command.startswith('track4d')]
QUICK = '--set train_steps=3 --set train_clips=6 --set eval_clips=4 --set batch_clips=2'
ADAPTERS = f'--preset tiny {QUICK} --set lora_rank=4'


def small(command: str, base: Path) -> list[str]:
    """A command of the front page at a size that a test can pay."""
    command = command.replace('Qwen/Qwen2.5-VL-3B-Instruct', str(base))
    if ' train sft' in command: command = command.replace('--preset rtx24', ADAPTERS) + ('' if 'rtx24' in command else f' {QUICK}')
    command = command.replace('--n 200', '--n 3').replace('--preset rtx24', '--preset tiny').replace('--preset small', '--preset tiny')
    return shlex.split(command + (f' {QUICK}' if command.startswith('track4d tour') else ''))


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != 'TRACK4D_DATA'}
    return subprocess.run([sys.executable, '-m', 'track4d_ref.cli', *words[1:]], cwd=folder, capture_output=True, text=True, timeout=600,
                          env=environment | {'PYTHONPATH': str(ROOT)})


def answers_when_served(words: list[str], folder: Path) -> None:
    """Start the app, wait for its page, stop it."""
    command = [sys.executable, '-m', 'track4d_ref.cli', *words[1:], '--no-browser', '--port', '8765']
    environment = {name: value for name, value in os.environ.items() if name != 'PYTEST_CURRENT_TEST'} | {'PYTHONPATH': str(ROOT)}
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        for _ in range(240):
            assert server.poll() is None, server.stdout.read()
            try: page = urllib.request.urlopen('http://127.0.0.1:8765', timeout=60).read(); break
            except OSError: time.sleep(0.5)
        assert b'track4d' in page
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.timeout(1800)
def test_every_track4d_command_runs_in_the_order_of_the_page(tmp_path, bench):  # noqa: F811
    kitti = write_kitti(tmp_path / 'KITTI_ROOT')
    (kitti / 'image_02' / '0000').mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (4, 370, 1224, 3), dtype=np.uint8)
    for frame in range(4): Image.fromarray(noise[frame]).save(kitti / 'image_02' / '0000' / f'{frame:06d}.png')
    shutil.copytree(bench, tmp_path / 'VLM4D' / 'data')
    shutil.copytree(bench / 'outputs', tmp_path / 'VLM4D' / 'processed_outputs_paper_results')
    (tmp_path / 'runs').mkdir()
    row = {'id': 'one', 'clip': 'c', 'type': 'depth', 'category': 'depth', 'choices': ['x', 'y'], 'truth': 'A', 'answer': 'A', 'correct': True}
    (tmp_path / 'runs' / 'answers.jsonl').write_text(json.dumps(row) + '\n')
    skipped = []
    for command in TRACK4D:
        words = small(command, ROOT / 'data_samples' / 'tour_model')
        if 'answers.jsonl' in command and 'evaluate' in command: (tmp_path / 'runs' / 'answers.jsonl').unlink()
        if ('lora_rank=4' in words or 'merge' in words) and not importlib.util.find_spec('peft'): skipped.append(command); continue
        if words[1] == 'app':
            if importlib.util.find_spec('nicegui'): answers_when_served(words, tmp_path)
            else: skipped.append(command)
            continue
        done = run(words, tmp_path)
        assert done.returncode == 0, f'{command}\n{done.stdout[-1500:]}{done.stderr[-1500:]}'
    assert kitti.is_dir() and (tmp_path / 'runs/tour/report.html').exists() and (tmp_path / 'runs/run/model').is_dir()
    print(f'{len(TRACK4D) - len(skipped)} of {len(TRACK4D)} commands ran; without their extras: {skipped}')
    assert len(TRACK4D) >= 12 and len(skipped) <= 3


def test_other_commands_name_what_exists(tmp_path):
    extras = re.search(r'\[project.optional-dependencies\](.*?)\n\[', (ROOT / 'pyproject.toml').read_text(), re.S)[1]
    checked = 0
    for command in COMMANDS:
        words = shlex.split(command)
        if not words or words[0] == 'track4d': continue
        if words[0] == 'make':
            done = subprocess.run(['make', '-n', *words[1:]], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        elif words[:2] == ['git', 'clone']:
            if not (ROOT / '.git').exists(): continue
            done = subprocess.run(['git', 'clone', '-q', str(ROOT), str(tmp_path / words[-1])], capture_output=True, text=True)
            assert done.returncode == 0 and (tmp_path / words[-1] / 'constraints.txt').exists(), done.stderr
        elif words[0] == 'pip':
            for extra in re.findall(r'\[(\w+)\]', words[-1]): assert re.search(rf'^{extra} = ', extras, re.M), command
            assert words[1:3] == ['install', '-c'] and words[3].endswith('constraints.txt')
        elif words[0] == 'hf': assert words[1] == 'download' and words[2] in (ROOT / 'settings.ini').read_text()
        else: raise AssertionError(f'no check for: {command}')
        checked += 1
    assert checked >= 6


def test_generated_tables_are_in_step():
    spec = importlib.util.spec_from_file_location('readme_tables', ROOT / 'tools' / 'readme_tables.py')
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert tables.renewed_readme() == README


def test_doors_say_what_nobody_has_measured():
    table = re.search(r'<!-- doors -->\n(.*?)<!-- end of doors -->', README, re.S)[1]
    rows = [[cell.strip() for cell in row.strip('|').split('|')] for row in table.splitlines()[2:]]
    assert len(rows) == 4
    for _, _, minutes, memory, number in rows:
        cells = (minutes, memory, number)
        assert all(cell == 'not measured' for cell in cells) or (float(minutes) > 0 and memory.endswith('GiB') and re.search(r'\d', number))
    for path in (ROOT / 'results').glob('door_*.json'):
        stored = json.loads(path.read_text())
        assert stored['card']['command'] and stored['wall_s'] > 0 and stored['peak_gib'] > 0


def test_badges_lead_to_notebooks_of_a_named_repository():
    address = re.search(r'^Repository = "https://github.com/([\w.-]+/[\w.-]+)"', (ROOT / 'pyproject.toml').read_text(), re.M)
    links = re.findall(r'https://colab\.research\.google\.com/github/([\w./-]+)', README)
    assert bool(links) == bool(address)
    for link in links:
        assert link.startswith(f'{address[1]}/blob/main/nbs/') and (ROOT / 'nbs' / Path(link).name).exists()
