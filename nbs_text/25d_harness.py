# %% [markdown]
# # A task for an evaluation harness
# > Records become an lmms-eval task folder whose scores come from this package, so the two cannot disagree

# %%
#| default_exp harness

# %% [markdown]
# #| export
# A document is one line of the task's `test.jsonl`: `id`, `clip`, `type`, `category`, `choices`, `answer`,
# `prompt` and `video`, a path relative to the task folder. The task folder holds a YAML file, `utils.py`,
# `test.jsonl` and `videos/`.

# %% [markdown]
# * **What** `write_task(records, folder)`: everything lmms-eval needs to run a model on our benchmark
# * **Why** most people evaluate with a harness; a scorer rewritten for it drifts away from the original
#   within weeks
# * **Paper** 4DP-QA, section 4: exact match "following VSI-Bench", which lives in that harness
# * **Needs** simulated clips only; lmms-eval itself is not needed to write or to test the folder
# * **Time** 20 seconds
# * **Before this** `12_records`, `25_scoring`, `25a_extraction`

# %% [markdown]
# ## What a harness wants
#
# lmms-eval reads a YAML file that names a data set and five functions in a `utils.py` beside it: which
# video belongs to a document, what is asked, what is right, how an answer is graded, how grades are summed
# up. A model enters from the other side. Whoever wants to be in its tables writes these five functions
# again for every benchmark, and that is where scores begin to differ: another blank stripped here, another
# mean there.
#
# So `utils.py` will contain no rule at all. Each of its functions calls this module, which calls
# `25_scoring` and `25a_extraction`.

# %%
#| export
import hashlib
import json
import re
from pathlib import Path

from track4d_ref.clips import clip_fps, write_video
from track4d_ref.extraction import score_extracted
from track4d_ref.records import Record, open_clip, read_records, record_video
from track4d_ref.scoring import YES_NO, accuracy_table, score_rows, score_vsi
from track4d_ref.storage import InputError, atomic_folder, inside

# %%
import importlib.util
import tempfile
from collections import Counter

import av
import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.clips import save_clip
from track4d_ref.presets import load_preset
from track4d_ref.questions import Style, ask_all
from track4d_ref.records import record_from_question, write_records
from track4d_ref.simulator import simulate_clips

BLUE, ORANGE, GREY = '#2b6cb0', '#dd6b20', '#a0aec0'
plt.rcParams.update({'figure.dpi': 90, 'axes.spines.top': False, 'axes.spines.right': False, 'font.size': 9})

# %% [markdown]
# For the examples we simulate two clips, ask them a few questions of every kind and write the records, as
# any user of the package would.

# %%
temporary = tempfile.TemporaryDirectory()
folder, rng, records = Path(temporary.name), np.random.default_rng(2), []
for clip in simulate_clips(2, 25, load_preset('tiny')):
    save_clip(clip, folder / clip.id)
    asked = ask_all(clip, rng, per_type=2, style=Style(('choice', 'yes_no', 'free'), ('caption', 'circle')))
    records += [record_from_question(question, clip.id, clip.id) for question in asked]
write_records(folder / 'records.jsonl', records)
print(len(records), 'records;', Counter(record.category for record in records))

# %%
assert len(records) > 20 and {record.category for record in records} >= {'camera', 'object'}


# %% [markdown]
# ## Which records can be graded by a string
#
# Exact match needs a closed set of answers: option letters, or Yes and No. Tracks and free numbers have
# their own metrics and stay out, and so do dialogues, whose later turns depend on earlier answers. What is
# left out is counted, not hidden.

# %%
#| export
def gradable(record: Record) -> bool:
    """True for a single question whose answer is an option letter or Yes/No."""
    turns = sum(message['role'] == 'user' for message in record.messages)
    return turns == 1 and (bool(record.choices) or record.answer.lower() in YES_NO)

def video_name(record: Record) -> str:
    """A file name that is equal for records with the same frames, circles included."""
    shown = [record.clip, record.segment, record.view,
             [reference for reference in record.references if reference['mode'] == 'circle']]
    return f'videos/{hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]}.mp4'

