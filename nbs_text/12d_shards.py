# %% [markdown]
# # Shards
# > Questions by the hundred thousand: streamed, resumable, the same bytes for any number of workers.

# %%
#| default_exp shards

# %% [markdown]
# #| export
# A data folder holds clip folders (anywhere below it) and question files `questions_00000.jsonl` … beside them. One shard is
# the work for a fixed set of clips; it is written whole or not at all.

# %% [markdown]
# * **What** from a folder of clips to files of records, in parallel, with nothing kept in memory but one clip
# * **Why** 4DP-QA has 400,000 training pairs; that should take minutes, survive a power cut, and come out equal twice
# * **Paper** 4DP-QA §3, size of the training set; the layout is **[ours]**
# * **Needs** `questions`, `balance`, `records`
# * **Time** 20 seconds
# * **Before this** `12_records`, `09a_balance`

# %%
#| export
import dataclasses
import hashlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from track4d_ref.balance import Balancer, Deduplicator, scene_of
from track4d_ref.clips import load_clip
from track4d_ref.measurements import measure, random_segment
from track4d_ref.presets import load_thresholds
from track4d_ref.questions import QUESTION_TYPES, Style, ask_measured_all
from track4d_ref.records import Record, record_from_question, write_records
from track4d_ref.storage import InputError, read_json, write_json

# %%
import shutil
import tempfile
from collections import Counter

import matplotlib.pyplot as plt

from track4d_ref.clips import save_clip
from track4d_ref.presets import load_preset
from track4d_ref.records import iterate_records
from track4d_ref.simulator import simulate_clips


# %% [markdown]
# ## What decides the bytes
#
# Everything that a question depends on is in `Plan`: seed, types, style, how many. It is written beside the shards, and a
# folder made by another plan is refused instead of mixed. The generator of a clip is seeded by the plan's seed and the
# clip's *path*, so adding clips to the folder changes the questions of none that were there.

# %%
#| export
@dataclass(frozen=True)
class Plan:
    "What to ask of every clip."
    seed: int = 0
    per_type: int = 2                                  # questions of each type per segment
    types: tuple[str, ...] = tuple(QUESTION_TYPES)
    style: Style = Style()
    segments: int = 1                                  # videos per clip: the whole clip, or this many random segments
    frames: int = 32                                   # most frames of a video
    slack: int | None = None                           # balance within a shard; None keeps everything
    clips_per_shard: int = 64

    def check(self) -> None:
        "Raise InputError for a plan that cannot be carried out."
        for name in self.types:
            if name not in QUESTION_TYPES: raise InputError(f'plan: question type {name!r} does not exist')
        for name in ('per_type', 'segments', 'frames', 'clips_per_shard'):
            if getattr(self, name) < 1: raise InputError(f'plan: {name} is {getattr(self, name)}; it must be at least 1')

def clip_generator(seed: int, path: str) -> np.random.Generator:
    "The generator of one clip, from the seed and the clip's path within the data folder."
    words = np.frombuffer(hashlib.sha256(path.encode()).digest(), np.uint32)
    return np.random.default_rng(np.random.SeedSequence([seed, *words.tolist()]))


# %%
#| export
@cache
def _cuts(source: str):
    "The thresholds of a source, read once per process."
    return load_thresholds(source)

def clip_records(folder: Path, path: str, plan: Plan, keep=lambda question, scene: True) -> list[Record]:
    "All records of one clip under a plan."
    clip, rng = load_clip(folder / path), clip_generator(plan.seed, path)
    m, cuts, records = measure(clip), _cuts(clip.source), []
    whole = np.unique(np.linspace(0, clip.frames_count - 1, min(plan.frames, clip.frames_count)).round().astype(int))
    for _ in range(plan.segments):
        frames = whole if plan.segments == 1 else random_segment(clip.frames_count, plan.frames, rng)
        questions = ask_measured_all(m.at(frames), rng, plan.types, plan.per_type, cuts, plan.style)
        for question in questions:
            if not keep(question, scene_of(clip)): continue
            record = record_from_question(question, clip.id, path)
            records.append(dataclasses.replace(record, meta={**record.meta, 'seed': plan.seed, 'scene': scene_of(clip), 'licence': clip.licence}))
    return records


# %%
folder = Path(tempfile.mkdtemp())
for clip in simulate_clips(12, 6, load_preset('tiny')): save_clip(clip, folder / 'clips' / clip.id)
name = f'clips/{clip.id}'
records = clip_records(folder, name, Plan())
records[0]

