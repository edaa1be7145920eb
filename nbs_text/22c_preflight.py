# %% [markdown]
# # Preflight
# > Before a night of training: every sample's length, the longest one in full, what is learned of it, one real step, memory and hours.

# %%
#| default_exp preflight

# %% [markdown]
# * **What** the checks that make a training start once instead of five times
# * **Why** a sample that is too long, a mask that teaches the question instead of the answer, a card that is 200 MB too small: each of
#   them shows after an hour of loading, or, worse, not at all
# * **Paper** none **[ours]**
# * **Needs** torch; peft and bitsandbytes for adapters
# * **Time** 40 seconds
# * **Before this** [`21d_memory`](21d_memory.ipynb), [`22b_training`](22b_training.ipynb)

# %%
#| export
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2_5_VLConfig

from track4d_ref.adapters import AdapterPlan, adapter_plan, add_adapter
from track4d_ref.examples import examples_from_files
from track4d_ref.memory import LiveBytes, RowShape, memory_table, row_shape, table_text
from track4d_ref.optimizers import make_optimizers, trainable
from track4d_ref.packing import ClipExample, PackedClip, pack
from track4d_ref.patches import PatchLayout
from track4d_ref.presets import Preset
from track4d_ref.real_sizes import TEXT, real_config
from track4d_ref.sft import ClipFeeder, TrainPlan, plan_from_preset, train_step
from track4d_ref.storage import InputError
from track4d_ref.tokens import IGNORE
from track4d_ref.training import starting_model
from track4d_ref.vlm import bare_model

# %%
import tempfile
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt

from track4d_ref.clips import save_clip
from track4d_ref.presets import load_preset
from track4d_ref.questions import ask_all
from track4d_ref.records import record_from_question, write_records
from track4d_ref.simulator import simulate_clips
from track4d_ref.tokens import label_mask_html
from track4d_ref.viz import PALETTE, use_style

warnings.filterwarnings('ignore'); use_style(); torch.set_num_threads(1)

# %% [markdown]
# ## Something to fly with
#
# Six simulated clips with their questions, on disk as any data set is, and the model that would be trained on them.

# %%
preset = load_preset('tiny', ('train_steps=0', 'batch_clips=4', 'lora_rank=4', 'quantize=nf4', 'gradient_checkpointing=1'))
workplace = tempfile.TemporaryDirectory()
folder, records = Path(workplace.name), []
for number, clip in enumerate(simulate_clips(6, 17, preset)):
    save_clip(clip, folder / clip.id)
    asked = ask_all(clip, np.random.default_rng(number), ('camera_movement', 'depth', 'object_direction'), 1 + number % 4)
    records += [record_from_question(question, clip.id, clip.id) for question in asked]
write_records(folder / 'questions.jsonl', records)
examples, _ = examples_from_files(folder, preset)
model, tokenizer = starting_model(examples, preset)
assert len(examples) == 6 and len(records) > 12


# %% [markdown]
# ## How long is everything
#
# Rows are packed exactly as in training. A sample that training would refuse is not the end here: all of them are listed,
# each with the sentence that says what to change.

# %%
#| export
@dataclass(frozen=True)
class Lengths:
    "The packed rows that fit, their places among the examples, and one sentence for each example that does not."
    rows: list[PackedClip]
    places: list[int]
    refused: list[str]

    @property
    def longest(self) -> int: return int(np.argmax([len(row.ids) for row in self.rows]))

    def summary(self) -> dict:
        "Numbers of clips, questions and tokens."
        tokens = np.array([len(row.ids) for row in self.rows])
        questions = np.array([int(row.segments.max()) for row in self.rows])
        alone = [int((row.segments == 0).sum()) + int(torch.bincount(row.segments)[1:].max()) for row in self.rows]
        return dict(clips=len(self.rows), questions=int(questions.sum()), tokens=int(tokens.sum()), shortest_row=int(tokens.min()),
                    median_row=int(np.median(tokens)), longest_row=int(tokens.max()), longest_sample=max(alone),
                    longest_name=self.rows[self.longest].name, learned=int(sum((row.labels != IGNORE).sum() for row in self.rows)))

