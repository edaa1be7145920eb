# %% [markdown]
# # LMM-Track4D on real paths
# > The shipped checkpoint on KITTI and WildTrack, how far it falls behind its score on simulated scenes, and what a short fine-tune changes.

# %%
#| default_exp track4d_real

# %% [markdown]
# #| export
# Real clips are *staged* (`19f_real_dialogues`): cameras, times and paths are real, the pictures are painted boxes, because the samples hold
# next to no pictures. The fine-tune sees some KITTI sequences and the first part of WildTrack's hour; the test is on the others.

# %% [markdown]
# * **What** `TRACK4D_REAL`, the experiment behind `track4d reproduce track4d-real`
# * **Why** a model of simulated scenes says little about streets until it is asked about streets
# * **Paper** LMM-Track4D trains and tests on KITTI, WildTrack and APIDIS and prints no transfer. **Everything here is [ours]**
# * **Needs** the stored result; to run it again, the checkpoint and `TRACK4D_DATA` with `kitti_tracking` and `wildtrack`
# * **Time** 20 seconds
# * **Before this** `19f_real_dialogues`, `26f_track4d_table`

# %%
#| export
import os
from pathlib import Path

import numpy as np

from track4d_ref.experiments import Experiment, read_result, step
from track4d_ref.lesson_store import with_features
from track4d_ref.presets import Preset
from track4d_ref.real_dialogues import dialogues_of, kitti_windows, wildtrack_windows
from track4d_ref.runcard import data_hash
from track4d_ref.storage import InputError, project_path
from track4d_ref.track4d_runs import load_small
from track4d_ref.track4d_table import FULL, KEYS, ask_modes, cell, estimate, listed, mean_path, rows_from, signed
from track4d_ref.track4d_training import Lesson, Track4DPlan, make_lesson, train_track4d
from track4d_ref.trajectory_scores import PathAnswer
from track4d_ref.vlm import layout_of

# %%
import matplotlib.pyplot as plt

from track4d_ref.viz import PALETTE, use_style

use_style()

# %% [markdown]
# ## Lessons from real clips
#
# Both data sets are cut by what a model could remember: KITTI by sequence, WildTrack by time.

# %%
#| export
KITTI_TRAIN, KITTI_TEST = ('0000', '0002', '0003', '0010', '0012'), ('0001', '0005', '0016', '0018')
WILDTRACK_CUT = 240                  # annotated frames before it are trained on, those after it are the test

def data_root() -> Path:
    "The folder of real samples that TRACK4D_DATA names; InputError if it lacks them."
    root = Path(os.environ.get('TRACK4D_DATA', 'data'))
    missing = [name for name in ('kitti_tracking', 'wildtrack') if not (root / name).is_dir()]
    if missing: raise InputError(f'{root}: holds no {missing[0]}; set TRACK4D_DATA to a folder with the samples')
    return root

def real_lessons(model, root: Path, most: int = 8) -> dict[str, list[Lesson]]:
    "'kitti train', 'kitti test', 'wildtrack train', 'wildtrack test' → lessons as the model's tower sees them."
    parts = {f'kitti {part}': [clip for name in names for clip in kitti_windows(root / 'kitti_tracking', name, most=most)]
             for part, names in (('train', KITTI_TRAIN), ('test', KITTI_TEST))}
    parts |= {'wildtrack train': wildtrack_windows(root / 'wildtrack', 0, WILDTRACK_CUT), 'wildtrack test': wildtrack_windows(root / 'wildtrack', WILDTRACK_CUT, 400)}
    layout = layout_of(model.vlm)
    return {part: [with_features(model.vlm, make_lesson(clip, dialogue, layout)) for clip in clips for dialogue in dialogues_of(clip)]
            for part, clips in parts.items()}

# %% [markdown]
# ## The experiment

# %%
#| export
FINE_TUNE = Track4DPlan(steps=60, batch=8, learning_rate=5e-4, save_every=20)

def checkpoint_folder() -> Path:
    "The trained model that ships with the project."
    return project_path('data_samples/track4d_tiny')

def still_rows(lessons: list[Lesson]) -> list[PathAnswer]:
    "The required trajectories of some lessons, without answers."
    return [PathAnswer(l.dialogue.id, order, l.dialogue.turns[number].xyz_m, None, labels=l.dialogue.turns[number].labels)
            for l in lessons for order, number in enumerate(l.dialogue.path_turns, 1)]

def scores(name_rows: dict[str, list[dict]]) -> dict[str, dict]:
    "All scores of some sets of one seed."
    return {name: {key: listed(estimate([rows], key)) for key in KEYS} | {'n': len(rows)} for name, rows in name_rows.items()}

def run_real(preset: Preset, folder: Path, seed: int) -> dict:
    "Scores on both real tests before and after the fine-tune, beside constant velocity and the mean training path."
    model = load_small(checkpoint_folder())
    lessons = real_lessons(model, data_root())
    key = dict(checkpoint=data_hash([checkpoint_folder()]), plan=vars(FINE_TUNE))
    ask = lambda part: ask_modes(model, lessons[part], ['self'])['self']
    tests = ('kitti test', 'wildtrack test')
    before = step(folder, 'before', key, lambda: {part: ask(part) for part in tests})
    model.vlm.model.visual.requires_grad_(False)
    train_track4d(model, lessons['kitti train'] + lessons['wildtrack train'], FINE_TUNE, folder / 'tuned')
    after = step(folder, 'after', key, lambda: {part: ask(part) for part in tests})
    result = {'counts': {part: [len(found), len({l.dialogue.clip for l in found})] for part, found in lessons.items()}, 'steps': FINE_TUNE.steps}
    for part in tests:
        train = lessons[part.replace('test', 'train')]
        long = {lesson.dialogue.id: False for lesson in lessons[part]}
        sets = {'as trained on simulated scenes': before[part]['rows'], 'after a short fine-tune': after[part]['rows'],
                'mean training path': rows_from(mean_path(train, still_rows(lessons[part])), long), **after[part]['coasting']}
        result[part] = scores(sets) | {'change of ADE': listed(estimate([after[part]['rows']], 'ade_m', [before[part]['rows']]))}
    return result

def real_cells(result: dict) -> list[tuple[str, ...]]:
    "Both tests down, before and after; the simulated test on top for the gap."
    columns = ('traj_acc', 'ade_m', 'fde_m', 'sr@1m', 'sr@2m', 'parse_rate')
    lines = [('test', 'model', 'turns', 'Traj-Acc %', 'ADE m', 'FDE m', 'SR@1', 'SR@2', 'read %')]
    try: here = read_result(None, 'track4d', 'tiny')['result']['sets'][f'{FULL}, self history']['all']
    except InputError: here = None
    if here: lines.append(('simulated test', 'full model', str(here['n']), *(cell(here[key], key) for key in columns)))
    for part in ('kitti test', 'wildtrack test'):
        sets = {name: one for name, one in result[part].items() if isinstance(one, dict)}
        lines += [(part, name, str(one['n']), *(cell(one[key], key) for key in columns)) for name, one in sets.items()]
        lines.append((part, 'change by the fine-tune', '', '', signed(result[part]['change of ADE'], 'ade_m'), '', '', '', ''))
    return lines

REAL_SCALE = 'painted boxes instead of pictures, windows of 8 frames, a checkpoint of minutes; the gap counts, its size does not'
TRACK4D_REAL = Experiment('track4d-real', 'LMM-Track4D tests on KITTI, WildTrack and APIDIS; the paper prints no transfer', REAL_SCALE, run_real, real_cells)
