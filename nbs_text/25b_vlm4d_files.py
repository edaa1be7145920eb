# %% [markdown]
# # VLM4D, the files
# > Reading the question files and recorded outputs of the benchmark, quirks included

# %%
#| default_exp vlm4d_files

# %% [markdown]
# #| export
# `real` and `synthetic` are the splits, `cot` and `direct-output` the prompts. Rows are dictionaries as in
# the files, held by question number (the k of `validation_k`). Options and answers are texts or integers.

# %% [markdown]
# * **What** the question files and the recorded model outputs of VLM4D as checked dictionaries, and a
#   made-up benchmark of the same format
# * **Why** half of all irreproducible scores are reading errors: a zero taken for nothing, a truth taken
#   from the wrong file
# * **Paper** VLM4D (ICCV 2025) and the files of its repository (MIT licence)
# * **Needs** `TRACK4D_DATA` with the folder `vlm4d`; the made-up benchmark without it
# * **Time** 5 seconds
# * **Before this** `25_scoring`, `25a_extraction`

# %% [markdown]
# ## What lies in the folder
#
# Two question files (1,371 questions on real videos, 445 on synthetic ones) and, for each of 23 models and
# two prompts (chain of thought, direct output), one result file per split. A question row holds an id, the
# address of a video, the question, four options and the text of the right one. A result row repeats
# question, options and truth and adds the response, the judge's letter and its verdict. The videos
# themselves are not part of it, and for scoring nobody needs them.
#
# The files have character. Options and answers may be **integers**; 232 of the real answers are, among them
# many zeros, which Python takes for false. One question (number 633) offers the same text under C and D,
# and the judge accepted both. One pair of video and question occurs twice. Two result files were made
# before some synthetic questions were corrected, so their truth differs from the question file: scoring
# them against the question file would be wrong. Nothing of this is repaired here. It is read as it stands,
# and counted where it matters.

# %%
#| export
import random
import re
from itertools import product
from pathlib import Path

from track4d_ref.extraction import is_right
from track4d_ref.scoring import LETTERS
from track4d_ref.storage import InputError, read_json, write_json

# %%
import os
import tempfile
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.scoring import normalise_text

BLUE, ORANGE, GREY = '#2b6cb0', '#dd6b20', '#a0aec0'
plt.rcParams.update({'figure.dpi': 90, 'axes.spines.top': False, 'axes.spines.right': False, 'font.size': 9})

# %% [markdown]
# A loader's second duty is to refuse what it does not understand. A missing field, a verdict that is no
# boolean, an option without a letter: each is one sentence with the file, the row and the field in it. Rows
# that are merely absent are no error; the scorer counts them as missing. A row that stands in the file
# twice, word for word, counts once; two rows with one id that say different things are refused, because
# nobody can know which of them was meant. A response or a judge's letter of `null` is read as an empty
# text: nothing was said, and that is counted too.

# %%
#| export
SPLITS, PROMPTS = ('real', 'synthetic'), ('cot', 'direct-output')
QUESTION_FIELDS = {'id': str, 'video': str, 'question': str, 'choices': dict, 'answer': (str, int)}
ANSWER_FIELDS = {'id': str, 'question': str, 'choices': dict, 'response': str,
                 'ground_truth_answer': (str, int), 'extracted_answer': str, 'correct': bool}
MAY_BE_NULL = ('response', 'extracted_answer')


# %%
#| export
def check_row(row, fields: dict, where: str) -> int:
    """The number in the row's id; InputError naming the place if a field is missing or of a wrong type."""
    if not isinstance(row, dict): raise InputError(f'{where} is not an object with fields')
    for field, kind in fields.items():
        if not isinstance(row.get(field), kind) or (isinstance(row[field], bool) and kind is not bool):
            raise InputError(f"{where} ({row.get('id')}): field '{field}' is missing or of a wrong type")
    kinds = {type(text) for text in row['choices'].values()}
    if not kinds or not kinds <= {str, int} or not set(row['choices']) <= set(LETTERS):
        raise InputError(f"{where} ({row['id']}): 'choices' must map capital letters to texts or integers")
    digits = re.fullmatch(r'validation_([0-9]{1,9})', row['id'])
    if not digits: raise InputError(f"{where}: id {row['id'][:40]!r} does not read validation_NUMBER")
    return int(digits[1])