def measure_lengths(model, tokenizer, examples: list[ClipExample], most_tokens: int) -> Lengths:
    "Pack every example; InputError only if none fits."
    rows, places, refused = [], [], []
    for place, example in enumerate(examples):
        try: rows.append(pack(model, tokenizer, example, most_tokens)); places.append(place)
        except InputError as error: refused.append(str(error))
    if not rows: raise InputError(f'no sample fits: {refused[0] if refused else "there is none"}')
    return Lengths(rows, places, refused)


# %%
lengths = measure_lengths(model, tokenizer, examples, preset.max_tokens)
print(lengths.summary())
figure, axis = plt.subplots(figsize=(6.5, 2.2), dpi=90)
front = [int((row.segments == 0).sum()) for row in lengths.rows]
axis.bar(range(6), front, color=PALETTE[0], label='prefix with the video')
axis.bar(range(6), [len(row.ids) - size for row, size in zip(lengths.rows, front)], bottom=front, color=PALETTE[1], label='questions and answers')
axis.set(xlabel='clip', ylabel='tokens', ylim=(0, 750)); axis.legend(fontsize=8, loc='upper left'); plt.show()
assert lengths.refused == [] and lengths.summary()['tokens'] == sum(len(row.ids) for row in lengths.rows)

# %% [markdown]
# With a limit that is too small for some, those are named, and the fix is part of the sentence:

# %%
tight = measure_lengths(model, tokenizer, examples, lengths.summary()['longest_sample'] - 1)
print(tight.refused[0])
assert 0 < len(tight.refused) < 6 and len(tight.rows) + len(tight.refused) == 6 and 'exceed' in tight.refused[0]


# %% [markdown]
# ## What is learned
#
# The commonest silent mistake of fine-tuning is a mask that is off by one, or that teaches the question. So the row is decoded
# again, from its numbers, and what is learned stands between marks. In a notebook the same in colour.

# %%
#| export
def mask_text(tokenizer, row: PackedClip, dialogues: int = 2) -> str:
    "The row as text, for a terminal: visual tokens counted, learned words between ⟦ and ⟧; the first `dialogues` of it."
    pad, told, inside = tokenizer.convert_tokens_to_ids('<|video_pad|>'), [], False
    run = 0
    for token, label, segment in zip(row.ids.tolist(), row.labels.tolist(), row.segments.tolist()):
        if segment > dialogues: break
        if token == pad: run += 1; continue
        if run: told.append(f'<|video_pad|> × {run}'); run = 0
        if (label != IGNORE) != inside: told.append('⟧' if inside else '⟦'); inside = not inside
        told.append(tokenizer.decode([token]))
    return ''.join(told) + ('⟧' if inside else '')


# %%
row = lengths.rows[lengths.longest]
print(mask_text(tokenizer, row, 2))
from IPython.display import HTML, display
display(HTML(label_mask_html(tokenizer, row.ids[:300].tolist(), row.labels[:300].tolist())))
answer = records[[record.clip for record in records].index(row.name)].answer
assert f'⟦{answer}' in mask_text(tokenizer, row, 1) and '<|im_end|>⟧' in mask_text(tokenizer, row, 1)


# %% [markdown]
# ## One real step
#
# On the longest row: forward, backward, update, with the plan's optimiser and precision. The peak is read from the card where there
# is one. On a processor the meter of [`21d_memory`](21d_memory.ipynb) counts what the step allocates, and the process tells its
# largest size. A second step is timed, without the meter, and a step on the shortest row beside it: from the two follows what a
# token costs, and so the whole epoch. With a frozen tower each clip goes through it once, timed apart.

# %%
#| export
@dataclass(frozen=True)
class Step:
    "One step on one row: seconds, loss, norm of the gradient, tokens."
    seconds: float
    loss: float
    norm: float
    tokens: int

