# %% [markdown]
# # The benchmark
# > 4DP-QA-Bench-tiny and its held-out sibling: planned counts, answers checked by the oracle, no letter or word that gives them away.

# %%
#| default_exp bench

# %% [markdown]
# #| export
# A benchmark folder holds `questions.jsonl`, compact clips below `clips/`, and `bench.json`: the plan, what it gave, what the
# oracle dropped. Simulator seeds 90000 to 99999 belong to benchmarks; no training uses them.

# %% [markdown]
# * **What** one command that writes 2,226 questions of the eleven scored types about scenes no training has seen
# * **Why** a number means something only if everybody asks the same questions, and if guessing stays at chance
# * **Paper** 4DP-QA §3.4 and Table 2: 2.2K questions, four options or Yes/No; counts per type derived from its percentages
# * **Needs** `simulator`, `questions`, `oracle`, `balance`, `records`
# * **Time** 10 seconds; the whole benchmark some minutes
# * **Before this** `09a_balance`, `09c_oracle`, `12_records`

# %%
#| export
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from track4d_ref.balance import Balancer, Deduplicator
from track4d_ref.clips import Clip, save_clip
from track4d_ref.measurements import measure
from track4d_ref.motion import TRENDS
from track4d_ref.oracle import Oracle, oracle_agrees
from track4d_ref.presets import Preset, load_thresholds
from track4d_ref.questions import QUESTION_TYPES, Question, Style, ask_measured, same_question
from track4d_ref.records import record_from_question, write_records
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError, atomic_folder, write_json
from track4d_ref.templates import LETTERS

# %%
import textwrap
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.records import open_clip, read_records, record_video
from track4d_ref.viz import PALETTE, use_style

BLUE, ORANGE = PALETTE[0], PALETTE[4]
use_style()


# %% [markdown]
# ## The plan
#
# The paper does not print how many questions of a type its benchmark holds, but its percentages give it away: 81.0 % of 411
# is the smallest fraction that fits every number of the first column, and so on. We take these counts, 2,177 in all, with
# one change **[ours]**: agent motion gets 60 instead of 11, because one question out of eleven is nine points. The share of
# Yes/No follows from the row "Random": 43.7 % for camera movement means three quarters Yes/No and one quarter four options.
#
# Two more deviations **[ours]**. The distance between camera and object never first shrinks and then grows in our clips, so
# that option would never be right; those questions have three options. And a coordinate in the text is a hint (what stands
# lower in the picture is usually nearer), so "which is nearer" is asked with captions and circles only.

# %%
#| export
@dataclass(frozen=True)
class BenchPlan:
    "What a benchmark asks and of which scenes; `counts` gives multiple-choice and Yes/No questions per type."
    name: str
    seed: int                                # of the simulator, 90000 … 99999
    scenes: int                              # candidates
    counts: dict[str, tuple[int, int]]
    wording: str = 'standard'
    domain: str | None = None                # None mixes those that trainings see
    per_scene: int = 3                       # most questions of a type and form about one scene
    circled: float = 0.1                     # share of draws that draw circles

BENCH = BenchPlan('bench', 90_000, 600, dict(
    camera_movement=(103, 308), camera_object_distance_change=(144, 191), object_rotation=(0, 113), object_direction=(232, 0),
    agent_motion=(0, 60), moved_distance=(101, 39), object_object_distance_change=(95, 35), depth=(0, 340),
    object_object_distance=(0, 183), multiview_depth=(0, 148), multiview_object_object_distance=(0, 134)))
TRANSFER = BenchPlan('transfer', 95_000, 240, dict(
    camera_movement=(38, 112), camera_object_distance_change=(52, 68), object_rotation=(0, 40), object_direction=(84, 0),
    agent_motion=(0, 22), moved_distance=(36, 14), object_object_distance_change=(16, 30), depth=(0, 122),
    object_object_distance=(0, 66), multiview_depth=(0, 54), multiview_object_object_distance=(0, 48)), 'transfer', 'heldout')

def total(plan: BenchPlan) -> int:
    "How many questions a plan asks for."
    return sum(map(sum, plan.counts.values()))