# %%
#| export
def check_rows(rows, fields: dict, path: Path) -> dict[int, dict]:
    """Rows of a JSON list by question number; InputError names the file, the row and the field."""
    if not isinstance(rows, list) or not rows: raise InputError(f'{path}: needs a list, one row per question')
    numbered = {}
    for place, row in enumerate(rows, 1):
        if isinstance(row, dict):
            row = row | {field: '' for field in MAY_BE_NULL if row.get(field, '') is None}
        number = check_row(row, fields, f'{path}: row {place}')
        if numbered.setdefault(number, row) != row:
            raise InputError(f"{path}: {row['id']} occurs twice with different contents; keep one of them")
    return numbered


# %%
plain = dict(id='validation_7', question='Where?', choices=dict(A='left', B=0), response='A',
             ground_truth_answer=0, extracted_answer='A: left', correct=False)
broken = [[], {}, [1], [dict(plain, correct=1)], [dict(plain, choices=dict(A=None))],
          [plain, dict(plain, response='B')], [dict(plain, id='7')]]
for rows in broken:
    try: check_rows(rows, ANSWER_FIELDS, Path('model.json'))
    except InputError as error: print(error)
    else: raise AssertionError('a malformed file must be an error')

# %%
assert check_rows([plain, dict(plain)], ANSWER_FIELDS, Path('model.json')) == {7: plain}
silent = check_rows([dict(plain, response=None, extracted_answer=None)], ANSWER_FIELDS, Path('model.json'))
assert silent[7]['response'] == silent[7]['extracted_answer'] == ''


# %% [markdown]
# ## Finding the files
#
# The question files lie in the given folder or in its folder `data`; outputs are found by the names of
# their folders, the given one or any below it, so that a clone of the benchmark's repository, a copy of a
# part of it, or an own folder of new results all work alike. A model is known by prompt and file name, and
# its real and synthetic halves belong together.

# %%
#| export
def read_questions(data_dir: Path | str) -> dict[str, dict[int, dict]]:
    """Split -> number -> question, from {real,synthetic}_mc.json in `data_dir` or its folder `data`."""
    root = Path(data_dir)
    if not root.is_dir(): raise InputError(f'{root}: no such folder; --data needs the one with real_mc.json')
    if not (root / 'real_mc.json').exists() and (root / 'data').is_dir(): root = root / 'data'
    paths = {split: root / f'{split}_mc.json' for split in SPLITS}
    return {split: check_rows(read_json(path), QUESTION_FIELDS, path) for split, path in paths.items()}

def read_answers(path: Path | str) -> dict[int, dict]:
    """Number -> result row of one recorded output file."""
    return check_rows(read_json(path), ANSWER_FIELDS, Path(path))


# %%
#| export
def find_outputs(outputs_dir: Path | str) -> dict[tuple[str, str, str], Path]:
    """(prompt, file name, split) -> path, from folders like real_mc_cot anywhere below `outputs_dir`."""
    root, found = Path(outputs_dir), {}
    if not root.is_dir(): raise InputError(f'{root}: no such folder; --outputs needs the recorded answers')
    folders = {f'{split}_mc_{prompt}': (split, prompt) for split, prompt in product(SPLITS, PROMPTS)}
    for path in sorted(root.rglob('*.json')):
        split, prompt = folders.get(path.parent.name, (None, None))
        if split and not path.name.startswith('.'):
            key = prompt, path.name, split
            if key in found: raise InputError(f'{path}: {found[key]} has the same name; keep one of them')
            found[key] = path
    if not found: raise InputError(f'{root}: no files like real_mc_cot/MODEL.json below it; check --outputs')
    return found


# %% [markdown]
# So that notebooks and tests run anywhere, a small benchmark in the same format can be made up: three
# "models" of different skill, questions on both sides of the ego limit, twin options, integer options, and
# answers written in three ways. Its numbers mean nothing.

# %%
#| export
MADE_UP_OPTIONS = (['left', 'right', 'not moving', 'no bus there'], [0, 1, 2, 3],
                   ['up', 'down', 'away', 'Away.'])
MADE_UP_MODELS = {'tiny_8frame': 0.1, 'small_8frame': 0.35, 'large_16frame': 0.5}   # name -> share it knows

def made_up_question(split: str, number: int, rng: random.Random) -> dict:
    """One question row; three questions share a video."""
    texts = rng.sample(rng.choice(MADE_UP_OPTIONS), 4)
    return dict(id=f'validation_{number}', video=f'https://videos/{split}/{number // 3}.mp4',
                question_type='multiple-choice', question=f'Which way does object {number} move?',
                choices=dict(zip('ABCD', texts)), answer=texts[rng.randrange(4)])


