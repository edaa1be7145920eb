# %% [markdown]
# # Exports
# > The same records for five trainers, with videos beside them, a check that opens every file, and a data card.

# %%
#| default_exp exports

# %% [markdown]
# #| export
# An export is a folder: the records in one format and `videos/`, all paths relative to the folder. A video holds exactly the
# frames of a record's segment, circles drawn.

# %% [markdown]
# * **What** writers for LLaVA, LLaMA-Factory (ShareGPT), ms-swift, TRL and HF datasets, a reader that goes back, a validator
# * **Why** nobody should have to adopt our trainer to use the questions
# * **Paper** none; the formats follow the documents of those projects, the choice is **[ours]**
# * **Needs** `records`, av; `datasets` only to load the HF folder
# * **Time** 20 seconds
# * **Before this** `12_records`

# %%
#| export
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from track4d_ref.clips import Clip, write_video
from track4d_ref.records import VIDEO, Record, open_clip, record_video
from track4d_ref.storage import InputError, atomic_path, inside, write_json

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.clips import save_clip
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.records import record_from_question, write_records
from track4d_ref.simulator import simulate_clips

# %% [markdown]
# ## Five formats, one table
#
# They differ in three things: whether turns are `from`/`value` or `role`/`content`, whether the video's place is the text
# `<video>` or a typed part, and whether the file is a JSON array or lines. Each format is a pair of functions, there and
# back; the back one exists so that a test can prove that nothing is lost.

# %%
#| export
SPEAKERS = dict(system='system', user='human', assistant='gpt')

def _turns(record: Record) -> list[dict]: return [{'from': SPEAKERS[m['role']], 'value': m['content']} for m in record.messages]

def _from_turns(turns: list[dict]) -> list[dict]:
    roles = {speaker: role for role, speaker in SPEAKERS.items()}
    return [dict(role=roles[turn['from']], content=turn['value']) for turn in turns]

def _typed(record: Record) -> list[dict]:
    messages = []
    for m in record.messages:
        parts = [dict(type='video') for _ in range(m['content'].count(VIDEO))]
        messages.append(dict(role=m['role'], content=parts + [dict(type='text', text=m['content'].replace(VIDEO, '').lstrip('\n'))]))
    return messages

def _from_typed(messages: list[dict]) -> list[dict]:
    def text(parts): return ''.join(VIDEO + '\n' if part['type'] == 'video' else part['text'] for part in parts)
    return [dict(role=m['role'], content=text(m['content'])) for m in messages]

@dataclass(frozen=True)
class Format:
    "A trainer's format: its file, one JSON array or lines, a record and its video to a value, a value back to messages and videos."
    file: str
    lines: bool
    value: Callable[[Record, str], dict]
    back: Callable[[dict], tuple[list[dict], list[str]]]


# %%
#| export
FORMATS = dict(
    llava=Format('llava.json', False, lambda record, video: dict(id=record.id, video=video, conversations=_turns(record)),
                 lambda value: (_from_turns(value['conversations']), [value['video']])),
    sharegpt=Format('sharegpt.json', False, lambda record, video: dict(conversations=_turns(record), videos=[video]),
                    lambda value: (_from_turns(value['conversations']), value['videos'])),
    swift=Format('swift.jsonl', True, lambda record, video: dict(messages=list(record.messages), videos=[video]),
                 lambda value: (value['messages'], value['videos'])),
    trl=Format('trl.jsonl', True, lambda record, video: dict(messages=_typed(record), videos=[video]),
               lambda value: (_from_typed(value['messages']), value['videos'])),
    hf=Format('data/train.jsonl', True, lambda record, video: dict(
        id=record.id, type=record.type, category=record.category, video=video, messages=list(record.messages), answer=record.answer,
        choices=list(record.choices)), lambda value: (value['messages'], [value['video']])))