# %%
figure, axis = plt.subplots(figsize=(7, 2.8), dpi=90)
letters, claims = np.array(list(BENCH.counts.values())).T
axis.barh(list(BENCH.counts), letters, color=BLUE, label='letters'); axis.barh(list(BENCH.counts), claims, left=letters, color=ORANGE, label='Yes/No')
axis.invert_yaxis(); axis.tick_params(labelsize=7); axis.legend(fontsize=7); axis.set(xlabel=f'questions of {total(BENCH):,}'); plt.tight_layout(); plt.show()

# %%
assert total(BENCH) == 2226 and total(TRANSFER) == 802
assert set(BENCH.counts) == {name for name, kind in QUESTION_TYPES.items() if kind.category != 'tracking'}

# %% [markdown]
# ## Questions of one scene
#
# Every candidate scene is simulated and asked for a few questions of each type and form. Half of the scenes are drawn as for
# training; the other half is asked for four moving things, because direction and distance questions need them (4DP-QA's
# asset sampling does the same: it states what a question needs).
#
# The **oracle**, which knows depth, masks and cameras only, recomputes each answer. A question on which it disagrees is
# dropped. Where it cannot tell, because the thing touches the edge of the picture or is half hidden in the first or last
# frame, questions about distances in one or two frames are dropped as well; the others are kept as second choice, marked
# `undecided`, and counted in `bench.json`.

# %%
#| export
MANY_CLAIMS = ('camera_movement', 'camera_object_distance_change', 'object_object_distance_change')  # several about one thing
NEARER = ('depth', 'object_object_distance', 'multiview_depth', 'multiview_object_object_distance')
THREE_OPTIONS = ('camera_object_distance_change',)

def _modes(kind: str, plan: BenchPlan, rng: np.random.Generator) -> tuple[str, ...]:
    if rng.random() < plan.circled: return ('circle',)
    return ('caption',) if kind in NEARER else ('caption', 'caption', 'pixel')

def _offered(question: Question) -> Question | None:
    "A multiple-choice question with the number of options its type has here; None if it cannot have them."
    options = question.meta['options']
    if question.type == 'object_object_distance_change' and len(options) == 3:
        question = replace(question, choices=(*question.choices, TRENDS[4]), meta=dict(question.meta, options=[*options, TRENDS[4]]))
    wanted = 3 if question.type in THREE_OPTIONS else 4
    return question if len(question.choices) == wanted and TRENDS[3] not in question.choices else None

def _key(question: Question) -> tuple:
    return same_question(question), question.meta.get('claim') if question.type in MANY_CLAIMS else None

def _draws(m, cuts, plan: BenchPlan, kind: str, form: str, rng: np.random.Generator) -> Iterator[Question]:
    "Questions of one type and form, possibly alike; ends when there is nothing to ask."
    for _ in range(5 * plan.per_scene):
        question = ask_measured(m, kind, rng, cuts, Style((form,), _modes(kind, plan, rng), wording=plan.wording))
        if question is None and QUESTION_TYPES[kind].category != 'spatial': return
        if question is None or question.meta['form'] != form: continue
        if form == 'choice': question = _offered(question)
        if question: yield question


# %%
#| export
MOVING = ('straight', 'straight', 'curved', 'accelerating', 'turning_left', 'turning_right')

def scene_clip(plan: BenchPlan, preset: Preset, index: int) -> Clip:
    "Candidate scene `index`: even ones as in training, odd ones with as many moving things as the preset allows."
    programs = np.random.default_rng([plan.seed, index, 1]).choice(MOVING, preset.objects_max)
    asked = dict(object_programs=tuple(map(str, programs)), objects=preset.objects_max) if index % 2 else {}
    return simulate_clip(plan.seed, preset, index, domain=plan.domain, **asked)

