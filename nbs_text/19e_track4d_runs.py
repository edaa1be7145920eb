# %% [markdown]
# # A run of LMM-Track4D
# > From a base model to a trained LMM-Track4D in one folder: lessons once, a log, a checkpoint to go on from, a run card.

# %%
#| default_exp track4d_runs

# %% [markdown]
# #| export
# A *run* is a folder: `run.json` says what was asked for, `progress.pt` is where it stopped, `log.csv` holds the losses, `model`
# is the result, and `run_card.json` says what it needs to be believed. A second call with the same wishes goes on.

# %% [markdown]
# * **What** `train_run`, what `track4d train track` does
# * **Why** a training of minutes is started, stopped and started again; each time the same batches must come
# * **Paper** LMM-Track4D says nothing about its training; **everything here is [ours]**
# * **Needs** a saved Qwen2.5-VL (here: one with random weights, 48 wide)
# * **Time** 30 seconds
# * **Before this** `19a_track4d_training`, `19d_lesson_store`

# %%
#| export
import csv
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from track4d_ref.lesson_store import bench_lessons
from track4d_ref.presets import Preset
from track4d_ref.runcard import data_hash, run_card
from track4d_ref.storage import InputError, atomic_folder, atomic_path, brief, read_json, write_json
from track4d_ref.tokens import load_tokenizer
from track4d_ref.track4d import Track4D, Track4DConfig, load_track4d, save_track4d
from track4d_ref.track4d_training import Lesson, Track4DPlan, train_track4d
from track4d_ref.vlm import load_vlm

# %%
import dataclasses
import tempfile

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.dialogue_sets import history
from track4d_ref.lesson_store import with_features
from track4d_ref.dialogues import make_dialogue
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.tokens import train_tokenizer
from track4d_ref.track4d_training import dialogue_loss, make_lesson
from track4d_ref.viz import PALETTE, use_style
from track4d_ref.vlm import build_vlm, save_vlm

use_style()
torch.set_num_threads(1)


# %% [markdown]
# ## The start
#
# The base model comes from a folder and gets the three parts, which change nothing yet. Its vision tower is frozen: the lessons
# carry the tower's features, and a tower that moved would make them false. Everything else learns: the language model is so
# small that adapters would save nothing.

# %%
#| export
def start_model(base: Path | str, config: Track4DConfig = Track4DConfig(), seed: int = 0) -> Track4D:
    "The base model of a folder with the three parts as built; its vision tower is frozen."
    vlm, tokenizer = load_vlm(base)
    vlm.model.visual.requires_grad_(False)
    return Track4D(vlm, tokenizer, config, seed)


# %%
folder = Path(tempfile.mkdtemp())
preset = load_preset('tiny', ('resolution=64', 'patch_size=8', 'text_width=48', 'text_layers=2', 'text_heads=4', 'text_kv_heads=2', 'vision_width=32', 'vision_layers=1'))
clips = [simulate_clip(8, preset, index, rig='ring', domain='open', smooth=False, objects=3) for index in range(4)]
dialogues = [make_dialogue(clip, np.random.default_rng(0)) for clip in clips]
tokenizer = train_tokenizer([m['content'] for d in dialogues for m in history(d, 9, 'gold')] * 4, 400)
save_vlm(build_vlm(preset, tokenizer), tokenizer, folder / 'base')

# %%
model = start_model(folder / 'base', Track4DConfig(width=24))
learns = {name: sum(p.numel() for p in part.parameters() if p.requires_grad) for name, part in
          (('tower', model.vlm.model.visual), ('language model', model.vlm.model.language_model), ('RTGE', model.rtge), ('TRK', model.trk), ('OSK-RA', model.decoder))}
figure, axis = plt.subplots(figsize=(5.4, 1.7), dpi=90)
axis.barh(list(learns), list(learns.values()), color=PALETTE[0]); axis.set(xlabel='weights that learn'); plt.show()
assert learns['tower'] == 0 and min(value for name, value in learns.items() if name != 'tower') > 0


# %% [markdown]
# ## The run
#
# What was wished for is written down first. Another wish in the same folder is refused, because its checkpoint would be mixed up with
# this one. The log is written from the checkpoint's rows, so a run that was killed has no doubled lines.

# %%
#| export
def write_losses(path: Path, rows: list[dict]) -> None:
    "The log of a run as CSV; a loss that an iteration did not have is empty."
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as partial, open(partial, 'w', newline='', encoding='utf-8') as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows({name: f'{value:.4f}' if isinstance(value, float) else value for name, value in row.items()} for row in rows)