def document(record: Record) -> dict:
    """One line of test.jsonl."""
    return dict(id=record.id, clip=record.clip, type=record.type, category=record.category,
                choices=list(record.choices), answer=record.answer, prompt=record.question,
                video=video_name(record))


# %%
kept, out = (Counter(r.type for r in records if gradable(r) == which) for which in (True, False))
types = sorted(kept | out)
fig, axis = plt.subplots(figsize=(7, .8 + .24 * len(types)))
axis.barh(types, [kept[t] for t in types], color=BLUE, label='in the task')
axis.barh(types, [out[t] for t in types], left=[kept[t] for t in types], color=GREY, label='left out')
axis.set(xlabel='records', title='A string can grade only closed answers'); axis.invert_yaxis()
axis.legend(frameon=False, loc='center left', bbox_to_anchor=(1, .5)); fig.tight_layout()

# %%
documents = [document(record) for record in records if gradable(record)]
assert kept and out and len({d['id'] for d in documents}) == len(documents)
assert len({d['video'] for d in documents}) <= len(documents) and all(d['prompt'] for d in documents)

# %% [markdown]
# ## The five functions
#
# They take documents as the harness hands them over, plain dictionaries. Grading returns one scored row per
# metric; summing up is the overall line of the accuracy table. Two metrics are reported side by side: the
# exact match of the papers, and the reading by extraction, which shows how much of a low score is
# handwriting.

# %%
#| export
METRICS = {'exact_match_vsi': score_vsi, 'extracted_match': score_extracted}

def doc_to_visual(doc: dict, folder: Path | str) -> list[str]:
    """The path of the document's video, in a list; InputError if the file is not there."""
    path = inside(folder, doc['video'])
    if not path.is_file(): raise InputError(f"{path}: no such video ({doc['id']}); write the task again")
    return [str(path)]

def doc_to_text(doc: dict) -> str:
    """The prompt: question, lettered options, instruction."""
    return doc['prompt']

def doc_to_target(doc: dict) -> str:
    """The answer that is right."""
    return doc['answer']


# %%
#| export
def process_results(doc: dict, results: list[str]) -> dict[str, dict]:
    """Metric -> scored row for the first response to a document."""
    row = {field: doc[field] for field in ('id', 'clip', 'type', 'category', 'choices')}
    row |= dict(truth=doc['answer'], answer=results[0])
    return {name: score_rows([row], scorer)[0] for name, scorer in METRICS.items()}

def aggregate(rows: list[dict]) -> float:
    """Item-weighted accuracy of scored rows: the overall line of the accuracy table."""
    return accuracy_table(rows).lines[-1].accuracy


# %%
doc = documents[0]
print(doc_to_text(doc), '\n->', doc_to_target(doc))
{name: row['correct'] for name, row in process_results(doc, [f'The answer is {doc["answer"]}.']).items()}

# %%
said = process_results(doc, [f'The answer is {doc["answer"]}.'])
assert not said['exact_match_vsi']['correct'] and said['extracted_match']['correct']
assert all(row['correct'] for row in process_results(doc, [doc['answer']]).values())
try: doc_to_visual(dict(doc, video='../elsewhere.mp4'), folder)
except InputError as error: print(str(error).split(' its folder')[0])
else: raise AssertionError('a path out of the folder must be an error')

# %% [markdown]
# ## Writing the folder
#
# The YAML text is put together from quoted strings; the harness's own tag `!function` names the functions.
# The data set is the harness's plain JSON loader with an absolute path, because it would look for a
# relative one in the directory it was started from: **write the task where it will be used**. Videos are
# encoded once per set of frames, circles drawn in, and the folder appears only when it is complete.

# %%
#| export
TASK_FUNCTIONS = ('doc_to_visual', 'doc_to_text', 'doc_to_target', 'process_results')

