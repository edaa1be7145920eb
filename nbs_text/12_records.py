# %% [markdown]
# # Records
# > One line of JSON per question, relation or dialogue: written whole or not at all, read with every field checked.

# %%
#| default_exp records

# %% [markdown]
# #| export
# A record file is JSONL in UTF-8, one record per line, all of the same version. Clip paths are relative to the folder of the
# file. `segment` lists the clip frames that make the video; frame numbers elsewhere in a record count from 0 in that video.

# %% [markdown]
# * **What** the `Record`, its schema, reading, writing, and how to get back to the frames a question is about
# * **Why** everything downstream (training, scoring, other people's trainers) meets here; a bad line must be found here
# * **Paper** none; the schema is **[ours]**
# * **Needs** `storage`, `clips`, `questions`
# * **Time** 10 seconds
# * **Before this** `02_clips`, `09_questions`

# %%
#| export
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from track4d_ref.clips import Clip, load_clip
from track4d_ref.questions import Question
from track4d_ref.references import draw_references
from track4d_ref.storage import InputError, atomic_path, inside
from track4d_ref.templates import LETTERS

# %%
import tempfile
from collections import Counter

import matplotlib.pyplot as plt

from track4d_ref.clips import save_clip
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.simulator import simulate_clip

# %% [markdown]
# ## The record
#
# `messages` is what a trainer sees: a list of roles and contents, with `<video>` where the video goes. The answer stands
# there once more as the assistant's last message. `answer` beside it is the truth for the score: for a dialogue it is the
# last answer, for a multiple choice the letter.

# %%
#| export
SCHEMA_VERSION = 1
VIDEO = '<video>'

@dataclass(frozen=True)
class Record:
    "One question, relation or dialogue about a clip segment."
    id: str
    clip: str                                     # folder of the clip, relative to the record file
    segment: tuple[int, ...]                      # frames of the clip that make the video
    view: int
    type: str
    category: str
    messages: tuple[dict, ...]                    # {role, content}; '<video>' marks the video in the first user message
    answer: str
    choices: tuple[str, ...] = ()
    references: tuple[dict, ...] = ()
    targets: dict = field(default_factory=dict)   # tracks, trajectories, measurements
    meta: dict = field(default_factory=dict)
    version: int = SCHEMA_VERSION

    @property
    def question(self) -> str:
        "The last user message without its video mark."
        return [m['content'] for m in self.messages if m['role'] == 'user'][-1].removeprefix(VIDEO).lstrip('\n')

    def _repr_html_(self) -> str:
        return f'<pre style="margin:2px">{self.id} · {self.type} · {self.clip} frames {list(self.segment)}\n{self.question}\n→ {self.answer}</pre>'


# %%
#| export
def record_from_question(question: Question, clip_id: str, clip_path: str) -> Record:
    "A question as a record; its id is made of the clip's id and a digest of everything the question says."
    said = json.dumps([question.type, question.text, question.choices, question.answer, question.frames, question.view])
    digest = hashlib.sha256(said.encode()).hexdigest()[:10]
    messages = (dict(role='user', content=f'{VIDEO}\n{question.prompt}'), dict(role='assistant', content=question.answer))
    return Record(f'{clip_id}-{digest}', clip_path, question.frames, question.view, question.type, question.category, messages,
                  question.answer, question.choices, question.references, question.targets, question.meta)


# %%
clip = simulate_clip(12, load_preset('tiny'))
questions = ask_all(clip, np.random.default_rng(0), per_type=2, style=Style(modes=('caption', 'pixel', 'circle')))
records = [record_from_question(question, clip.id, clip.id) for question in questions]
records[0]

# %%
assert len({record.id for record in records}) == len(records)
assert records[0].question == questions[0].prompt and records[0].messages[-1]['content'] == records[0].answer

# %% [markdown]
# ## Checking
#
# One function knows the schema. It raises on the first thing that is wrong and names the field. What it demands beyond
# types: the video is marked once or more, in the first user message and nowhere else; roles alternate and end with the
# assistant; a multiple choice is answered by one of its letters; frame numbers point into the segment.

# %%
#| export
FIELD_TYPES = dict(id=str, clip=str, segment=(list, tuple), view=int, type=str, category=str, messages=(list, tuple), answer=str,
                   choices=(list, tuple), references=(list, tuple), targets=dict, meta=dict, version=int)

def _need(condition, where: str, sentence: str) -> None:
    if not condition: raise InputError(f'{where}: {sentence}')

