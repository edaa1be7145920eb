"""The command line as a person meets it: help with examples, one sentence per mistake, nothing lost."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

COMMANDS = [('tour',), ('data', 'simulate'), ('data', 'convert'), ('data', 'questions'), ('data', 'bench'), ('train', 'sft'), ('train', 'vision'), ('train', 'base'), ('evaluate',), ('preflight',), ('ask',), ('data', 'export'), ('train', 'merge'),
            ('score', 'records'), ('score', 'blind'), ('score', 'vlm4d'), ('figures',), ('reproduce',), ('app',)]


def track4d(*words, **environment):
    return subprocess.run([sys.executable, '-m', 'track4d_ref.cli', *map(str, words)], capture_output=True, text=True, timeout=300,
                          env={**os.environ, 'COLUMNS': '160', **environment})


def test_help_lists_every_command_and_is_quick():
    done = track4d('--help')
    assert done.returncode == 0
    for word in {command[0] for command in COMMANDS}: assert word in done.stdout


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_every_help_shows_an_example(command):
    done = track4d(*command, '--help')
    assert done.returncode == 0 and f'Example: track4d {" ".join(command)}' in done.stdout


def fails_with(words, *command):
    done = track4d(*command)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith('track4d: '), done.stderr
    assert 'Traceback' not in done.stderr and words in done.stderr


def test_all_stored_results_are_shown_and_missing_ones_named():
    done = track4d('reproduce', 'all', '--from-results', '--json')
    told = json.loads(done.stdout)
    names = [stored['experiment'] for stored in told['results']]
    assert done.returncode == 0 and 'table2' in names and not set(names) & set(told['missing'])
    from track4d_ref.reproduce import EXPERIMENTS
    assert {*names, *told['missing']} == set(EXPERIMENTS)


def test_wrong_preset_key_is_named(tmp_path):
    fails_with("unknown key 'framse'", 'data', 'simulate', '--n', 2, '--out', tmp_path / 'clips', '--set', 'framse=4')
    assert not (tmp_path / 'clips').exists()


def test_wrong_preset_is_named(tmp_path):
    fails_with("preset 'huge'", 'tour', '--preset', 'huge', '--out', tmp_path)
    assert sorted(tmp_path.iterdir()) == []


def test_missing_files_are_named(tmp_path):
    nowhere = tmp_path / 'nowhere'
    fails_with(str(nowhere), 'data', 'questions', '--clips', nowhere)
    fails_with(str(nowhere), 'train', 'sft', '--data', nowhere, '--out', tmp_path / 'model')
    fails_with(str(nowhere), 'score', 'records', '--answers', nowhere)
    fails_with(str(nowhere), 'data', 'convert', 'kitti', nowhere, '--out', tmp_path / 'kitti')
    assert sorted(tmp_path.iterdir()) == []


def test_a_conversion_of_which_nothing_is_left_fails_and_says_why(tmp_path):
    (tmp_path / 'kitchen.npz').write_bytes(b'PK cut off')
    done = track4d('data', 'convert', 'own', tmp_path / 'kitchen.npz', '--out', tmp_path / 'clips')
    assert done.returncode == 2 and '0 clips written' in done.stdout and 'skipped own_kitchen' in done.stdout
    frames = np.zeros((4, 40, 60, 3), np.uint8)
    np.savez(tmp_path / 'desk.npz', frames=frames, K=[[50.0, 0, 31], [0, 51, 21], [0, 0, 1]], w2c=np.tile(np.eye(4), (4, 1, 1)), fps=5.0)
    done = track4d('data', 'convert', 'own', tmp_path, '--out', tmp_path / 'both', '--size', '20x30')
    assert done.returncode == 0 and '1 clips written' in done.stdout and 'skipped' in done.stdout
    again = track4d('data', 'convert', 'own', tmp_path, '--out', tmp_path / 'both', '--size', '20x30')
    assert again.returncode == 0 and '0 clips written' in again.stdout and '1 kept' in again.stdout


def test_simulate_questions_and_a_corrupt_clip(tmp_path):
    done = track4d('data', 'simulate', '--n', 3, '--seed', 5, '--out', tmp_path / 'clips', '--json')
    assert done.returncode == 0 and json.loads(done.stdout)['clips'] == 3
    done = track4d('data', 'questions', '--clips', tmp_path / 'clips', '--json')
    assert done.returncode == 0 and json.loads(done.stdout)['questions'] > 3, done.stderr
    clip = next(path for path in sorted((tmp_path / 'clips').iterdir()) if path.is_dir())
    (clip / 'world.npz').write_bytes(b'not an archive')
    for file in (tmp_path / 'clips').glob('questions_*.jsonl'): file.unlink()
    fails_with(clip.name, 'data', 'questions', '--clips', tmp_path / 'clips')
    assert not list((tmp_path / 'clips').glob('questions_*.jsonl'))


def test_the_base_command_fills_the_plan(tmp_path, monkeypatch):
    "The training itself is tested elsewhere; here the options must reach it."
    from typer.testing import CliRunner
    from track4d_ref import base
    from track4d_ref.train_commands import train
    seen, scores = {}, dict(all=dict(percent=50.0, questions=2))
    monkeypatch.setattr(base, 'train_base', lambda out, preset, plan, progress: seen.update(plan=plan) or dict(seeing=scores, blind=scores))
    done = CliRunner().invoke(train, ['base', '--out', str(tmp_path), '--clips', '7', '--naming', '5', '--lessons', '3', '--seed', '2'])
    assert done.exit_code == 0 and '50.0 %' in done.output
    assert seen['plan'] == base.BasePlan(clips=7, naming_steps=5, lesson_steps=3, seed=2)
    CliRunner().invoke(train, ['base', '--out', str(tmp_path)])
    assert seen['plan'] == base.BasePlan()
