# %% [markdown]
# # The benchmark, unseen
# > What readers without a video score on the benchmark, per type: trained on the benchmark's other scenes, and on training questions.

# %%
#| default_exp bench_blind

# %% [markdown]
# * **What** three blind readers, two ways to train them, one table beside chance
# * **Why** an accuracy of 60 % is worth nothing if the wording alone gives 55 %
# * **Paper** 4DP-QA §3 names bias as a concern and treats it in its supplementary, which we do not have; the readers are **[ours]**
# * **Needs** `blind`, `records`, `data_samples/bench`
# * **Time** 20 seconds
# * **Before this** `09b_blind`, `12e_bench`

# %%
#| export
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from track4d_ref.blind import NgramReader, PriorReader, possible_answers, right_answer
from track4d_ref.measurements import measure
from track4d_ref.presets import Preset
from track4d_ref.questions import QUESTION_TYPES, Question, Style, ask_measured_all
from track4d_ref.records import Record, read_records
from track4d_ref.simulator import simulate_clips

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.storage import project_path
from track4d_ref.viz import PALETTE, use_style
use_style()

# %% [markdown]
# ## From records back to questions
#
# The readers want the text, the options and the answer; a record has them all. One thing the readers of
# [09b](09b_blind.ipynb) skip are numbers, and a coordinate is a strong hint: what stands lower in a picture is usually
# nearer. A third reader therefore gets every point `(x, y)` in words, its place on a grid of five by five, and for two points
# which is higher and which is further left.

# %%
#| export
POINT = re.compile(r'\((\d\.\d{3}), (\d\.\d{3})\)')
GRID = 'abcde'

def question_of(record: Record) -> Question:
    "A record as the question it was made from, as far as a reader of text is concerned."
    text = record.question.split('\n')[0]
    return Question(record.type, text, record.choices, record.answer, record.segment, record.view, record.references, meta=record.meta)

def places_in_words(text: str) -> str:
    "Every point of a text in words: 'placeb rowd', and for the first two points which is higher and further left."
    points = [tuple(map(float, match)) for match in POINT.findall(text)]
    told = POINT.sub(lambda match: ' '.join(name + GRID[min(4, int(5 * float(value)))] for name, value in zip(('place', 'row'), match.groups())), text)
    if len(points) < 2: return told
    (left, top), (right, bottom) = points[:2]
    return f'{told} first{"higher" if top < bottom else "lower"} first{"left" if left < right else "right"}'


# %%
records = read_records(project_path('data_samples/bench/questions.jsonl'))
questions = [question_of(record) for record in records]
example = 'Is the object at (0.412, 0.587) in frame 3 nearer than the object at (0.105, 0.301) in frame 3?'
print(places_in_words(example))

# %%
assert len(questions) == len(records) and all(possible_answers(question) for question in questions)
assert 'placec rowc' in places_in_words(example) and places_in_words(example).endswith('firstlower firstright')
assert places_in_words('no point here') == 'no point here'

# %% [markdown]
# ## On the benchmark's other scenes
#
# Somebody who knows part of a benchmark knows its habits. The scenes are dealt into five parts; each part is answered by
# readers trained on the other four. All questions of a scene stay together, or the readers would recognise the scene.

# %%
#| export
READERS = ('prior', 'n-grams', 'n-grams and places')

def _reader(name: str, questions: Sequence[Question], seed: int):
    return PriorReader(questions) if name == 'prior' else NgramReader(questions, np.random.default_rng(seed))

def _text(name: str, questions: Sequence[Question]) -> list[Question]:
    if name != 'n-grams and places': return list(questions)
    return [replace(question, text=places_in_words(question.text)) for question in questions]

def verdicts_across(questions: Sequence[Question], scenes: Sequence[str], name: str, parts: int = 5, seed: int = 0) -> np.ndarray:
    "Whether a reader trained on the other parts is right on each question (Q,) bool; scenes are never cut apart."
    told, names = _text(name, questions), sorted(set(scenes))
    part = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % parts))
    belongs, right = np.array([part[scene] for scene in scenes]), np.zeros(len(told), bool)
    for number in range(parts):
        reader = _reader(name, [told[k] for k in np.flatnonzero(belongs != number)], seed)
        for k in np.flatnonzero(belongs == number): right[k] = reader.choose(told[k]) == right_answer(told[k])
    return right


# %%
scenes = [record.clip for record in records]
right = {name: verdicts_across(questions, scenes, name) for name in READERS}
level = np.array([1 / len(possible_answers(question)) for question in questions])
print({name: f'{100 * (found.mean() - level.mean()):+.1f} points' for name, found in right.items()})

# %%
figure, axis = plt.subplots(figsize=(6, 1.8), dpi=90)
axis.barh(list(right), [100 * (found.mean() - level.mean()) for found in right.values()], color=PALETTE[1]); axis.invert_yaxis()
axis.axvline(0, color='k'); axis.axvspan(-3, 3, color=PALETTE[2], alpha=0.15); axis.set(xlim=(-12, 12), xlabel='points above chance'); plt.tight_layout(); plt.show()

# %% [markdown]
# Below chance is no accident: a balanced set in which one answer is missing leans to the other side, so a reader that
# follows what it counted is wrong a little more often than a coin. Only *above* chance means that the wording tells.

# %%
assert all(found.mean() - level.mean() < 0.03 for found in right.values())