def scene_questions(plan: BenchPlan, preset: Preset, index: int) -> tuple[list[Question], Counter]:
    "Questions of a candidate scene that the oracle does not contradict, and how often it agreed, disagreed or could not tell."
    clip = scene_clip(plan, preset, index)
    m, oracle, rng = measure(clip), Oracle(clip), np.random.default_rng([plan.seed, index])
    cuts = load_thresholds(clip.source)
    found, verdicts, alike, known = [], Counter(), Deduplicator(), set()
    for kind, wanted in plan.counts.items():
        for form, count in zip(('choice', 'yes_no'), wanted):
            kept = 0
            for question in _draws(m, cuts, plan, kind, form, rng) if count else ():
                if _key(question) in known or not alike.new(question, clip.id): continue
                known.add(_key(question))
                verdict = oracle_agrees(oracle, question, cuts)
                verdicts[kind, verdict] += 1
                if verdict is False or verdict is None and question.category == 'spatial': continue
                found.append(replace(question, meta=dict(question.meta, oracle='agreed' if verdict else 'undecided')))
                kept += 1
                if kept == plan.per_scene: break
    return found, verdicts


# %%
preset = load_preset('tiny')
found, verdicts = scene_questions(BENCH, preset, 1)
print(len(found), 'questions,', verdicts.total(), 'before the oracle')
for question in found[::9]: print('·', question.text, '→', question.meta['label'] if question.choices else question.answer)

# %%
assert len(found) > 10 and all(question.meta['form'] in ('choice', 'yes_no') for question in found)
assert len({_key(question) for question in found}) == len(found)
assert all(question.meta['oracle'] == 'agreed' for question in found if question.category == 'spatial')


# %% [markdown]
# ## Choosing
#
# The pool holds far more questions than the plan. Cells (a type in a form) are filled in order of scarcity, each from scenes
# that are in use already as long as that works: few scenes with many questions keep the folder small and evaluation quick.
# The [balance](09a_balance.ipynb) refuses a question that would make an option, a claim or a kind of object win too often.
# Of every cell of Yes/No questions half are right. A refused question may fit later, when its opponent has caught up, so the pool is passed until nothing fits any more.

# %%
#| export
def _cells(pool: list[tuple[int, Question]]) -> dict[tuple[str, str], list[tuple[int, int, Question]]]:
    "Candidates (scene, how many of this cell the scene gave before, question) per type and form."
    cells, given = {}, Counter()
    for scene, question in pool:
        cell = question.type, question.meta['form']
        cells.setdefault(cell, []).append((scene, given[scene, cell], question))
        given[scene, cell] += 1
    return cells

def choose_questions(pool: list[tuple[int, Question]], plan: BenchPlan) -> list[tuple[int, Question]]:
    "The questions of a plan out of a pool of (scene, question), balanced; InputError if the pool is too small."
    cells, balancer, used, chosen = _cells(pool), Balancer(2), set(), []
    wanted = {(kind, form): count for kind, counts in plan.counts.items() for form, count in zip(('choice', 'yes_no'), counts) if count}
    scarcity = {cell: count / (1e-9 + len(cells.get(cell, ()))) for cell, count in wanted.items()}
    worth = Counter()
    for scene, question in pool: worth[scene] += scarcity.get((question.type, question.meta['form']), 0)
    for cell in sorted(wanted, key=lambda cell: -scarcity[cell]):
        waiting = sorted(cells.get(cell, ()), key=lambda one: (one[0] not in used, one[2].meta['oracle'] != 'agreed', one[1], -worth[one[0]], one[0]))
        taken = _fill(waiting, wanted[cell], balancer)
        if len(taken) < wanted[cell]:
            raise InputError(f'{plan.name}: {wanted[cell] - len(taken)} of {wanted[cell]} questions {cell} are missing; give more scenes')
        chosen += taken; used |= {scene for scene, _ in taken}
    order = {kind: number for number, kind in enumerate(plan.counts)}
    return sorted(chosen, key=lambda one: (one[0], order[one[1].type], one[1].meta['form']))