def claim_run(out: Path, wishes: dict) -> None:
    "Write out/run.json; InputError if the folder holds a run with other wishes."
    path = out / 'run.json'
    if not path.exists(): return write_json(path, wishes)
    kept = read_json(path)
    changed = sorted(key for key in {*kept, *wishes} if kept.get(key) != wishes.get(key))
    if changed: raise InputError(f'{path}: is a run with another {", ".join(changed)}; use an empty folder for --out')


# %%
#| export
def run_lessons(out: Path | str, preset: Preset, lessons: list[Lesson], base: Path | str, config: Track4DConfig,
                plan: Track4DPlan, progress: bool = False) -> list[dict]:
    "Train on given lessons into the folder `out`, or go on there; the rows of its log. A finished run returns at once."
    out, started = Path(out), time.perf_counter()
    claim_run(out, {'config': {**asdict(config), 'beside': list(config.beside)}, 'plan': asdict(plan), 'base': data_hash([base]), 'lessons': len(lessons)})
    if (out / 'run_card.json').exists():
        with open(out / 'log.csv', newline='', encoding='utf-8') as file: return list(csv.DictReader(file))
    model = start_model(base, config, plan.seed)
    with tqdm(total=plan.steps, desc='training', unit='step', disable=not progress) as bar:
        def show(row: dict) -> None: bar.update(row['iteration'] + 1 - bar.n); bar.set_postfix(loss=f"{row['total']:.2f}")
        rows = train_track4d(model, lessons, plan, out, show)
    write_losses(out / 'log.csv', rows)
    save_track4d(model, out / 'model')
    write_json(out / 'run_card.json', run_card('track4d train track', preset, plan.seed, [base], started, steps=len(rows), config=vars(config), plan=vars(plan)))
    return rows

def train_run(out: Path | str, preset: Preset, base: Path | str, plan: Track4DPlan = Track4DPlan(save_every=20), config: Track4DConfig = Track4DConfig(),
              entries: int = 526, sets: tuple[int, ...] = (0,), progress: bool = True) -> dict:
    "What `track4d train track` does: the benchmark's lessons into out/lessons, the run into `out`; steps, last losses, folder."
    out = Path(out)
    if not Path(base).is_dir(): raise InputError(f'{base}: is no folder of a model; make one with track4d train base')
    train, _ = bench_lessons(out / 'lessons', preset, load_vlm(base)[0], entries, sets=sets, progress=progress)
    rows = run_lessons(out, preset, train, base, config, plan, progress)
    last = {name: float(rows[-1][name] or 'nan') for name in ('words', 'position', 'total') if name in rows[-1]}
    return {'steps': len(rows), 'lessons': len(train), 'model': str(out / 'model'), **last}


# %%
tower = load_vlm(folder / 'base')[0]
lessons = [with_features(tower, make_lesson(clip, dialogue, PatchLayout(8, 2, 2))) for clip, dialogue in zip(clips, dialogues)]
plan, config = Track4DPlan(steps=16, batch=4, learning_rate=2e-3, save_every=4), Track4DConfig(width=24)
rows = run_lessons(folder / 'run', preset, lessons, folder / 'base', config, plan)
print(sorted(path.name for path in (folder / 'run').iterdir()))
assert len(rows) == 16 and load_track4d(folder / 'run' / 'model').config == config

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.1), dpi=90)
for axis, name in zip(axes, ('words', 'position', 'focus')):
    axis.plot([row[name] for row in rows if name in row], '.-', color=PALETTE[1]); axis.set(xlabel='step', title=name)
plt.show()
assert np.mean([row['total'] for row in rows[-4:]]) < np.mean([row['total'] for row in rows[:4]])

# %% [markdown]
# ## Stopped, and refused
#
# A finished run is not run again, and a folder keeps its first wish. A run that is killed in its seventh step,
# after the checkpoint of the fourth, goes on from there and makes the very same steps: dots on the line, not near it.

# %%
again = run_lessons(folder / 'run', preset, lessons, folder / 'base', config, plan)
try: run_lessons(folder / 'run', preset, lessons, folder / 'base', config, dataclasses.replace(plan, seed=1)); refused = ''
except InputError as error: refused = str(error).removeprefix(str(folder))
print(refused)
assert len(again) == 16 and 'another plan' in refused


# %%
def pull_the_plug(row: dict) -> None:
    if row['iteration'] == 6: raise KeyboardInterrupt