def task_yaml(name: str, data: Path) -> str:
    """The task file: data set, functions, greedy decoding, the two metrics."""
    lines = [f'task: {json.dumps(name)}', 'dataset_path: json', 'dataset_kwargs:', '  data_files:',
             f'    test: {json.dumps(data.as_posix())}', 'test_split: test', 'output_type: generate_until',
             *(f'{function}: !function utils.{function}' for function in TASK_FUNCTIONS),
             'generation_kwargs:', '  max_new_tokens: 64', '  temperature: 0', '  do_sample: false',
             'metric_list:']
    for metric in METRICS:
        lines += [f'  - metric: {metric}', '    aggregation: !function utils.aggregate',
                  '    higher_is_better: true']
    return '\n'.join([*lines, 'metadata:', '  version: 1.0', ''])

UTILS_TEXT = '''"""Functions of a task written by track4d_ref: every rule lives in that package."""
from pathlib import Path

from track4d_ref import harness

FOLDER = Path(__file__).parent


def doc_to_visual(doc, lmms_eval_specific_kwargs=None): return harness.doc_to_visual(doc, FOLDER)
def doc_to_text(doc, lmms_eval_specific_kwargs=None): return harness.doc_to_text(doc)
def doc_to_target(doc, model_specific_target_kwargs=None): return harness.doc_to_target(doc)
def process_results(doc, results): return harness.process_results(doc, results)
def aggregate(rows): return harness.aggregate(rows)
'''


# %%
#| export
def write_task(records_file: Path | str, folder: Path | str, name: str = 'track4d') -> tuple[int, int]:
    """Write the task folder of a record file; returns how many records are in it and how many are not."""
    folder, records = Path(folder).resolve(), read_records(records_file)
    if not re.fullmatch(r'\w+', name, re.ASCII):
        raise InputError(f'task name {name!r}: use letters, digits and _ only')
    chosen = [record for record in records if gradable(record)]
    if not chosen: raise InputError(f'{records_file}: no record with options or Yes/No; nothing to grade')
    with atomic_folder(folder) as partial:
        (partial / 'videos').mkdir()
        for record in {video_name(record): record for record in chosen}.values():
            clip = open_clip(record, records_file)
            write_video(partial / video_name(record), record_video(record, clip), clip_fps(clip))
        lines = (json.dumps(document(record), ensure_ascii=False) for record in chosen)
        (partial / 'test.jsonl').write_text('\n'.join(lines) + '\n', encoding='utf-8')
        (partial / f'{name}.yaml').write_text(task_yaml(name, folder / 'test.jsonl'), encoding='utf-8')
        (partial / 'utils.py').write_text(UTILS_TEXT, encoding='utf-8')
    return len(chosen), len(records) - len(chosen)


# %%
task = folder / 'task'
print('in the task, left out:', write_task(folder / 'records.jsonl', task, 'track4d_tiny'))
print(re.sub(r'test: ".*/', 'test: "…/', (task / 'track4d_tiny.yaml').read_text()))

# %%
frames = [frame.to_ndarray(format='rgb24') for frame in av.open(doc_to_visual(doc, task)[0]).decode(video=0)]
fig, axes = plt.subplots(1, 3, figsize=(6, 2.3))
for axis, i in zip(axes, np.linspace(0, len(frames) - 1, 3).round().astype(int)):
    axis.imshow(frames[i]); axis.set(xticks=[], yticks=[], title=f'frame {i}')
fig.suptitle(doc['prompt'].split('\n')[0]); fig.tight_layout()

# %%
assert {p.name for p in task.iterdir()} == {'test.jsonl', 'track4d_tiny.yaml', 'utils.py', 'videos'}
assert len(list((task / 'videos').iterdir())) == len({d['video'] for d in documents})
assert frames[0].shape[2] == 3 and len(frames) == len(next(r for r in records if r.id == doc['id']).segment)


# %% [markdown]
# ## Running it like the harness does
#
# The harness loads `utils.py` from the folder, looks up each function the YAML names, walks through the
# documents and hands the graded rows to the aggregation. The loop below does the same with three stand-ins
# for a model: one that knows everything but writes sentences, one that says A or Yes to everything, one
# that guesses.