def take_step(model, feeder: ClipFeeder, index: int, optimizers: list, plan: TrainPlan) -> Step:
    "One update on one clip, at a rate of zero: the weights stay what they are."
    begin = time.perf_counter()
    loss, norm = train_step(model, feeder, np.array([index]), optimizers, plan, 0.0)
    if bare_model(model).device.type == 'cuda': torch.cuda.synchronize()
    return Step(time.perf_counter() - begin, loss, norm, len(feeder.rows[index].ids))

def metered(model, feeder, index, optimizers, plan) -> tuple[Step, dict]:
    "A first step and the bytes it needed: on a card all of them, on a processor those it allocated."
    if bare_model(model).device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        step = take_step(model, feeder, index, optimizers, plan)
        return step, dict(device='cuda', step_peak=torch.cuda.max_memory_allocated())
    with LiveBytes() as meter: step = take_step(model, feeder, index, optimizers, plan)
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return step, dict(device='cpu', step_peak=meter.peak, process_peak=process)


# %% [markdown]
# A step at a rate of zero must leave nothing behind but numbers: the weights after it are those before it, to the last bit.

# %%
#| export
def fly(model, tokenizer, examples: list[ClipExample], lengths: Lengths, plan: TrainPlan, most_tokens: int) -> dict:
    "Steps on the longest and the shortest row: memory, seconds per token and per clip, hours per epoch."
    fitting = [examples[place] for place in lengths.places]
    feeder = ClipFeeder(model, tokenizer, fitting, most_tokens, plan.freeze_vision, plan.train_merger)
    sizes = np.array([len(row.ids) for row in feeder.rows])
    long, short = int(sizes.argmax()), int(sizes.argmin())
    named = trainable(model, plan.freeze_vision, plan.train_merger)
    optimizers = make_optimizers(named, plan.optimizer, plan.learning_rate, 0.0)
    model.train()
    first, memory = metered(model, feeder, long, optimizers, plan)
    begin = time.perf_counter()
    if feeder.features: feeder.features[long] = None; feeder.feature(long)
    tower_s = time.perf_counter() - begin if feeder.features else 0.0
    steps = [take_step(model, feeder, index, optimizers, plan) for index in (short, long)]
    model.eval()
    per_token = max((steps[1].seconds - steps[0].seconds) / max(steps[1].tokens - steps[0].tokens, 1), 0.0)
    epoch_s = sum(steps[1].seconds - per_token * (steps[1].tokens - size) for size in sizes)
    kept = [one.nbytes for one in feeder.features or [] if one is not None]
    return dict(first_loss=first.loss, gradient_norm=first.norm, trained_weights=sum(weight.numel() for _, weight in named), **memory,
                step_seconds=steps[1].seconds, tower_seconds=tower_s, epoch_seconds=float(epoch_s + tower_s * len(sizes)),
                steps_per_epoch=-(-len(sizes) // plan.batch_clips), kept_features_bytes=len(sizes) * max(kept, default=0))


# %%
plan = plan_from_preset(preset, optimizer='adamw', freeze_vision=True)
adapted = add_adapter(model, adapter_plan(preset), preset.seed)
before = {name: weight.detach().clone() for name, weight in adapted.named_parameters()}
flown = fly(adapted, tokenizer, examples, lengths, plan, preset.max_tokens)
print({name: round(value, 4) if isinstance(value, float) else value for name, value in flown.items()})
assert all(torch.equal(weight, before[name]) for name, weight in adapted.named_parameters())
assert flown['gradient_norm'] > 0 and flown['steps_per_epoch'] == 2


# %% [markdown]
# ## The table beside it
#
# The formula of [`21d_memory`](21d_memory.ipynb) for the same row, with gradient checkpointing as the preset says. The flight above was
# without it and kept the activations of all four layers, hence more than twice the bytes; the call below flies with it. For real widths
# [`21d_memory`](21d_memory.ipynb) compares formula and meter.

# %%
#| export
def formula(model, row: PackedClip, example: ClipExample, preset: Preset, plan: TrainPlan, adapters: AdapterPlan | None) -> dict:
    "The memory table of `21d_memory` for one packed row of this model."
    config = bare_model(model).config
    patches = sum(int(np.prod(PatchLayout(config.vision_config.patch_size).grid(*video.frames.shape[:3]))) for video in example.videos)
    return memory_table(config, row_shape(row, patches), adapters, plan.optimizer, half=plan.precision != 'float32',
                        checkpointing=bool(preset.gradient_checkpointing), freeze_vision=plan.freeze_vision)


# %%
table = formula(adapted, row, examples[lengths.longest], preset, plan, adapter_plan(preset))
names = [name for name in table if name not in ('peak', 'tower (not at the same time)')]
figure, axis = plt.subplots(figsize=(6.5, 2.4), dpi=90)
axis.barh(names, [table[name] / 2**20 for name in names], color=PALETTE[0]); axis.set_xlabel('MiB'); axis.invert_yaxis(); plt.show()
print(f"allocated by the step: formula {(table['layers waiting'] + table['layer at work'] + table['logits']) / 2**20:.1f} MiB, meter {flown['step_peak'] / 2**20:.1f} MiB")
assert table['peak'] > flown['step_peak'] / 4


# %% [markdown]
# ## One call
#
# `track4d preflight` does all of it. What training would do to disk, it does not do.

# %%
#| export
def preflight(records: Path | str, preset: Preset, checkpoint: Path | str | None = None, device: str | None = None) -> dict:
    "Lengths, mask, one step, memory and time for training on `records`; nothing is written."
    examples, _ = examples_from_files(records, preset)
    model, tokenizer = starting_model(examples, preset, checkpoint)
    lengths = measure_lengths(model, tokenizer, examples, preset.max_tokens)
    adapters = adapter_plan(preset)
    if preset.gradient_checkpointing:
        bare_model(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs=dict(use_reentrant=False))
    if adapters: model = add_adapter(model, adapters, preset.seed)
    model = model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    plan = plan_from_preset(preset, freeze_vision=True, **({'optimizer': 'adamw'} if adapters and preset.optimizer == 'muon' else {}))
    row = lengths.rows[lengths.longest]
    table = formula(model, row, examples[lengths.places[lengths.longest]], preset, plan, adapters)
    return dict(lengths.summary(), refused=lengths.refused, mask=mask_text(tokenizer, row), memory=table,
                **fly(model, tokenizer, examples, lengths, plan, preset.max_tokens))

def duration(seconds: float) -> str:
    "Seconds as a person says them."
    return f'{seconds:.1f} s' if seconds < 90 else f'{seconds / 60:.1f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


# %%
#| export
def preflight_text(found: dict, preset: Preset) -> str:
    "The result of `preflight` for a terminal."
    mib = 2**20
    memory = f"{found['step_peak'] / mib:.0f} MiB" + (f" allocated by the step; the process reached {found['process_peak'] / mib:.0f} MiB" if 'process_peak' in found else ' on the card')
    return '\n'.join([
        f"{found['questions']} questions about {found['clips']} clips; rows of {found['shortest_row']} to {found['longest_row']} tokens (median {found['median_row']}), {found['learned']} tokens are learned",
        f"longest sample with its video: {found['longest_sample']} of {preset.max_tokens} tokens; longest row: {found['longest_name']}",
        *(f'refused: {sentence}' for sentence in found['refused']), '', found['mask'], '',
        f"one step on the longest row: loss {found['first_loss']:.3f}, gradient {found['gradient_norm']:.3f}, {found['trained_weights']:,} weights learn, {duration(found['step_seconds'])}",
        f"peak memory: {memory}; by formula {found['memory']['peak'] / mib:.0f} MiB in all, weights included",
        f"one pass: {found['steps_per_epoch']} steps, {duration(found['epoch_seconds'])}"
        + (f"; the preset stops after {duration(preset.train_seconds)}" if preset.train_seconds else
           f"; the preset stops after {preset.train_steps} steps" if preset.train_steps else ''),
        f"kept features of the tower: {found['kept_features_bytes'] / mib:.1f} MiB of main memory"])


# %%
found = preflight(folder, preset)
print(preflight_text(found, preset))
assert found['refused'] == [] and found['first_loss'] == flown['first_loss'] and set(folder.glob('*.jsonl')) == {folder / 'questions.jsonl'}


# %% [markdown]
# ## With only a configuration
#
# Before eight gigabytes are downloaded: the same table from `config.json`, or from the name of a known size.

# %%
#| export
def read_config(source: Path | str) -> Qwen2_5_VLConfig:
    "The configuration of a size by name, of a folder with config.json, or of that file itself."
    if str(source) in TEXT: return real_config(str(source))
    path = Path(source) / 'config.json' if Path(source).is_dir() else Path(source)
    try: values = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError): raise InputError(f'{path}: not a readable config.json; give 3B, 7B, the file or its folder') from None
    if not isinstance(values, dict) or values.get('model_type') != 'qwen2_5_vl':
        raise InputError(f'{path}: model_type is not qwen2_5_vl; give the config.json of a Qwen2.5-VL')
    return Qwen2_5_VLConfig(**values)

def config_table(source: Path | str, preset: Preset, questions: int = 24, words: int = 60) -> tuple[RowShape, dict]:
    "(row, memory table) for the preset's clip with so many questions of so many tokens, from a configuration alone."
    config = read_config(source)
    layout = PatchLayout(config.vision_config.patch_size, config.vision_config.spatial_merge_size, config.vision_config.temporal_patch_size)
    grid = layout.grid(preset.frames, preset.resolution, preset.resolution)
    row = RowShape(layout.tokens(grid) + 16, questions, words, 4 * questions, int(np.prod(grid)))
    return row, memory_table(config, row, adapter_plan(preset), preset.optimizer, preset.precision != 'float32',
                             bool(preset.gradient_checkpointing))

def config_text(row: RowShape, table: dict) -> str:
    "The table for a terminal."
    return f'a row of {row.length} tokens: {row.prefix} of the prefix, {row.questions} questions of {row.longest}\n{table_text(table)}'


# %%
row24, table24 = config_table('3B', load_preset('rtx24'))
print(config_text(row24, table24))
assert row24.prefix == 4096 + 16 and 4 * 2**30 < table24['peak'] < 24e9
bare_model(adapted).config.save_pretrained(folder / 'only_config')
assert config_table(folder / 'only_config', preset)[1]['peak'] < 2**30
workplace.cleanup()

# %%
parts24 = {name: value / 2**30 for name, value in table24.items() if name not in ('peak', 'tower (not at the same time)')}
figure, axis = plt.subplots(figsize=(6.5, 2.4), dpi=90)
axis.barh(list(parts24), list(parts24.values()), color=PALETTE[1]); axis.invert_yaxis()
axis.set(xlabel='GiB', title=f"Qwen2.5-VL-3B, QLoRA, a row of {row24.length} tokens"); plt.show()
assert abs(sum(parts24.values()) - table24['peak'] / 2**30) < 1e-6

# %% [markdown]
# ## What we proved
#
# * Every sample is measured, and those that do not fit are named with a fix, all of them.
# * What is learned is read back from the numbers: the answer and its end, nothing else.
# * The step is real (a loss and a gradient) and leaves the weights untouched to the last bit.
#
# ## Try it
#
# 1. Run it with `--set resolution=224 --set max_tokens=300`. What do the refused samples say?
# 2. Compare `config_table('7B', …)` for 12, 24 and 48 questions. Which line grows fastest, and why?
#
# <details><summary>Solutions</summary>
#
# 1. Each names its clip, its tokens, and the fewest frames or the size that would do.
# 2. The layer at work: every question holds a copy of the prefix's keys and values, so the line grows with questions times prefix.
#
# </details>