try: train_track4d(start_model(folder / 'base', config), lessons, plan, folder / 'stopped', pull_the_plug)
except KeyboardInterrupt: print('killed after', len(list((folder / 'stopped').iterdir())), 'file was written')
resumed = run_lessons(folder / 'stopped', preset, lessons, folder / 'base', config, plan)
figure, axis = plt.subplots(figsize=(5.4, 2.0), dpi=90)
axis.plot([row['total'] for row in rows], color=PALETTE[0], lw=4, alpha=0.4, label='in one go')
axis.plot([row['total'] for row in resumed], '.', color=PALETTE[3], label='killed in the seventh step, resumed'); axis.set(xlabel='step', ylabel='loss'); axis.legend(); plt.show()
assert [row['total'] for row in rows] == [row['total'] for row in resumed] and len(resumed) == 16


# %% [markdown]
# ## A checkpoint to ship
#
# Half precision is enough to answer, the decoders beside are not needed for it, and the frozen tower is that of the base, which ships anyway.

# %%
#| export
def save_small(model: Track4D, folder: Path | str, base: str | None = None) -> None:
    "Half precision, without decoders beside, without the tied word table, and without the tower if `base`, relative to `folder`, has it."
    dropped = ('beside.', 'vlm.lm_head.', *(('vlm.model.visual.',) if base else ()))
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items() if not name.startswith(dropped)}
    with atomic_folder(folder) as partial:
        for part in (model.vlm.config, model.tokenizer): part.save_pretrained(Path(partial) / 'vlm')
        save_file(weights, Path(partial) / 'small.safetensors')
        write_json(Path(partial) / 'track4d.json', vars(model.config) | {'beside': (), 'base': base})

def load_small(folder: Path | str) -> Track4D:
    "The model of a folder written by `save_small`; InputError if it does not fit."
    folder = Path(folder)
    values = read_json(folder / 'track4d.json')
    base = values.pop('base', None)
    try:
        vlm = Qwen2_5_VLForConditionalGeneration._from_config(Qwen2_5_VLConfig.from_pretrained(folder / 'vlm'), dtype=torch.float32)
        if base: vlm.model.visual.load_state_dict(load_vlm(folder / base)[0].model.visual.state_dict())
        model = Track4D(vlm, load_tokenizer(folder / 'vlm'), Track4DConfig(**values | {'beside': ()}))
        missing, unknown = model.load_state_dict({name: value.float() for name, value in load_file(folder / 'small.safetensors').items()}, strict=False)
    except (SafetensorError, RuntimeError, OSError, TypeError, ValueError) as error:
        if isinstance(error, InputError): raise
        raise InputError(f'{folder}: is no shipped LMM-Track4D ({brief(error)}); copy it again') from None
    wrong = [name for name in missing if not name.startswith(('vlm.lm_head.', 'vlm.model.visual.')[:2 if base else 1])] + unknown
    if wrong: raise InputError(f'{folder}/small.safetensors: does not fit ({wrong[:3]}); copy it again')
    return model.eval()


# %%
trained = load_track4d(folder / 'run' / 'model')
save_small(trained, folder / 'small', '../base')
small = load_small(folder / 'small')
kb = {name: sum(file.stat().st_size for file in (folder / name).rglob('*.safetensors')) // 1024 for name in ('run/model', 'small')}
with torch.no_grad(): a, b = (dialogue_loss(one, lessons)['total'] for one in (trained, small))
print(kb, f'kB; losses {a:.4f} and {b:.4f}')
try: load_small(folder / 'base'); refused = ''
except InputError as error: refused = str(error).removeprefix(str(folder))
print(refused)
assert kb['small'] < kb['run/model'] / 2 and abs(a - b) < 0.01 * a and refused

# %% [markdown]
# ## What we proved
#
# * The tower is frozen, all else learns; a finished run comes back at once, another wish in its folder is refused.
# * A stopped run goes on with the batches it would have seen.
#
# ## Try it
#
# 1. `track4d train track --model data_samples/base_tiny --steps 40 --out runs/track`: watch which loss falls first.
# 2. Kill it, start it again, and compare `log.csv` with that of an undisturbed run.
# 3. Let the tower learn too. What must then happen to the lessons on disk?
#
# <details><summary>Solutions</summary>
#
# 1. Read the columns of `log.csv`: the words come first, for `Its path is [TRK].` is always the same sentence;
#    positions follow once the slots look at the right tokens.
# 2. Compare the two files column by column but for the clock's; equal numbers after the restart mean that model,
#    optimiser and random state were all saved.
# 3. Stored features belong to the frozen tower. When it learns they are stale after the first step, so they must be
#    computed afresh each time and the stored ones left unused.
#
# </details>