# %%
#| export
def _fill(waiting: list[tuple[int, int, Question]], wanted: int, balancer: Balancer) -> list[tuple[int, Question]]:
    taken, before, said = [], -1, Counter()
    most = {'Yes': (wanted + 1) // 2, 'No': (wanted + 1) // 2}
    while len(taken) < wanted and len(taken) > before:
        before, refused = len(taken), []
        for scene, turn, question in waiting:
            fits = len(taken) < wanted and said[question.answer] < most.get(question.answer, wanted)
            if fits and balancer.accept(question): taken.append((scene, question)); said[question.answer] += 1
            else: refused.append((scene, turn, question))
        waiting = refused
    return taken


# %% [markdown]
# ## Letters
#
# Positions are dealt out like cards: per type, every letter is right equally often, give or take one.

# %%
#| export
def deal_letters(questions: list[Question], rng: np.random.Generator) -> list[Question]:
    "The same questions with options reordered so that per type every letter is right equally often."
    decks, dealt = {}, []
    for question in questions:
        count = len(question.choices)
        if count:
            deck = decks.setdefault((question.type, count), [])
            if not deck: deck += rng.permutation(count).tolist()
            question = _moved(question, deck.pop(), rng)
        dealt.append(question)
    return dealt

def _moved(question: Question, place: int, rng: np.random.Generator) -> Question:
    "The question with its true option at `place` and the others in random order."
    truth = LETTERS.index(question.answer)
    order = [int(k) for k in rng.permutation(len(question.choices)) if k != truth]
    order.insert(place, truth)
    options = [question.meta['options'][k] for k in order]
    return replace(question, choices=tuple(question.choices[k] for k in order), answer=LETTERS[place], meta=dict(question.meta, options=options))


# %%
asked = ('camera_movement', 'camera_object_distance_change', 'depth', 'object_object_distance', 'multiview_depth')
small = replace(BENCH, name='small', scenes=6, counts={kind: (3 * bool(BENCH.counts[kind][0]), 4) for kind in asked})
pool = [(index, question) for index in range(small.scenes) for question in scene_questions(small, preset, index)[0]]
chosen = choose_questions(pool, small)
dealt = deal_letters([question for _, question in chosen], np.random.default_rng(0))
right = Counter(question.answer for question in dealt if len(question.choices) == 4)
print(len(pool), 'in the pool,', len(chosen), 'chosen from', len({scene for scene, _ in chosen}), 'scenes; right letters', dict(sorted(right.items())))

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 2.2), dpi=90)
for axis, group, title in zip(axes, ([question for _, question in pool], dealt), ('pool', 'chosen')):
    said = Counter(question.answer for question in group if not question.choices)
    axis.bar(['Yes', 'No'], [said['Yes'], said['No']], color=[BLUE, ORANGE]); axis.set_title(title, fontsize=9)
plt.tight_layout(); plt.show()

# %%
assert len(chosen) == total(small) and max(right.values()) - min(right.values()) <= 4
said = Counter((question.type, question.answer) for question in dealt if not question.choices)
assert all(abs(said[kind, 'Yes'] - said[kind, 'No']) <= 1 for kind in small.counts)
before = {question.text: question.meta['label'] for _, question in chosen if question.choices}
assert all(question.choices[LETTERS.index(question.answer)] == before[question.text] for question in dealt if question.choices)


# %% [markdown]
# ## Writing
#
# Only scenes that are asked about are simulated again and saved, in compact form. The folder appears when it is complete.
# `workers` spreads the candidate scenes over processes; it changes no byte, because every scene has its own generator.

# %%
#| export
def _job(job: tuple) -> tuple[list[Question], Counter]: return scene_questions(*job)

def question_pool(plan: BenchPlan, preset: Preset, workers: int = 1, progress: bool = True) -> tuple[list[tuple[int, Question]], Counter]:
    "All candidates (scene, question) of a plan, and the verdicts of the oracle per type."
    jobs, verdicts, pool = [(plan, preset, index) for index in range(plan.scenes)], Counter(), []
    bar = dict(desc='scenes asked', total=len(jobs), unit='scene', disable=None if progress else True)
    def gather(results):
        for index, (found, counted) in enumerate(tqdm(results, **bar)):
            pool.extend((index, question) for question in found); verdicts.update(counted)
    if workers == 1: gather(map(_job, jobs))
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context('spawn')) as executor: gather(executor.map(_job, jobs, chunksize=4))
    return pool, verdicts