# %%
assert records == clip_records(folder, name, Plan()) != clip_records(folder, name, Plan(seed=1))
assert all(record.clip == name and record.meta['seed'] == 0 for record in records)


# %% [markdown]
# ## Writing shards
#
# The clip folders are listed once, sorted, and cut into shards. Each shard has its own balancer and its own memory of
# near-duplicates, so workers need not talk to each other. A finished file is never touched again: to resume is to run the
# same command. Memory holds one clip and the records of one shard's file as they are written.

# %%
#| export
def find_clips(folder: Path | str) -> list[str]:
    "Paths of all clip folders below a folder, relative and sorted; InputError if there are none."
    folder = Path(folder)
    found = [path.parent.relative_to(folder).as_posix() for path in folder.rglob('clip.json')]
    hidden = lambda path: any(part.startswith('.') for part in Path(path).parts)     # what a killed run left behind
    found = sorted(path for path in found if not hidden(path))
    if not found: raise InputError(f'{folder}: holds no clip (a folder with clip.json); make some with track4d data simulate')
    return found

def write_shard(job: tuple[str, str, list[str], Plan]) -> int:
    "Write one shard unless it is there; the number of records written, 0 if it was there."
    folder, name, paths, plan = Path(job[0]), job[1], job[2], job[3]
    target = folder / name
    if target.exists(): return 0
    balancer, seen = Balancer(plan.slack) if plan.slack else None, Deduplicator()
    def keep(question, scene): return seen.new(question, scene) and (balancer is None or balancer.accept(question))
    return write_records(target, (record for path in paths for record in clip_records(folder, path, plan, keep)))

def shard_jobs(folder: Path | str, plan: Plan) -> list[tuple[str, str, list[str], Plan]]:
    "The jobs of a folder under a plan, for `write_shard`; any scheduler may run them in any order."
    plan.check()
    paths = find_clips(folder)
    starts = range(0, len(paths), plan.clips_per_shard)
    return [(str(folder), f'questions_{number:05d}.jsonl', paths[start:start + plan.clips_per_shard], plan) for number, start in enumerate(starts)]


# %%
#| export
def _note(folder: Path, plan: Plan, paths: list[str]) -> None:
    "Keep the plan beside the shards; InputError if they belong to another one."
    settings = dict(dataclasses.asdict(plan), clips=hashlib.sha256('\n'.join(paths).encode()).hexdigest()[:16])
    plain = lambda values: {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    settings, note = dict(plain(settings), style=plain(settings['style'])), folder / 'questions.json'
    if note.exists() and read_json(note) != settings:
        raise InputError(f'{folder}: holds questions of another plan or for other clips; remove questions*.json* or choose another folder')
    write_json(note, settings)

ENGINES = ('processes', 'ray')

def write_question_shards(folder: Path | str, plan: Plan = Plan(), workers: int = 1, engine: str = 'processes') -> list[Path]:
    "Ask all clips below a folder and write the shards beside them; resumable, same bytes for any workers and engine."
    if engine not in ENGINES: raise InputError(f'engine {engine!r} does not exist; use {" or ".join(ENGINES)}')
    folder, jobs = Path(folder), shard_jobs(folder, plan)
    _note(folder, plan, [path for job in jobs for path in job[2]])
    bar = dict(total=len(jobs), unit='shard', disable=None)
    if engine == 'ray': _on_ray(jobs, workers)
    elif workers == 1: list(tqdm(map(write_shard, jobs), **bar))
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context('spawn')) as pool:
            list(tqdm(pool.map(write_shard, jobs), **bar))
    return [folder / name for _, name, _, _ in jobs]


# %% [markdown]
# Many machines take the same jobs through **Ray Data**: a data set with one row per shard, mapped by the very function that a
# single process calls, so the bytes cannot differ. All machines must see the folder. Ray comes with the extra `cluster`; it
# is imported only when asked for, and a Ray that runs already (`RAY_ADDRESS`) is used instead of starting one.