# %%
def load_functions(task):
    spec = importlib.util.spec_from_file_location('task_utils', task / 'utils.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    named = re.findall(r'!function utils\.(\w+)', next(task.glob('*.yaml')).read_text())
    return {name: getattr(module, name) for name in named}

def evaluate(task, model):
    functions, graded = load_functions(task), {metric: [] for metric in METRICS}
    for line in (task / 'test.jsonl').read_text().splitlines():
        doc = json.loads(line)
        response = model(*(functions[f'doc_to_{what}'](doc) for what in ('text', 'visual', 'target')))
        for metric, row in functions['process_results'](doc, [response]).items(): graded[metric].append(row)
    return graded, {metric: functions['aggregate'](rows) for metric, rows in graded.items()}


# %%
guess = np.random.default_rng(0)
def closed(truth): return ['Yes', 'No'] if truth in ('Yes', 'No') else list('ABCD')

models = {'knows, in sentences': lambda text, video, truth: f'The answer is {truth}.',
          'always A or Yes': lambda text, video, truth: closed(truth)[0],
          'guesses': lambda text, video, truth: str(guess.choice(closed(truth)))}
runs = {name: evaluate(task, model) for name, model in models.items()}
for name, (_, scores) in runs.items(): print(f'{name:20}', scores)

# %%
fig, axis = plt.subplots(figsize=(7, 2.6))
for offset, metric, colour in ((-.18, 'exact_match_vsi', ORANGE), (.18, 'extracted_match', BLUE)):
    shares = [100 * scores[metric] for _, scores in runs.values()]
    axis.barh(np.arange(3) + offset, shares, .34, color=colour, label=metric)
direct = [100 * accuracy_table(graded['extracted_match']).lines[-1].accuracy for graded, _ in runs.values()]
axis.plot(direct, np.arange(3) + .18, 'k|', ms=14, label='accuracy table')
axis.set(yticks=range(3), yticklabels=list(runs), xlabel='accuracy, %', xlim=(0, 102),
         title='Harness and package agree')
axis.legend(frameon=False, loc='center left', bbox_to_anchor=(1, .5)); fig.tight_layout()

# %%
assert runs['knows, in sentences'][1] == dict(exact_match_vsi=0, extracted_match=1)
for graded, scores in runs.values():
    for metric, scorer in METRICS.items():
        added = 'correct', 'parsed', 'scorer'
        plain = [{k: v for k, v in row.items() if k not in added} for row in graded[metric]]
        assert scores[metric] == accuracy_table(score_rows(plain, scorer)).lines[-1].accuracy
temporary.cleanup()

# %% [markdown]
# Agreement here is exact, bit for bit, since both sides add up the same verdicts in the same function. What
# can still differ between two evaluations is upstream: frames, prompt, decoding. The task file fixes the
# prompt and greedy decoding; how many frames a model takes from the video is the model's own setting in the
# harness, and belongs beside every number.
#
# With lmms-eval installed, `--include_path FOLDER --tasks NAME` runs any of its models on the folder.
#
# ## What we proved
#
# - A record file becomes a task folder of four parts, whole or not at all.
# - Every function the YAML names exists, and the scores summed up through them equal the accuracy table on
#   the same answers.
# - A model that knows everything scores 0 by exact match if it writes sentences: two metrics side by side
#   show it.
#
# ## Try it
#
# 1. Break `first_word` in `25_scoring` and run the last section again. Which numbers move, and do the two
#    sides still agree?
# 2. Write the VLM4D questions as such a task, with the direct-output prompt.
# 3. Add a third metric that grades Yes/No questions only.
#
# <details><summary>Solutions</summary>
#
# 1. Both sides move alike, since the task's functions call ours. That is the reason for writing the task that way.
# 2. A writer with the question text, the options and the direct prompt; compare with the recorded direct outputs.
# 3. A function that returns None for other questions and an aggregation that drops them; without the second the mean
#    is wrong.
#
# </details>