# %%
clips = list(simulate_clips(3, 14, load_preset('tiny')))
folder = Path(tempfile.mkdtemp())
for clip in clips: save_clip(clip, folder / clip.id)
style = Style(modes=('caption', 'circle'))
records = [record_from_question(question, clip.id, clip.id) for clip in clips for question in ask_all(clip, np.random.default_rng(0), style=style)]
write_records(folder / 'questions.jsonl', records)
for name, form in FORMATS.items(): print(f'{name:9}', json.dumps(form.value(records[0], 'videos/x.mp4'))[:150], '…')

# %%
for record in records:
    for form in FORMATS.values():
        messages, videos = form.back(json.loads(json.dumps(form.value(record, 'videos/x.mp4'))))
        assert messages == list(record.messages) and videos == ['videos/x.mp4']


# %% [markdown]
# ## Videos
#
# Questions on the same segment share one file; a question with circles has its own. The name is a digest of what decides
# the frames. The encoder is the one of notebook 02, which pads odd sizes and gives the same bytes every time.

# %%
#| export
def video_name(record: Record) -> str:
    "The file of a record's video: equal for records that show the same frames."
    circles = [reference for reference in record.references if reference['mode'] == 'circle']
    key = json.dumps([record.clip, record.segment, record.view, circles], sort_keys=True)
    return f'videos/{hashlib.sha256(key.encode()).hexdigest()[:16]}.mp4'

def read_video(path: Path) -> np.ndarray:
    "All frames (T, H, W, 3) of a video; InputError if it cannot be decoded."
    try:
        with av.open(str(path)) as container: return np.stack([frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)])
    except (OSError, av.error.FFmpegError, ValueError) as error: raise InputError(f'{path}: not a video that can be decoded ({error})') from error

def _frames_per_second(clip: Clip, record: Record) -> float:
    times_s = clip.times_s[list(record.segment)]
    return (len(times_s) - 1) / float(times_s[-1] - times_s[0]) if len(times_s) > 1 else 1.0


# %%
record = next(record for record in records if any(reference['mode'] == 'circle' for reference in record.references))
clip = next(clip for clip in clips if clip.id == record.clip)
frames = record_video(record, clip)
write_video(folder / 'one.mp4', frames, 4.0)
back = read_video(folder / 'one.mp4')
figure, axes = plt.subplots(2, 4, figsize=(7, 3.6), dpi=70)
for axis, t in zip(axes.T, (0, 2, 4, 7)): axis[0].imshow(frames[t]); axis[1].imshow(back[t]); axis[0].set_title(f'frame {t}', fontsize=8)
for axis in axes.ravel(): axis.axis('off')
figure.suptitle('the frames of a record (top) and of its video (bottom)', fontsize=9); plt.tight_layout(); plt.show()

# %%
assert back.shape == frames.shape and np.abs(back.astype(int) - frames).mean() < 4
assert video_name(record) != video_name(records[0]) and len({video_name(record) for record in records}) < len(records)

# %% [markdown]
# ## Writing an export
#
# Every video is written once, then the file of the format. LLaMA-Factory wants a `dataset_info.json` that explains the
# columns; a HF folder wants a card with the path of its data.

# %%
#| export
DATASET_INFO = dict(track4d=dict(file_name='sharegpt.json', formatting='sharegpt', columns=dict(messages='conversations', videos='videos'),
                                 tags=dict(role_tag='from', content_tag='value', user_tag='human', assistant_tag='gpt', system_tag='system')))
HF_CARD = '---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train.jsonl\n---\n'

