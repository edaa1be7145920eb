# %% [markdown]
# # Examples
# > Records become what the model reads: one video, all the questions about it.

# %%
#| default_exp examples

# %% [markdown]
# * **What** the step from record files and clips to packed examples, for training, for asking, and blind
# * **Why** the records say *what* was asked; the packing of `20_packing` needs questions grouped by the
#   video they share
# * **Paper** 4DP-QA §4.1 (32 frames per sample, resized); grouping by clip is **[ours]**
# * **Needs** torch
# * **Time** 20 seconds
# * **Before this** `12_records`, `13a_patches`, `20_packing`

# %%
#| export
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from track4d_ref.clips import Clip
from track4d_ref.packing import ClipExample
from track4d_ref.patches import Video, resize_frames
from track4d_ref.presets import Preset
from track4d_ref.questions import Question
from track4d_ref.records import Record, open_clip, read_records, record_from_question, record_video
from track4d_ref.storage import InputError

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.simulator import simulate_clip
from track4d_ref.viz import PALETTE, use_style
use_style()


# %% [markdown]
# ## What makes a video the same video
#
# Two questions may share a prefix only if the model would see exactly the same pixels: same clip, same
# frames, same view, and the same circles drawn on them (a drawn circle is one of the ways in which 4DP-QA
# points at an object). That is the key we group by.

# %%
#| export
def video_key(record: Record) -> str:
    "What the pixels of a record's video depend on, as text."
    circles = [reference for reference in record.references if reference.get('mode') == 'circle']
    return json.dumps([record.clip, record.segment, record.view, circles], sort_keys=True)

def grouped(records: Iterable[Record]) -> list[list[Record]]:
    "Records that share a video together, in the order of their first appearance."
    groups = {}
    for record in records: groups.setdefault(video_key(record), []).append(record)
    return list(groups.values())


# %%
clip = simulate_clip(4, load_preset('tiny'))
TYPES = ('depth', 'camera_movement', 'moved_distance')
ask = lambda mode, seed: ask_all(clip, np.random.default_rng(seed), TYPES, 3, style=Style(modes=(mode,)))
questions = ask('caption', 0) + ask('circle', 1)
records = [record_from_question(question, clip.id, clip.id) for question in questions]
groups = grouped(records)

# %%
figure, axis = plt.subplots(figsize=(7.5, 2))
colours = [PALETTE[0]] + [PALETTE[1]] * (len(groups) - 1)
axis.bar(range(len(groups)), [len(group) for group in groups], color=colours)
axis.set(xlabel='video', ylabel='questions', xticks=range(len(groups)))
axis.set_title('plain questions share one video; each drawn circle needs its own'); plt.show()

# %%
assert sum(map(len, groups)) == len(records) and len(groups[0]) >= len(ask('caption', 0))
assert all(len({video_key(record) for record in group}) == 1 for group in groups)


# %% [markdown]
# ## One example per video
#
# The frames are resized to the preset's resolution, because that is what the model is trained on; the
# questions speak in fractions of the picture, so no coordinate changes. Seconds per frame come from the
# clip's own clock. A model that is asked gets the dialogue without its last turn, and a *blind* example
# simply has no video.

# %%
#| export
def fitted_video(name: str, frames: np.ndarray, times_s: np.ndarray, preset: Preset) -> Video:
    "The frames at the preset's resolution with their mean spacing in seconds."
    spacing_s = float(np.diff(times_s).mean()) if len(times_s) > 1 else 1.0 / preset.fps
    return Video(name, resize_frames(frames, preset.resolution, preset.resolution), spacing_s)

def make_example(records: list[Record], clip: Clip, preset: Preset, asking: bool = False,
                 blind: bool = False) -> ClipExample:
    "The example of records that share a video; `asking` leaves the answers out, `blind` the video."
    first = records[0]
    video = fitted_video(clip.id, record_video(first, clip), clip.times_s[list(first.segment)], preset)
    dialogues = tuple(record.messages[:-1] if asking else record.messages for record in records)
    return ClipExample(clip.id, () if blind else (video,), dialogues)

