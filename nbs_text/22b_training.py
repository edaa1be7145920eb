# %% [markdown]
# # Training on records
# > From a folder of questions to a trained model on disk: what `track4d train sft` does.

# %%
#| default_exp training

# %% [markdown]
# * **What** the practitioner's path: record files in, model folder out, resumable
# * **Why** everything before this was parts; a person with data wants one call
# * **Paper** 4DP-QA §4.1: AdamW and cosine, all but the vision encoder trained; Muon for matrices is **[ours]**
# * **Needs** torch
# * **Time** 40 seconds
# * **Before this** `14a_vision`, `22_sft`, `22a_examples`

# %%
#| export
from pathlib import Path

import torch

from track4d_ref.adapters import adapter_plan, add_adapter, save_adapter
from track4d_ref.examples import examples_from_files
from track4d_ref.packing import ClipExample
from track4d_ref.presets import Preset
from track4d_ref.processes import join_processes
from track4d_ref.sft import TrainPlan, plan_from_preset, train
from track4d_ref.storage import InputError, write_json
from track4d_ref.tokens import is_hub_name, train_tokenizer
from track4d_ref.vision import load_tower
from track4d_ref.vlm import bare_model, build_vlm, load_vlm, save_vlm

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch

from track4d_ref.presets import load_preset
from track4d_ref.questions import ask_all
from track4d_ref.records import record_from_question, write_records
from track4d_ref.clips import save_clip
from track4d_ref.simulator import simulate_clips
from track4d_ref.viz import PALETTE, use_style
use_style()


# %% [markdown]
# ## Where a run starts
#
# A run starts from a checkpoint that is named, or from a new tiny model: text weights from the seed, a tokenizer made from the
# very questions it will read, and the shipped vision tower where its size fits. The tokenizer's training text is part of the
# data, so the same data and seed give the same model.

# %%
#| export
def loading_dtype(preset: Preset) -> torch.dtype:
    "bfloat16 where adapters learn in bfloat16, for what is frozen needs no more; float32 where weights learn."
    return torch.bfloat16 if preset.lora_rank and preset.precision == 'bfloat16' else torch.float32

def starting_model(examples: list[ClipExample], preset: Preset, checkpoint: Path | str | None = None):
    "(model, tokenizer): the checkpoint's, or a new tiny model with the shipped tower."
    if checkpoint or preset.base != 'none': return load_vlm(checkpoint or preset.base, loading_dtype(preset))
    texts = [turn['content'] for example in examples for dialogue in example.dialogues for turn in dialogue]
    tokenizer = train_tokenizer(texts, preset.vocabulary)
    model = build_vlm(preset, tokenizer, preset.seed)
    try: load_tower(model)
    except InputError: pass     # another size or no shipped tower: the tower starts from the seed as well
    return model, tokenizer


# %%
preset = load_preset('tiny', ('train_steps=0', 'batch_clips=4'))
workplace = tempfile.TemporaryDirectory()
folder, records = Path(workplace.name), []
for number, clip in enumerate(simulate_clips(8, 17, preset)):
    save_clip(clip, folder / clip.id)
    records += [record_from_question(question, clip.id, clip.id) for question in ask_all(clip, np.random.default_rng(number), ('camera_movement', 'depth'), 3)]
write_records(folder / 'questions.jsonl', records)
examples, behind = examples_from_files(folder, preset)
model, tokenizer = starting_model(examples, preset)

# %%
lengths = [sum(len(tokenizer(turn['content'])['input_ids']) for dialogue in example.dialogues for turn in dialogue) for example in examples]
figure, axis = plt.subplots(figsize=(7.5, 2)); axis.bar(range(len(lengths)), lengths, color=PALETTE[0])
axis.set(xlabel='clip', ylabel='text tokens', title=f'{len(records)} questions about {len(examples)} videos, {len(tokenizer)} words known'); plt.show()

# %%
again, _ = starting_model(examples, preset)
assert all(torch.equal(one, other) for one, other in zip(model.state_dict().values(), again.state_dict().values()))


# %% [markdown]
# ## One call
#
# The model goes to the best device there is; under `accelerate launch` each process gets its own, and only the leader
# writes. The checkpoint with its optimiser state lies in `out/checkpoint`, the log in `out/log.csv`, the finished model in
# `out/model`. A killed run goes on from the checkpoint, and a test of `22_sft` shows that it ends with the same weights as
# one that was never killed.