def export_records(records: Iterable[Record], record_file: Path | str, folder: Path | str, format: str) -> Path:
    "Write records of a record file as an export folder in one of FORMATS; the path of its main file is returned."
    if format not in FORMATS: raise InputError(f'export format {format!r} does not exist; use one of {", ".join(FORMATS)}')
    folder, form, values, clip = Path(folder), FORMATS[format], [], None
    for record in records:
        video = video_name(record)
        if not (folder / video).exists():
            if clip is None or clip[0] != record.clip: clip = record.clip, open_clip(record, record_file)
            (folder / video).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder / video) as partial:
                write_video(partial, record_video(record, clip[1]), _frames_per_second(clip[1], record))
        values.append(form.value(record, video))
    target = folder / form.file
    target.parent.mkdir(parents=True, exist_ok=True)
    text = '\n'.join(json.dumps(value, ensure_ascii=False) for value in values) + '\n' if form.lines else json.dumps(values, ensure_ascii=False, indent=1)
    with atomic_path(target) as partial: partial.write_text(text, encoding='utf-8')
    if format == 'sharegpt': write_json(folder / 'dataset_info.json', DATASET_INFO)
    if format == 'hf': (folder / 'README.md').write_text(HF_CARD, encoding='utf-8')
    return target


# %% [markdown]
# ## Opening every file
#
# The validator does what a trainer would do on its first epoch: parse the file, count the video marks, and decode every
# video that is named. Problems are sentences; the first one stops it.

# %%
#| export
def read_export(folder: Path | str, format: str) -> list[tuple[list[dict], list[str]]]:
    "Messages and videos of every sample of an export; InputError names file and sample."
    path = Path(folder) / FORMATS[format].file
    try: text = path.read_text(encoding='utf-8')
    except OSError as error: raise InputError(f'{path}: cannot be read ({error.strerror})') from error
    try:
        values = [json.loads(line) for line in text.splitlines()] if FORMATS[format].lines else json.loads(text)
        return [FORMATS[format].back(value) for value in values]
    except (ValueError, KeyError, TypeError) as error: raise InputError(f'{path}: not in the format {format} ({error!r})') from error

def validate_export(folder: Path | str, format: str) -> dict[str, int]:
    "Open everything an export names; counts of samples, videos and frames, or InputError with the first problem."
    folder, frames = Path(folder), {}
    samples = read_export(folder, format)
    for number, (messages, videos) in enumerate(samples):
        where = f'{folder / FORMATS[format].file} sample {number}'
        marks = sum(m['content'].count(VIDEO) for m in messages)
        if marks != len(videos): raise InputError(f'{where}: {marks} {VIDEO} marks but {len(videos)} videos')
        if not messages or messages[-1]['role'] != 'assistant' or not messages[-1]['content']: raise InputError(f'{where}: no answer at the end')
        for video in videos:
            if video not in frames: frames[video] = len(read_video(inside(folder, video)))
    return dict(samples=len(samples), videos=len(frames), frames=sum(frames.values()))


# %%
found = {name: validate_export(export_records(records, folder / 'questions.jsonl', folder / name, name).parents[1 if name == 'hf' else 0], name) for name in FORMATS}
found

# %%
sizes = {name: sum(path.stat().st_size for path in (folder / name).rglob('*') if path.is_file() and path.suffix != '.mp4') for name in FORMATS}
figure, axis = plt.subplots(figsize=(5, 1.9), dpi=90)
axis.barh(list(sizes), [size / len(records) for size in sizes.values()], color='#0072B2'); axis.set(xlabel='bytes per sample without videos'); plt.tight_layout(); plt.show()

# %%
assert all(counts == found['llava'] for counts in found.values()) and found['llava']['samples'] == len(records)
(folder / 'swift' / video_name(records[0])).write_bytes(b'no video')
try: validate_export(folder / 'swift', 'swift')
except InputError as error: print(str(error)[-60:].replace(str(folder), 'FOLDER'))
else: raise AssertionError('a broken video must be found')