# %%
#| export
def made_up_answer(row: dict, skill: float, rng: random.Random) -> dict:
    """One result row of a model that knows a share `skill` of the answers and guesses the rest."""
    letter = rng.choice('ABCD')
    if rng.random() < skill: letter = next(k for k, text in row['choices'].items() if text == row['answer'])
    text = row['choices'][letter]
    said = rng.choice([letter, f'Step by step. The final answer is: {letter}', f'**{letter}: {text}**'])
    return dict(id=row['id'], question=row['question'], choices=row['choices'], response=said,
                ground_truth_answer=row['answer'], extracted_answer=f'{letter}: {text}',
                correct=is_right(letter, row['choices'], row['answer']))


# %%
#| export
def make_up_benchmark(root: Path | str, seed: int = 4) -> Path:
    """Write a small benchmark in VLM4D's format below `root` (data, outputs); its numbers mean nothing."""
    root, rng = Path(root), random.Random(seed)
    for split, first, count in (('real', 820, 210), ('synthetic', 1, 90)):
        rows = [made_up_question(split, number, rng) for number in range(first, first + count)]
        write_json(root / 'data' / f'{split}_mc.json', rows)
        for (model, skill), prompt in product(MADE_UP_MODELS.items(), PROMPTS):
            answers = [made_up_answer(row, skill, rng) for row in rows]
            write_json(root / 'outputs' / f'{split}_mc_{prompt}' / f'{model}.json', answers)
    return root


# %%
temporary = tempfile.TemporaryDirectory()
made_up = make_up_benchmark(temporary.name)
given = os.environ.get('TRACK4D_DATA')
real = Path(given) / 'vlm4d' if given and (Path(given) / 'vlm4d' / 'data').is_dir() else None
questions, files = read_questions(real or made_up), find_outputs(real or made_up)
print('VLM4D' if real else 'a made-up benchmark', {split: len(rows) for split, rows in questions.items()})
first = next(iter(questions['real'].values()))
print(first['question'], first['choices'], '->', first['answer'])

# %%
assert {split: len(rows) for split, rows in read_questions(made_up).items()} == dict(real=210, synthetic=90)
assert len(find_outputs(made_up)) == 12 and read_questions(made_up) == read_questions(made_up / 'data')
try: find_outputs(made_up / 'data')
except InputError as error: print(str(error).split(': ')[1])
else: raise AssertionError('a folder without outputs must be an error')

# %% [markdown]
# ## Parts of the table
#
# The published table has seven columns, and none of them is a field of the files. The real split is divided
# by numeric id: up to 922 the videos are filmed from outside (exo), above it from a head (ego). The
# synthetic split is divided by the truth: an answer that is "no" or begins with "no " says that the
# asked-for thing does not exist (false positive). The blank matters, since "not moving" is a direction.

# %%
#| export
CELLS = ('ego', 'exo', 'real', 'directional', 'false positive', 'synthetic', 'overall')
LAST_EXO = 922              # real questions up to this number are exo-centric, later ones ego-centric

def part_of(split: str, number: int, truth) -> str:
    """The part of the table a question belongs to."""
    if split == 'real': return 'exo' if number <= LAST_EXO else 'ego'
    said = str(truth).strip().lower()
    return 'false positive' if said == 'no' or said.startswith('no ') else 'directional'


# %%
parts = {split: Counter(part_of(split, number, q['answer']) for number, q in rows.items())
         for split, rows in questions.items()}
fig, axis = plt.subplots(figsize=(7, 2.2))
for split, counts in parts.items():
    start = 0
    for colour, (part, count) in zip((BLUE, ORANGE), sorted(counts.items(), key=lambda item: -item[1])):
        axis.barh(split, count, left=start, color=colour, alpha=.8, height=.6)
        label = f'{part}\n{count}'
        inside = count > 100
        axis.text(start + count / 2 if inside else start + count + 10, split, label, va='center', fontsize=8,
                  ha='center' if inside else 'left', color='w' if inside else 'k')
        start += count
axis.set(xlabel='questions', title='Four parts of two splits'); fig.tight_layout()

# %%
truths = 'no', 'No bus there', ' not moving', 'north', 0
assert [part_of('synthetic', 1, truth) for truth in truths] == ['false positive'] * 2 + ['directional'] * 3
if real:
    assert parts['real'] == dict(exo=922, ego=449)
    assert parts['synthetic'] == {'directional': 400, 'false positive': 45}
    for k, q in questions['real'].items(): assert ('ego4d' in q['video']) == (part_of('real', k, 0) == 'ego')