# %%
#| export
def prepare(model, tokenizer, preset: Preset, out: Path, checkpoint: Path | str | None):
    "(model, 'adapter' or 'model', function that saves it into that folder of `out`): adapters where the preset has a rank."
    if preset.gradient_checkpointing:
        bare_model(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    plan = adapter_plan(preset)
    if not plan: return model, 'model', lambda: save_vlm(model, tokenizer, out / 'model')
    base = checkpoint or preset.base
    if base == 'none':                                                   # a new model: adapters need what they correct
        base = '../base'
        save_vlm(model, tokenizer, out / 'base')
    elif not is_hub_name(base): base = Path(base).resolve()
    adapted = add_adapter(model, plan, preset.seed)
    return adapted, 'adapter', lambda: save_adapter(out / 'adapter', adapted, tokenizer, base)


# %% [markdown]
# With `--set lora_rank=16` only adapters are trained, and `out/adapter` takes the place of `out/model`; with `quantize=nf4` what is frozen lies
# in four bits (notebooks 21 to [`21b_adapters`](21b_adapters.ipynb)). A new tiny model is kept in `out/base`, because adapters mean nothing without it.
# Adapters are trained with AdamW, as the papers do: Muon makes the step of a *matrix* orthogonal, and neither half of a product of two is one that acts alone **[ours]**.

# %%
#| export
def train_on_records(records: Path | str, out: Path | str, preset: Preset, checkpoint: Path | str | None = None,
                     resume: bool = True, progress: bool = True, logger: str = 'none', **changes) -> dict:
    "Train on a record file or a folder of them; writes model, log.csv, checkpoint into `out`. {} but from the leader."
    out, (examples, _), processes = Path(out), examples_from_files(records, preset), join_processes()
    model, tokenizer = starting_model(examples, preset, checkpoint)
    model, saved, save = prepare(model, tokenizer, preset, out, checkpoint)
    defaults = {'freeze_vision': True, 'save_every': 50, **({'optimizer': 'adamw'} if saved == 'adapter' else {})}
    plan: TrainPlan = plan_from_preset(preset, **{**defaults, **changes})
    state = train(model.to(processes.device), tokenizer, examples, plan, out, resume, preset.max_tokens, progress,
                  logger=logger, processes=processes)
    if not processes.leads: return {}
    save()
    result = {'steps': state.step, 'saved': saved, 'loss': state.rows[-1]['loss'], 'first_loss': state.rows[0]['loss'], 'clips': len(examples),
              'questions': sum(len(example.dialogues) for example in examples), 'seconds': round(state.elapsed_s, 1)}
    write_json(out / 'result.json', result)
    return result


# %%
result = train_on_records(folder, folder / 'run', preset, progress=False, steps=24)
result

# %%
import csv
with open(folder / 'run' / 'log.csv') as file: losses = [float(row['loss']) for row in csv.DictReader(file)]
figure, axis = plt.subplots(figsize=(7.5, 2)); axis.plot(losses, color=PALETTE[0]); axis.set(xlabel='step', ylabel='loss', title='24 steps on eight clips'); plt.show()

# %%
trained, _ = load_vlm(folder / 'run' / 'model')
assert result['loss'] < result['first_loss'] and len(losses) == result['steps'] == 24

# %% [markdown]
# What moved, and what did not: the tower is frozen, so its weights are bit-equal to those it started with; every matrix of
# the language model has moved. A change is told as a share of what the tensor came to be, so one that started at zero counts as 1.

# %%
start, end = model.state_dict(), trained.state_dict()
moved = {name: (start[name] - end[name]).norm().item() / (end[name].norm().item() + 1e-9) for name in start}
groups = {'vision tower': [v for n, v in moved.items() if 'visual' in n], 'language model': [v for n, v in moved.items() if 'visual' not in n]}
figure, axis = plt.subplots(figsize=(7.5, 1.8)); axis.boxplot(list(groups.values()), orientation='horizontal', tick_labels=list(groups))
axis.set(xlabel='relative change of each weight tensor'); plt.show()

# %%
assert max(groups['vision tower']) == 0 and max(groups['language model']) <= 1
assert min(moved[name] for name in start if 'visual' not in name and start[name].ndim == 2) > 0
resumed = train_on_records(folder, folder / 'run', preset, progress=False, steps=24)
assert resumed['steps'] == 24                                  # a finished run is not trained again

# %% [markdown]
# ## The same call with adapters
#
# Rank 4 and four bits, twelve steps. The file that comes out is a hundredth of a model of real size; here it is a fraction.

# %%
from dataclasses import replace
from track4d_ref.adapters import load_model

small = replace(preset, lora_rank=4, lora_alpha=8, quantize='nf4', gradient_checkpointing=1)
adapted = train_on_records(folder, folder / 'lora', small, progress=False, steps=12)
again, _ = load_model(folder / 'lora' / 'adapter')
weight = {name: sum(file.stat().st_size for file in (folder / 'lora' / name).glob('*.safetensors')) for name in ('base', 'adapter')}
print(adapted['saved'], weight, f"loss {adapted['first_loss']:.2f} → {adapted['loss']:.2f}")
assert adapted['saved'] == 'adapter' and adapted['loss'] < adapted['first_loss'] and weight['adapter'] < 0.1 * weight['base']
workplace.cleanup()

# %% [markdown]
# ## What we proved
#
# * The same data, preset and seed start from the same weights, and a finished run stays finished.
# * The frozen tower does not change by a bit.
#
# ## Try it
#
# 1. Train on your own records with `--set train_steps=300`. Where in the log does the loss leave its first plateau?
# 2. Start a second run from the first one's `model` folder. What is the first loss?
#
# <details><summary>Solutions</summary>
#
# 1. Read `log.csv` and draw the loss: the first plateau is the prior of the answers; it ends when something of the
#    picture is used. Small sets may never leave it.
# 2. About the last loss of the first run, a little higher at first: the optimiser's state starts anew.
#
# </details>