# %% [markdown]
# ## On training questions
#
# The other way to know habits is to train on the training set, which is not balanced. These readers get questions of the
# training series of simulated scenes, in the styles that training uses: ten scenes here, 300 behind the stored table.

# %%
#| export
TRAINING_SEED = 20261        # the series of the tables' training clips

def training_questions(preset: Preset, scenes: int, seed: int = TRAINING_SEED, progress: bool = True) -> list[Question]:
    "Multiple-choice and Yes/No questions about training scenes, unbalanced."
    types, found = tuple(name for name, kind in QUESTION_TYPES.items() if kind.category != 'tracking'), []
    clips = tqdm(simulate_clips(scenes, seed, preset), 'training scenes', scenes, unit='scene', disable=None if progress else True)
    for number, clip in enumerate(clips):
        style = Style(modes=('caption', 'caption', 'pixel'))
        found += ask_measured_all(measure(clip), np.random.default_rng([seed, number]), types, 4, style=style)
    return found

def verdicts_from_training(train: Sequence[Question], questions: Sequence[Question], name: str, seed: int = 0) -> np.ndarray:
    "Whether a reader trained on other questions is right on each (Q,) bool."
    reader, told = _reader(name, _text(name, train), seed), _text(name, questions)
    return np.array([reader.choose(question) == right_answer(question) for question in told])


# %%
train = training_questions(load_preset('tiny'), 10, progress=False)
learned = {name: verdicts_from_training(train, questions, name) for name in READERS}
print(len(train), 'training questions;', {name: f'{100 * (found.mean() - level.mean()):+.1f} points' for name, found in learned.items()})

# %%
assert all(found.mean() - level.mean() < 0.03 for found in learned.values())


# %% [markdown]
# ## Per type
#
# The table gives every reader's accuracy per type beside chance. A type with 60 questions has a standard error of six points,
# so single cells scatter; the line *all* is what the limit of three points is meant for.

# %%
#| export
def blind_rows(kinds: Sequence[str], level: np.ndarray, right: dict[str, np.ndarray]) -> list[dict]:
    "Per type and for 'all': number, chance and the accuracy of every reader, in percent."
    rows, kinds = [], np.array(kinds)
    for kind in ('all', *dict.fromkeys(kinds.tolist())):
        chosen = kinds == kind if kind != 'all' else np.ones(len(kinds), bool)
        rows.append(dict(type=kind, questions=int(chosen.sum()), chance=round(100 * float(level[chosen].mean()), 1),
                         **{name: round(100 * float(found[chosen].mean()), 1) for name, found in right.items()}))
    return rows

def blind_table(folder: Path | str, preset: Preset, scenes: int = 300, progress: bool = True) -> list[dict]:
    "The blind readers on a benchmark folder: '… here' trained on its other scenes, '… trained' on training questions."
    records = read_records(Path(folder) / 'questions.jsonl')
    questions, clips = [question_of(record) for record in records], [record.clip for record in records]
    level = np.array([1 / len(possible_answers(question)) for question in questions])
    train = training_questions(preset, scenes, progress=progress)
    right = {f'{name}, here': verdicts_across(questions, clips, name) for name in READERS}
    right |= {f'{name}, trained': verdicts_from_training(train, questions, name) for name in READERS}
    return blind_rows([record.type for record in records], level, right)


# %%
rows = blind_rows([record.type for record in records], level, {f'{name}, here': found for name, found in right.items()})
figure, axis = plt.subplots(figsize=(7, 3.4), dpi=90)
for number, (name, color) in enumerate(zip((f'{name}, here' for name in READERS), PALETTE)):
    axis.barh(np.arange(len(rows)) + 0.27 * (number - 1), [row[name] - row['chance'] for row in rows], 0.25, color=color, label=name)
axis.set_yticks(range(len(rows)), [f'{row["type"]} ({row["questions"]})' for row in rows], fontsize=7); axis.invert_yaxis()
axis.axvline(0, color='k', lw=1); axis.legend(fontsize=7, ncols=3, loc='lower left', bbox_to_anchor=(0, 1)); axis.set(xlabel='points above chance'); plt.tight_layout(); plt.show()

# %%
figure, axis = plt.subplots(figsize=(7, 2.2), dpi=90)
lengths = {answer: [len(question.text.split()) for question in questions if question.answer == answer] for answer in ('Yes', 'No')}
axis.hist(lengths.values(), bins=range(4, 34, 2), label=list(lengths), color=PALETTE[:2]); axis.legend(fontsize=7)
axis.set(xlabel='words in a Yes/No question', ylabel='questions'); plt.tight_layout(); plt.show()

# %%
assert rows[0]['type'] == 'all' and rows[0]['questions'] == len(questions) and len(rows) == 12
assert abs(np.mean(lengths['Yes']) - np.mean(lengths['No'])) < 0.5

# %% [markdown]
# ## What we proved
#
# * No reader of text, not even one that reads coordinates, is more than three points above chance on the benchmark.
# * Knowing four fifths of the benchmark, or the habits of the training questions, does not help.
#
# ## Try it
#
# 1. Allow pixel references for depth in `12e_bench` and run the third reader again. How much does a coordinate give away?
# 2. Feed the readers the transfer set. Does its other wording change what they find?
#
# <details><summary>Solutions</summary>
#
# 1. The lower of two things on a floor is nearly always the nearer one, so the reader of places rises well above chance for depth.
# 2. `track4d score blind --bench data_samples/transfer`. The words are new to readers trained on training questions, so they find even less.
#
# </details>