def _check_messages(messages, where: str) -> None:
    _need(all(isinstance(m, dict) and set(m) == {'role', 'content'} and isinstance(m['content'], str) for m in messages), where,
          "field 'messages' must hold objects with the texts 'role' and 'content'")
    roles = [m['role'] for m in messages]
    turns = roles[1:] if roles[:1] == ['system'] else roles
    _need(turns and len(turns) % 2 == 0 and turns == ['user', 'assistant'] * (len(turns) // 2), where,
          f"field 'messages' must alternate user and assistant and end with the assistant, but its roles are {roles}")
    first = len(roles) - len(turns)
    marks = [m['content'].count(VIDEO) for m in messages]
    _need(marks[first] and sum(marks) == marks[first], where, f"field 'messages' must have {VIDEO} in the first user message and nowhere else")


# %%
#| export
def check_record(value: dict, where: str = 'record') -> None:
    "Raise InputError naming `where` and the field if a record's dict does not follow the schema."
    _need(isinstance(value, dict), where, 'a record must be a JSON object')
    _need(value.get('version') == SCHEMA_VERSION, where, f"field 'version' is {value.get('version')!r}; this code reads version {SCHEMA_VERSION}")
    missing, unknown = sorted(set(FIELD_TYPES) - set(value)), sorted(set(value) - set(FIELD_TYPES))
    _need(not missing, where, f"field {missing[:1]} is missing")
    _need(not unknown, where, f"field {unknown[:1]} is not part of a record")
    for name, kind in FIELD_TYPES.items():
        _need(isinstance(value[name], kind) and not isinstance(value[name], bool), where, f"field {name!r} has the wrong type {type(value[name]).__name__}")
    segment = value['segment']
    _need(segment and all(isinstance(frame, int) and frame >= 0 for frame in segment) and list(segment) == sorted(set(segment)), where,
          "field 'segment' must list different frame numbers in rising order")
    _check_messages(value['messages'], where)
    letters = LETTERS[:len(value['choices'])]
    _need(not letters or (len(value['answer']) == 1 and value['answer'] in letters), where, f"field 'answer' is {value['answer']!r}, not one of {letters}")
    for reference in value['references']:
        _need(isinstance(reference, dict) and {'object', 'mode', 'frame', 'uv'} <= set(reference), where, "field 'references' needs object, mode, frame and uv")
        _need(0 <= reference['frame'] < len(segment), where, f"field 'references' names frame {reference['frame']} of a video with {len(segment)}")


# %% [markdown]
# Each fault below is made on purpose, and each message names what to repair.

# %%
good = json.loads(json.dumps(dataclasses.asdict(records[0])))
faults = dict(version=2, segment=[3, 1], view='0', answer='Z', messages=good['messages'][:1], choices=None,
              references=[dict(object=1, mode='pixel', frame=99, uv=None)])
for name, wrong in faults.items():
    try: check_record({**good, name: wrong, **({'choices': ['x', 'y']} if name == 'answer' else {})}, 'train.jsonl line 7')
    except InputError as error: print(error); assert name in str(error)
    else: raise AssertionError(name)

# %%
check_record(good)
for record in records: check_record(dataclasses.asdict(record))


# %% [markdown]
# ## Files
#
# Writing goes through a temporary name, so a crash leaves the old file or none. Reading checks line by line and says which
# line of which file is wrong. `iterate_records` holds one record at a time, for files larger than memory.

# %%
#| export
def write_records(path: Path | str, records: Iterable[Record]) -> int:
    "Write records as JSONL, atomically; returns their number. A record that breaks the schema stops everything."
    count, path = 0, Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, open(partial, 'w', encoding='utf-8', newline='\n') as out:
        for record in records:
            value = dict(vars(record))    # not asdict: it copies deeply, a fifth of all time
            check_record(value, f'{path.name} record {record.id!r}')
            out.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + '\n')
            count += 1
    return count

def _record(value: dict) -> Record:
    tuples = {name: tuple(value[name]) for name in ('segment', 'messages', 'choices', 'references')}
    return Record(**{**value, **tuples})

def iterate_records(path: Path | str) -> Iterator[Record]:
    "Records of a JSONL file one by one; InputError names file, line and field of the first fault."
    try: lines = open(path, encoding='utf-8')
    except OSError as error: raise InputError(f'{path}: cannot be read ({error.strerror}); check the path') from error
    with lines:
        for number, line in enumerate(lines, 1):
            where = f'{path} line {number}'
            try: value = json.loads(line)
            except ValueError as error: raise InputError(f'{where}: not JSON ({error}); was the file cut off?') from error
            check_record(value, where)
            yield _record(value)