# %%
#| export
def _on_ray(jobs: list[tuple], workers: int) -> None:
    "Write the shards as rows of a Ray data set."
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    os.environ.setdefault('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')
    try: import ray
    except ImportError: raise InputError("engine ray: Ray is not installed; install the extra `cluster`") from None
    started = not ray.is_initialized()
    if started: ray.init(**({} if 'RAY_ADDRESS' in os.environ else dict(num_cpus=workers)), include_dashboard=False, logging_level='ERROR', log_to_driver=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.from_items([dict(number=number) for number in range(len(jobs))], override_num_blocks=len(jobs))
        rows.map(lambda row: dict(written=write_shard(jobs[row['number']]))).take_all()
    finally:
        if started: ray.shutdown()


# %%
plan = Plan(per_type=3, clips_per_shard=5, slack=2)
shards = write_question_shards(folder, plan)
sizes = {path.name: sum(1 for _ in iterate_records(path)) for path in shards}
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), dpi=90)
axes[0].bar(list(sizes), list(sizes.values()), color='#0072B2'); axes[0].tick_params(axis='x', labelsize=7); axes[0].set_title('records per shard', fontsize=9)
kinds = Counter(record.type for path in shards for record in iterate_records(path))
axes[1].barh(list(kinds), list(kinds.values()), color='#0072B2'); axes[1].invert_yaxis(); axes[1].tick_params(labelsize=6)
plt.tight_layout(); plt.show()

# %% [markdown]
# The proof of resuming: delete one shard, run again, compare all bytes. The proof of independence: copy the clips, write the
# shards in reverse order, compare again.

# %%
before = {path.name: path.read_bytes() for path in shards}
shards[1].unlink()
write_question_shards(folder, plan)
assert {path.name: path.read_bytes() for path in shards} == before
other = Path(tempfile.mkdtemp())
shutil.copytree(folder / 'clips', other / 'clips')
for job in reversed(shard_jobs(other, plan)): write_shard(job)
assert {path.name: (other / path.name).read_bytes() for path in shards} == before
try: write_question_shards(folder, plan, engine='abacus')
except InputError as error: assert 'processes or ray' in str(error)
else: raise AssertionError('an unknown engine must be refused')

# %%
try: write_question_shards(folder, Plan(seed=9))
except InputError as error: print(str(error).replace(str(folder), 'FOLDER'))
else: raise AssertionError('another plan must be refused')

# %% [markdown]
# ## How fast
#
# Thirty questions on one clip share one loading and one measuring. The picture shows where the time of a clip goes;
# `benchmarks/questions.py` measures the whole road and keeps its numbers in `results/`.

# %%
import time
path, steps = find_clips(folder)[0], {}
def timed(name, work):
    start = time.perf_counter(); value = work(); steps[name] = 1000 * (time.perf_counter() - start); return value
clip = timed('load', lambda: load_clip(folder / path))
m = timed('measure', lambda: measure(clip))
cuts = timed('thresholds', lambda: load_thresholds(clip.source))
questions = timed('ask', lambda: ask_measured_all(m, np.random.default_rng(0), per_type=3, cuts=cuts))
made = timed('records', lambda: [record_from_question(question, clip.id, path) for question in questions])
timed('write', lambda: write_records(folder / 'timing.jsonl', made))
figure, axis = plt.subplots(figsize=(5.5, 2), dpi=90)
axis.barh(list(steps), list(steps.values()), color='#0072B2'); axis.invert_yaxis(); axis.set(xlabel=f'milliseconds for one clip with {len(made)} questions')
plt.tight_layout(); plt.show()

# %%
assert len(made) / (sum(steps.values()) / 1000) > 50      # a slow, busy machine still asks fifty questions a second

# %%
lengths = [len(line) for path in shards for line in path.read_text().splitlines()]
figure, axis = plt.subplots(figsize=(5, 1.8), dpi=90)
axis.hist(lengths, bins=30, color='#0072B2'); axis.set(xlabel='bytes of a record'); plt.tight_layout(); plt.show()

# %%
assert np.median(lengths) < 2000

# %% [markdown]
# ## What we proved
#
# * Deleted shards come back byte for byte, and neither the order of the work nor who does it matters (the tests ask Ray, too).
# * A folder of another plan is refused.
#
# ## Try it
#
# 1. Run the jobs of `shard_jobs` on a scheduler of your choice and compare the bytes.
# 2. How does the share of kept questions change with `clips_per_shard` when `slack` is 1?
#
# <details><summary>Solutions</summary>
#
# 1. Each job's bytes depend on its seed and range only, so the files must be equal: `cmp` them. If not, look for a
#    dictionary order or a clock in the job.
# 2. With slack 1 each shard balances its own answers, and a small shard throws more away: the share falls with small
#    `clips_per_shard`. Balance over the whole set, or allow slack.
#
# </details>