# %% [markdown]
# ## Do the trainers themselves read it?
#
# A format is right when its owner's loader says so. `tests/test_loaders.py` does that where the trainers are installed and skips with a
# reason where not; the documented keys are checked always. All of it passed with the versions below, in an environment of their own.
#
# | trainer | what was called | what was compared |
# |---|---|---|
# | LLaMA-Factory 0.9.5 | `get_dataset_list` on our `dataset_info.json`, `_load_single_dataset`, the `qwen2_vl` plugin's `_regularize_videos` | every message, every video path, the number of frames decoded |
# | ms-swift 4.6.0 | `swift.dataset.load_dataset(…, strict=True)`, `load_file` with `ROOT_IMAGE_DIR` | every message, every video path, the bytes of a video |
# | TRL 1.16.0, datasets 5.2.0 | `load_dataset("json")`, `is_conversational`, `prepare_multimodal_messages`, `apply_chat_template` | one video mark per video, question and answer in the text |
#
# LLaMA-Factory's check of the transformers version was switched off and `torchaudio`, which it imports, replaced by an empty module; no
# sound is read here. Two warnings from that test. LLaMA-Factory takes **two frames per second** unless `video_fps` says otherwise, and
# a question about "frame 5" would then mean another picture: set it to at least the rate of the clips. And TRL's own SFT trainer has no place for
# videos; a collator has to open the file that `videos` names.

# %% [markdown]
# ## The data card
#
# Counts per type and form, how answers are spread, sources, licences, thresholds: what one has to know before training.

# %%
#| export
def card_counts(records: Iterable[Record]) -> dict[str, Counter]:
    "What a data card counts, in one pass."
    counts = {name: Counter() for name in ('type', 'category', 'form', 'answer', 'licence', 'thresholds', 'clip', 'reference')}
    for record in records:
        for name in ('type', 'category', 'clip'): counts[name][getattr(record, name)] += 1
        for name in ('form', 'licence', 'thresholds'): counts[name][str(record.meta.get(name, 'unknown'))] += 1
        if record.choices or record.answer in ('Yes', 'No'): counts['answer'][f'{record.answer} of {len(record.choices) or "Yes/No"}'] += 1
        counts['reference'].update(reference['mode'] for reference in record.references)
    return counts

def data_card(records: Iterable[Record], title: str) -> str:
    "A Markdown page about a set of records."
    counts = card_counts(records)
    total = counts['type'].total()
    lines = [f'# {title}', '', f'{total} records on {len(counts["clip"])} clips.']
    for name, heading in (('type', 'Question types'), ('form', 'Forms'), ('answer', 'Right answers'), ('reference', 'References'),
                          ('licence', 'Licences'), ('thresholds', 'Thresholds (sections of settings.ini)')):
        lines += ['', f'## {heading}', '', '| | records | share |', '|---|--:|--:|']
        whole = max(1, counts[name].total())
        lines += [f'| {key} | {count} | {count / whole:.1%} |' for key, count in sorted(counts[name].items())]
    return '\n'.join(lines) + '\n'


# %%
from IPython.display import Markdown
Markdown(data_card(records, 'Three simulated clips'))

# %%
forms = card_counts(records)['form']
figure, axis = plt.subplots(figsize=(4.5, 1.6), dpi=90)
axis.barh(list(forms), list(forms.values()), color='#0072B2'); axis.set(xlabel='records per form'); plt.tight_layout(); plt.show()

# %%
assert f'{len(records)} records on 3 clips' in data_card(records, 'x') and forms.total() == len(records)

# %% [markdown]
# ## What we proved
#
# * All five formats go back to the same messages; every named video exists and decodes; a broken one is found.
#
# ## Try it
#
# 1. Write a sixth format. Which two functions does it need, and which test covers it at once?
# 2. Store frames as JPEG files instead of videos. What does the disk say, and what do circles look like?
#
# <details><summary>Solutions</summary>
#
# 1. A function from a record to the format's dictionary and one that writes the file; the test that runs over all
#    writers finds it by its registration and compares counts and answers.
# 2. JPEG frames cost several times a video's bytes, for neighbours are not shared. Thin circles get blocks around
#    them at low quality; look at one at quality 75.
#
# </details>