def blinded(example: ClipExample) -> ClipExample:
    "The same questions without the video."
    return replace(example, videos=())


# %%
example = make_example(groups[0], clip, load_preset('tiny'))
example.dialogues[0]

# %%
figure, axes = plt.subplots(1, 4, figsize=(7.5, 2.1))
for axis, frame in zip(axes, (0, 2, 5, 7)):
    axis.imshow(example.videos[0].frames[frame]); axis.axis('off')
    axis.set_title(f'{frame * example.videos[0].seconds_per_frame:.2f} s', fontsize=8)
plt.show()

# %%
asked = make_example(groups[0], clip, load_preset('tiny'), asking=True)
assert all(one[:-1] == other for one, other in zip(example.dialogues, asked.dialogues))
assert example.videos[0].seconds_per_frame == 0.25 and blinded(example).videos == ()


# %% [markdown]
# ## From files
#
# A record file is read, grouped, and its clips are opened one after the other. `--data` may name one file or
# a folder of shards.

# %%
#| export
def record_files(path: Path | str) -> list[Path]:
    "The record file itself, or all JSONL files directly in a folder; InputError if there is none."
    path = Path(path)
    files = sorted(path.glob('*.jsonl')) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise InputError(f'{path}: no record file (JSONL); make one with track4d data questions')
    return files

def examples_from_files(path: Path | str, preset: Preset, asking: bool = False,
                        blind: bool = False) -> tuple[list[ClipExample], list[list[Record]]]:
    "All examples of a record file or a folder of them, and the records behind each."
    examples, behind = [], []
    for file in record_files(path):
        for records in grouped(read_records(file)):
            examples.append(make_example(records, open_clip(records[0], file), preset, asking, blind))
            behind.append(records)
    return examples, behind

def examples_from_questions(clip: Clip, questions: list[Question],
                            preset: Preset) -> tuple[list[ClipExample], list[list[Record]]]:
    "The same from a clip and its questions in memory."
    behind = grouped(record_from_question(question, clip.id, clip.id) for question in questions)
    return [make_example(records, clip, preset) for records in behind], behind


# %%
import tempfile
import textwrap

from track4d_ref.clips import save_clip
from track4d_ref.records import write_records
with tempfile.TemporaryDirectory() as folder:
    save_clip(clip, Path(folder) / clip.id); write_records(Path(folder) / 'questions.jsonl', records)
    from_disk, behind = examples_from_files(folder, load_preset('tiny'))

# %%
circled, marked = next((one, group[0]) for one, group in zip(from_disk, behind)
                       if group[0].references and group[0].references[0]['mode'] == 'circle')
figure, axis = plt.subplots(figsize=(4.4, 3.4))
axis.imshow(circled.videos[0].frames[marked.references[0]['frame']]); axis.axis('off')
axis.set_title(textwrap.fill(marked.question.split('\n')[0], 62), fontsize=7.5); plt.show()

# %%
in_memory, _ = examples_from_questions(clip, ask('caption', 0) + ask('circle', 1), load_preset('tiny'))
assert len(from_disk) == len(in_memory) == len(groups)
for one, other in zip(from_disk, in_memory):
    assert (one.videos[0].frames == other.videos[0].frames).all() and one.dialogues == other.dialogues

# %% [markdown]
# ## What we proved
#
# * Questions share a prefix exactly when their videos have the same pixels.
# * Examples from disk equal examples from memory.
#
# ## Try it
#
# 1. How many questions per video do you get with `modes=('caption', 'circle')`? What does that do to the
#    speed of training?
# 2. Shift `times_s` of a clip by a constant. Does any example change? Double it: what changes?
#
# <details><summary>Solutions</summary>
#
# 1. Circles are drawn into the pixels, so each needs a video of its own: fewer questions share a prefix, and the time
#    per question goes up by nearly the cost of reading a clip.
# 2. A constant changes nothing, for only spacing enters. Doubling changes `seconds_per_frame` and with it the time
#    positions.
#
# </details>