# %%
#| export
def read_records(path: Path | str) -> list[Record]:
    "All records of a JSONL file; two with the same id are an InputError."
    records, known = [], set()
    for number, record in enumerate(iterate_records(path), 1):
        _need(record.id not in known, f'{path} line {number}', f"field 'id' {record.id!r} occurs twice")
        known.add(record.id)
        records.append(record)
    return records


# %%
folder = Path(tempfile.mkdtemp())
print(write_records(folder / 'questions.jsonl', records), 'records,', (folder / 'questions.jsonl').stat().st_size // len(records), 'bytes each')
back = read_records(folder / 'questions.jsonl')

# %%
assert back == records
(folder / 'cut.jsonl').write_text((folder / 'questions.jsonl').read_text()[:-40])
try: read_records(folder / 'cut.jsonl')
except InputError as error: assert f'line {len(records)}' in str(error)
else: raise AssertionError('a cut file must be refused')


# %% [markdown]
# ## Back to the frames
#
# A record alone must be enough to show its video: load the clip, take the view, the segment, draw the circles.

# %%
#| export
def open_clip(record: Record, record_file: Path | str) -> Clip:
    "The clip of a record, found relative to its file; InputError if it is not there or outside that folder."
    return load_clip(inside(Path(record_file).parent, record.clip))

def record_video(record: Record, clip: Clip) -> np.ndarray:
    "The frames (T, H, W, 3) a record is about, with its circles drawn; InputError if the clip has no such frames."
    where = f'record {record.id!r}'
    _need(record.view < len(clip.views), where, f"field 'view' is {record.view}, but clip {clip.id} has {len(clip.views)}")
    view = clip.views[record.view]
    _need(view.frames is not None and record.segment[-1] < len(view.frames), where,
          f"field 'segment' ends at {record.segment[-1]}, but clip {clip.id} has no such frame")
    return draw_references(view.frames[list(record.segment)], record.references)


# %%
save_clip(clip, folder / clip.id)
record = next(record for record in back if any(reference['mode'] == 'circle' for reference in record.references))
video = record_video(record, open_clip(record, folder / 'questions.jsonl'))
shown = sorted({reference['frame'] for reference in record.references})[:3]
figure, axes = plt.subplots(1, 3, figsize=(8, 2.9), dpi=90)
for axis in axes: axis.axis('off')
for axis, t in zip(axes, shown): axis.imshow(video[t]); axis.set_title(f'frame {t}', fontsize=9)
figure.suptitle(record.question + '\n→ ' + record.answer, fontsize=8, y=1.15); plt.show()

# %%
assert video.shape[0] == len(record.segment) and (video != clip.view.frames[list(record.segment)]).any()
assert (record_video(dataclasses.replace(record, references=()), clip) == clip.view.frames[list(record.segment)]).all()

# %% [markdown]
# ## What a file holds
#
# Two pictures that every data set should come with: how many of each type, and how long questions and answers are.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), dpi=90)
kinds = Counter(record.type for record in back)
axes[0].barh(list(kinds), list(kinds.values()), color='#0072B2'); axes[0].invert_yaxis(); axes[0].tick_params(labelsize=7)
axes[0].set_title('records per type', fontsize=9)
axes[1].scatter([len(record.question.split()) for record in back], [len(record.answer.split()) for record in back], s=14, color='#D55E00')
axes[1].set(xlabel='words in the question', ylabel='words in the answer', yscale='log'); plt.tight_layout(); plt.show()

# %%
letters = Counter(record.answer for record in back if record.choices)
figure, axis = plt.subplots(figsize=(4, 1.8), dpi=90)
axis.bar(sorted(letters), [letters[letter] for letter in sorted(letters)], color='#0072B2'); axis.set_title('right letter', fontsize=9); plt.show()

# %%
assert kinds.total() == len(records) and set(letters) <= set('ABCD')

# %% [markdown]
# ## What we proved
#
# * What is written is read back equal; a cut file, a wrong type and a wrong letter are refused with line and field.
# * From a record and its file one gets back to the exact frames, circles included.
#
# ## Try it
#
# 1. Add a field to `Record`. Which lines make old files unreadable, and how would you migrate them?
# 2. Write the same records as one JSON array. How much memory does reading a million of them take, compared with JSONL?
#
# <details><summary>Solutions</summary>
#
# 1. `read_records` refuses unknown and missing fields, so files need either a default for the new field or a version.
#    Raise the schema's version and write a function that turns version 1 into 2, once, file by file.
# 2. An array must be parsed whole before its first record can be used; JSONL needs one line at a time. Measure with
#    `tracemalloc` over a generated file; do not hold the list.
#
# </details>