# %% [markdown]
# ## Letters and texts
#
# The truth is stored as a text, so the right letter has to be found, and there may be two. `as_row` turns a
# question into a row of `25_scoring`: options in letter order, all letters with the true text, and the
# first of them as `truth`.
#
# Two checks of the benchmark itself follow. The right letter should not be guessable: a constant letter
# must earn a quarter. The right *text* is another matter.

# %%
#| export
def as_row(split: str, question: dict) -> dict:
    """A question as a `scoring` row: options in letter order, `right` = all letters with the true text."""
    texts = [question['choices'][letter] for letter in sorted(question['choices'])]
    right = [letter for letter, text in zip(LETTERS, texts) if is_right('A', {'A': text}, question['answer'])]
    return dict(type=split, choices=texts, truth=right[0] if right else '', right=right)


# %%
rows = {split: [as_row(split, q) for q in by_number.values()] for split, by_number in questions.items()}
fig, axis = plt.subplots(figsize=(6, 2.8))
for offset, (split, some), colour in zip((-.2, .2), rows.items(), (BLUE, ORANGE)):
    counts = Counter(letter for row in some for letter in row['right'])
    shares = [100 * counts[letter] / len(some) for letter in 'ABCD']
    axis.bar(np.arange(4) + offset, shares, width=.38, color=colour, label=split)
axis.axhline(25, color=GREY, lw=1)
axis.set(xticks=range(4), xticklabels=list('ABCD'), ylabel='questions, %',
         title='A constant letter earns a quarter')
axis.legend(frameon=False, loc='center left', bbox_to_anchor=(1, .5)); fig.tight_layout()

# %%
twins = [row for some in rows.values() for row in some if len(row['right']) > 1]
print(len(twins), 'questions with two right letters')
assert all(row['right'] for some in rows.values() for row in some)
assert as_row('real', dict(choices=dict(A=0, B='0', C=1), answer=0))['right'] == ['A', 'B']
if real: assert len(twins) == 1 and twins[0]['right'] == ['C', 'D']

# %% [markdown]
# Now the texts. In the synthetic split four of them make up more than four fifths of the answers, and not
# in equal shares. What follows from that for a model that never opens the video is computed in the next
# notebook.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for axis, (split, by_number) in zip(axes, questions.items()):
    answers = Counter(normalise_text(q['answer']) for q in by_number.values()).most_common(9)[::-1]
    axis.barh([text for text, _ in answers], [count for _, count in answers], color=BLUE, alpha=.8)
    axis.set(title=split, xlabel='times the right answer')
fig.tight_layout()
if real: assert sum(count for _, count in answers[-4:]) > .8 * len(questions['synthetic'])

# %% [markdown]
# Finally the outputs: how long is a response? Direct answers are a letter; reasoning runs from a sentence
# to two thousand characters, each model in its own band. One expression for all of them would be a guess,
# which is why the extraction is a cascade.

# %%
lengths = {}
for (prompt, name, split), path in files.items():
    label = f'{name.split("_")[0]}, {prompt[:6]} ({split})'
    lengths[label] = [len(row['response']) for row in read_answers(path).values()]
fig, axis = plt.subplots(figsize=(7.5, .8 + .28 * len(lengths)))
axis.boxplot(list(lengths.values()), orientation='horizontal', widths=.6, showfliers=False, whis=(1, 99),
             medianprops=dict(color=ORANGE))
axis.set(xscale='log', yticklabels=list(lengths),
         xlabel='characters of a response (median, quartiles, 1 and 99 %)')
fig.tight_layout()

# %%
assert all(min(values) >= 0 and len(values) <= len(questions['real']) for values in lengths.values())
temporary.cleanup()

# %% [markdown]
# ## What we proved
#
# - Files are read as they stand: integers, twins and zeros included; what is malformed is refused in one
#   sentence.
# - The numeric rule for ego and exo equals the video path on every row; the false-positive rule needs its
#   blank.
# - Letters are balanced, texts are not.
#
# ## Try it
#
# 1. Find the pair of video and question that occurs twice. Do the models answer it alike?
# 2. Treat `0` as missing in `is_right` and count the verdicts that change.
# 3. Add a model to the made-up benchmark that always says "left" if it is offered.
#
# <details><summary>Solutions</summary>
#
# 1. `Counter((row.video, row.question) for row in rows)`; then compare the recorded answers of the two copies, model
#    by model.
# 2. A stored `0` is a verdict 'wrong'. Treated as missing it leaves the denominator, and accuracy rises: print both.
# 3. Add its rows through the same writer as the others; its accuracy is the share of questions where left is right
#    among those that offer it, and that is a prior worth knowing.
#
# </details>