def _card(plan: BenchPlan, preset: Preset, chosen: list[tuple[int, Question]], verdicts: Counter) -> dict:
    "What `bench.json` says."
    questions = [question for _, question in chosen]
    oracle = {kind: {name: verdicts[kind, verdict] for name, verdict in (('agreed', True), ('disagreed', False), ('undecided', None))} for kind in plan.counts}
    answers = Counter(f'{question.type} {question.meta["form"]} {question.answer}' for question in questions)
    return dict(name=plan.name, seed=plan.seed, preset=preset.name, wording=plan.wording, domain=plan.domain, licence='Apache-2.0',
                questions=len(questions), scenes_asked=plan.scenes, scenes_used=len({scene for scene, _ in chosen}),
                confirmed=sum(question.meta['oracle'] == 'agreed' for question in questions),
                per_type=dict(Counter(question.type for question in questions)), answers=dict(answers), oracle=oracle)


# %%
#| export
def write_bench(out: Path | str, plan: BenchPlan, preset: Preset, workers: int = 1, progress: bool = True) -> dict:
    "Write the benchmark of a plan to a folder, whole or not at all; returns its card. Equal plans give equal bytes."
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / 'bench.json').exists():
        raise InputError(f'{out}: holds something that is no benchmark; choose an empty folder')
    pool, verdicts = question_pool(plan, preset, workers, progress)
    chosen = choose_questions(pool, plan)
    dealt = deal_letters([question for _, question in chosen], np.random.default_rng(plan.seed))
    chosen = [(scene, question) for (scene, _), question in zip(chosen, dealt)]
    with atomic_folder(out) as partial:
        names = {scene: f'clips/scene_{scene:04d}' for scene, _ in chosen}
        for scene in tqdm(names, 'clips saved', unit='clip', disable=None if progress else True):
            save_clip(scene_clip(plan, preset, scene), partial / names[scene], compact=True)
        write_records(partial / 'questions.jsonl', (record_from_question(question, f'{plan.name}-{scene:04d}', names[scene])
                                                    for scene, question in chosen))
        write_json(partial / 'bench.json', _card(plan, preset, chosen, verdicts))
    return _card(plan, preset, chosen, verdicts)


# %%
tiny = replace(small, scenes=3, counts=dict(depth=(0, 6), camera_movement=(2, 2)))
place = Path(tempfile.mkdtemp())
card = write_bench(place / 'one', tiny, preset, progress=False)
files = sorted(path.relative_to(place / 'one') for path in (place / 'one').rglob('*') if path.is_file())
print(card['questions'], 'questions about', card['scenes_used'], 'scenes,', len(files), 'files,', sum((place / 'one' / file).stat().st_size for file in files) // 1000, 'kB')

# %%
records = read_records(place / 'one' / 'questions.jsonl')
assert len(records) == total(tiny) == card['questions'] and (place / 'one' / 'bench.json').exists()

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.4), dpi=90)
for axis, record in zip(axes, records[::3]):
    axis.imshow(record_video(record, open_clip(record, place / 'one' / 'questions.jsonl'))[0]); axis.axis('off')
    axis.set_title(textwrap.fill(record.question.split('\n')[0], 34) + f'\n→ {record.answer}', fontsize=6, fontweight='normal')
plt.tight_layout(); plt.show()

# %% [markdown]
# ## What we proved
#
# * The plan has the paper's counts and shares of Yes/No; every answer has been recomputed by a program that shares no geometry
#   with ours, and none is kept that it contradicts.
# * Letters and Yes/No are dealt evenly, near duplicates are gone, and the same plan gives the same bytes (the tests write it twice, and
#   simulate a shipped scene again).
#
# ## Try it
#
# 1. Set `slack` of the Balancer to 50 and let the [blind readers](09b_blind.ipynb) try the result. What do they find?
# 2. Ask for 40 constant distances between two objects. How many more scenes does that take, and why are they rare?
#
# <details><summary>Solutions</summary>
#
# 1. With little balance the pool's habits come through, first of all "No" to claims of several movements: a reader who counts gains some points.
# 2. Fifty constant distances came from 600 scenes, so forty in balance with three other answers need about as many. One of the
#    two must move, and a distance that keeps within a twentieth needs both to go the same way.
#
# </details>
