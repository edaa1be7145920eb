"""The practitioner's walk of 29_one_gpu, command by command: each ends well, a killed training goes on, the merged model answers alike."""
import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from track4d_ref.cli import main
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clips

pytest.importorskip('peft'); pytest.importorskip('bitsandbytes')
NOTEBOOK = nbformat.read(Path(__file__).parent.parent / 'nbs' / '29_one_gpu.ipynb', as_version=4)
SOURCES = [cell.source for cell in NOTEBOOK.cells if cell.cell_type == 'code']
WALK = [shlex.split(line) for line in re.search(r'WALK = """\n(.*?)"""', '\n'.join(SOURCES), re.S)[1].strip().splitlines()]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with recordings, written by the notebook's own function."
    folder, names = tmp_path_factory.mktemp('walk'), dict(np=np, simulate_clips=simulate_clips, load_preset=load_preset)
    source = next(source for source in SOURCES if source.startswith('def write_recordings'))
    exec(source[:source.index('\nworkplace')], names)
    names['write_recordings'](folder / 'recordings', 6)
    return folder


def start(words, place):
    assert words[0] == 'track4d'
    return subprocess.Popen([sys.executable, '-m', 'track4d_ref.cli', *words[1:]], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent.parent)})


def run(words, place):
    "A command in this process, in that folder: what it printed."
    printed, before = io.StringIO(), Path.cwd()
    os.chdir(place)
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
        try: main(words[1:])
        finally: os.chdir(before)
    assert not end.value.code, shlex.join(words)
    return printed.getvalue()


def swapped(words, old, new): return [new if word == old else word for word in words]


@pytest.mark.slow
def test_the_walk(place):
    assert [' '.join(words[1:3]) for words in WALK] == ['data convert', 'data questions', 'preflight --data', 'train sft', 'train merge', 'ask --model',
                                                        'evaluate --model', 'data export']
    for words in WALK[:3]: told = run(words, place)
    assert '⟦' in told and 'one step on the longest row' in told and 'peak memory' in told
    killed = start(WALK[3], place)
    while not list((place / 'run').glob('checkpoint/step-*')) and killed.poll() is None: time.sleep(0.02)
    killed.send_signal(signal.SIGKILL); killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (place / 'run' / 'adapter').exists()
    run(WALK[3], place); run(swapped(WALK[3], 'run', 'whole'), place)
    resumed, whole = ((place / name / 'adapter' / 'adapter_model.safetensors').read_bytes() for name in ('run', 'whole'))
    assert resumed == whole
    run(WALK[4], place)
    assert run(WALK[5], place) == run(swapped(WALK[5], 'merged', 'run/adapter'), place)
    run(WALK[6], place); run(WALK[7], place)
    answers = [json.loads(line) for line in (place / 'answers.jsonl').read_text().splitlines()]
    exported = [json.loads(line) for line in (place / 'swift' / 'swift.jsonl').read_text().splitlines()]
    assert len(exported) == len(answers) > 6 and all((place / 'swift' / sample['videos'][0]).exists() for sample in exported)


def test_ask_needs_a_clip_and_preflight_one_source(tmp_path):
    for words, match in ((['track4d', 'ask', '--model', 'm', '--clip', 'no.mp4', '--question', 'x'], 'no such clip or video'),
                         (['track4d', 'preflight'], 'either --data or --config'),
                         (['track4d', 'preflight', '--config', '9B'], '3B, 7B')):
        process = start(words, tmp_path)
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 2 and match in errors and len(errors.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
