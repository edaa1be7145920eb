# %% [markdown]
# # Curation measured
# > How often do questions from measured geometry agree with the simulator's truth, what does the filter keep, and the sets the ladder learns from.

# %%
#| default_exp curation

# %% [markdown]
# * **What** the experiment `curation` (agreement per relation over stereo noise, a matcher, one eye; the cold-start filter), and
#   `curated_set`, the clips with questions from stereo, from one eye and from the truth
# * **Why** a data pipeline is an instrument; its error is to be known before anybody learns from it
# * **Paper** MLLM-4D §2, §4, §5.2. The paper prints neither agreement nor thresholds; noise model, sizes and the monocular scale
#   error are **[ours]** (`09a_scene_points`)
# * **Needs** OpenCV for the matcher (extra `stereo`); without it plain blocks
# * **Time** 40 seconds here; `track4d reproduce curation --preset tiny` two minutes of one thread
# * **Before this** `10_relations`, `10a_spatial_cot`, `26_experiments`

# %%
#| export
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from track4d_ref.clips import Clip
from track4d_ref.experiments import Experiment, step
from track4d_ref.measurements import measure
from track4d_ref.presets import Preset
from track4d_ref.relations import KINDS, UNSEEN, RelationQuestion, answer_from, ask_relations
from track4d_ref.rewards import keep_chains, st_reward
from track4d_ref.scene_points import ScenePoints, points_from_boxes, points_from_depth, points_from_noisy_stereo, points_from_one_eye
from track4d_ref.scoring import wilson
from track4d_ref.simulator import simulate_clips
from track4d_ref.spatial_cot import candidate_traces, cot_prompt, solution
from track4d_ref.stereo import with_stereo_depth
from track4d_ref.storage import InputError, read_arrays, write_arrays

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.experiments import read_result
from track4d_ref.presets import load_preset
from track4d_ref.scoring import render_text
from track4d_ref.viz import MUTED, PALETTE, use_style
use_style()

# %% [markdown]
# ## Eight ways to measure one clip
#
# Exact depth sees one side of a thing only, so its centre differs from that of the box. Then the disparity gets worse and
# worse; then a real matcher works on the rendered pair; then one eye guesses the scale.

# %%
#| export
BASELINE_M, NOISES_PX = 0.3, (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
GEOMETRIES = (*(f'{noise_px:g} px' for noise_px in NOISES_PX), 'matched', 'one eye')

def measured_points(clip: Clip, geometry: str, rng: np.random.Generator) -> ScenePoints:
    "Scene points of a clip as one of GEOMETRIES would deliver them."
    if geometry == 'matched': return points_from_depth(with_stereo_depth(clip, 32), trim=0.05)
    if geometry == 'one eye': return points_from_one_eye(clip, rng)
    if geometry not in GEOMETRIES: raise InputError(f'geometry {geometry!r} does not exist; choose one of {", ".join(GEOMETRIES)}')
    return points_from_noisy_stereo(clip, float(geometry.split()[0]), BASELINE_M, rng)


# %%
preset = load_preset('tiny')
pair = next(simulate_clips(1, 5, preset, rig='stereo', baseline_m=BASELINE_M, height=84, width=112))
clouds = {geometry: measured_points(pair, geometry, np.random.default_rng(1)) for geometry in GEOMETRIES}
truth, item = points_from_boxes(pair), pair.objects[0]
far_m = {geometry: np.linalg.norm(cloud.centroid_m(item.id, 0) - truth.centroid_m(item.id, 0)) for geometry, cloud in clouds.items() if cloud.known(item.id, 0)}
figure, axis = plt.subplots(figsize=(6, 2.2))
axis.bar(list(far_m), list(far_m.values()), color=[PALETTE[0]] * 6 + [PALETTE[2], PALETTE[1]])
axis.set(ylabel='centre off by (m)', title=f'{item.caption} in the first frame, {np.linalg.norm(truth.centroid_m(item.id, 0) - truth.centers_m[0]):.1f} m away'); plt.show()
assert len(far_m) == 8 and far_m['0 px'] < max(item.size_m) and all(cloud.clip is pair for name, cloud in clouds.items() if name != 'matched')


# %% [markdown]
# ## Agreement
#
# Questions are asked with the true geometry (poses and boxes) and answered again from each measured one. A question counts
# once per geometry; what a geometry cannot see counts as wrong. Clips are done in groups, so that a long run can be stopped.

# %%
#| export
def agreement(clip: Clip, seed: int, per_kind: int = 3) -> dict[str, dict[str, list[int]]]:
    "Per kind and geometry: [agreeing answers, questions] on one clip with a stereo rig."
    asked = ask_relations(points_from_boxes(clip), np.random.default_rng([seed, 0]), per_kind=per_kind, moving_only=False)
    asked = [question for question in asked if question.meta['label'] != UNSEEN]
    found = defaultdict(dict)
    for number, geometry in enumerate(GEOMETRIES):
        scene = measured_points(clip, geometry, np.random.default_rng([seed, 1 + number]))
        for kind in KINDS:
            mine = [question for question in asked if question.type == kind]
            found[kind][geometry] = [sum(answer_from(scene, question) == question.answer for question in mine), len(mine)]
    return dict(found)

def added(tables: list[dict]) -> dict:
    "Nested dictionaries with lists of numbers at the end, added up."
    total = {}
    for table in tables:
        for key, value in table.items():
            inner = isinstance(value, dict)
            total[key] = added([total.get(key, {}), value]) if inner else [a + b for a, b in zip(total.get(key, [0] * len(value)), value)]
    return total


# %%
few = added([agreement(clip, number) for number, clip in enumerate(simulate_clips(4, 5, preset, rig='stereo', baseline_m=BASELINE_M, height=84, width=112))])
for kind in KINDS: print(f'{kind:24s}', {geometry: f'{right}/{total}' for geometry, (right, total) in few[kind].items()})
assert few['camera_distance']['0 px'][0] == few['camera_distance']['0 px'][1] > 0
assert added([{'a': {'b': [1, 2]}}, {'a': {'b': [3, 4]}, 'c': [1]}]) == {'a': {'b': [4, 6]}, 'c': [1]}

# %% [markdown]
# ## What the filter keeps
#
# The other instrument of the curation. K = 3 candidate traces per question, a threshold per scenario, the best chain of a
# question if it reaches it (`10a_spatial_cot`). Per scenario: questions, kept ones, right letters among all chains and among
# the kept, and the mean reward of both.

# %%
#| export
CANDIDATES = 3       # MLLM-4D §5.2

def filter_rows(lines: list[dict]) -> dict[str, list[float]]:
    "kind → [questions, kept, threshold, reward of all chains, of kept ones, share of right letters of all, of kept ones]."
    rewards = [[st_reward(text, line['solution']) for text in line['traces']] for line in lines]
    kept = keep_chains({number: (line['type'], [reward.total for reward in some]) for number, (line, some) in enumerate(zip(lines, rewards))})
    rows = {}
    for kind in KINDS:
        mine = [number for number, line in enumerate(lines) if line['type'] == kind]
        if not mine: continue
        chains, best = [reward for number in mine for reward in rewards[number]], [rewards[number][kept[number]] for number in mine if number in kept]
        mean = lambda some, part: round(float(np.mean([getattr(reward, part) for reward in some])), 4)
        threshold = float(np.mean([max(reward.total for reward in rewards[number]) for number in mine]))
        rows[kind] = [len(mine), len(best), round(threshold, 4), mean(chains, 'total'), mean(best, 'total'),
                      2 * mean(chains, 'accuracy'), 2 * mean(best, 'accuracy')]
    return rows


# %% [markdown]
# ## Sets of clips
#
# The ladder needs the same clips with questions from three sources: a stereo pair with a quarter of a pixel of noise, one eye,
# and the exact depth (for the benchmark). Centres in the solutions come from the same source as the question. Ranks of numeric
# answers are even (`10_relations`), so that no rung can learn to pick a middle option. Everything of a clip depends on (seed,
# number) alone; pieces of ten clips are kept.

# %%
#| export
SOURCES = {'stereo': '0.25 px', 'mono': 'one eye', 'truth': ''}
PIECE = 10

@dataclass(frozen=True)
class CuratedSet:
    "Frames (M, T, H, W, 3) uint8 and, per clip, source → question lines."
    frames: np.ndarray
    lines: list[dict[str, list[dict]]]

    def __len__(self) -> int: return len(self.frames)

def curated_line(question: RelationQuestion, traces: list[str]) -> dict:
    "A relation question as a small dict: both prompts, answers in both forms, the solution and its candidate traces."
    return dict(type=question.type, prompt=question.prompt, chain_prompt=cot_prompt(question), text=question.text, answer=question.answer,
                label=question.meta['label'], choices=list(question.choices), solution=solution(question)[0], traces=traces)

def curated_lines(clip: Clip, seed: list[int], traced: bool = True, per_kind: int = 1) -> dict[str, list[dict]]:
    "Question lines of a clip from every source; candidate traces for stereo ones only."
    m, found = measure(clip), {}
    for number, (source, geometry) in enumerate(SOURCES.items()):
        rng = np.random.default_rng([*seed, number])
        scene = measured_points(clip, geometry, rng) if geometry else points_from_depth(clip)
        asked = ask_relations(scene, rng, per_kind=per_kind, even=True)
        with_traces = traced and source == 'stereo'
        found[source] = [curated_line(q, candidate_traces(q, m, rng, CANDIDATES, decimals=1) if with_traces else []) for q in asked]
    return found


# %%
#| export
def curated_set(folder: Path | str, preset: Preset, seed: int, count: int, traced: bool = True, domain: str | None = None) -> CuratedSet:
    "The first `count` clips of a series with their questions, from pieces in `folder`; missing ones are made."
    pieces = []
    for start in range(0, count, PIECE):
        path = Path(folder) / f'{preset.name}_{domain or "mixed"}_{seed}_{start:05d}.npz'
        if not path.exists():
            clips = list(simulate_clips(PIECE, seed, preset, start, domain=domain))
            lines = [curated_lines(clip, [seed, start + number], traced) for number, clip in enumerate(clips)]
            text = np.frombuffer(json.dumps(lines).encode(), np.uint8)
            write_arrays(path, frames=np.stack([clip.view.frames for clip in clips]), lines=text)
        pieces.append(read_arrays(path))
    lines = [line for piece in pieces for line in json.loads(piece['lines'].tobytes())]
    return CuratedSet(np.concatenate([piece['frames'] for piece in pieces])[:count], lines[:count])


# %%
folder = Path(tempfile.mkdtemp())
small = curated_set(folder, preset, 301, 30)
again = curated_set(folder, preset, 301, 9)
counts = {source: sum(len(lines[source]) for lines in small.lines) for source in SOURCES}
print(len(small), 'clips', counts)
print(small.lines[0]['stereo'][-1]['chain_prompt'])
assert again.lines == small.lines[:9] and np.array_equal(again.frames, small.frames[:9]) and min(counts.values()) > 80
assert all(len(line['traces']) == 3 for lines in small.lines for line in lines['stereo'])

# %% [markdown]
# What the filter does to this set. Right letters become the rule, and the reward of what is kept is near one; yet no
# scenario disappears. (Our writer errs less than the paper's, so more than half passes.)

# %%
rows = filter_rows([line for lines in small.lines for line in lines['stereo']])
figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.6), sharey=True)
for axis, columns, title in ((axes[0], (3, 4), 'mean reward'), (axes[1], (5, 6), 'right letters')):
    for place, row in enumerate(rows.values()):
        axis.plot([row[columns[0]], row[columns[1]]], [place, place], color=MUTED, lw=1)
        axis.plot(row[columns[0]], place, 'o', color=PALETTE[5]); axis.plot(row[columns[1]], place, 'o', color=PALETTE[2])
    axis.set(title=f'{title}: all chains → kept', xlim=(0.4, 1.03))
axes[0].set_yticks(range(len(rows)), [f'{kind.replace("_", " ")} ({row[1]}/{row[0]})' for kind, row in rows.items()], fontsize=7); plt.show()
assert set(rows) == set(KINDS) and all(row[4] > row[3] and row[6] >= row[5] for row in rows.values())


# %% [markdown]
# ## The experiment
#
# Sixty clips, up to three questions per kind and clip, eight geometries, and the filter over a set of 100 clips.

# %%
#| export
def run_curation(preset: Preset, folder: Path, seed: int, clips: int = 60, group: int = 10) -> dict:
    "Agreement over stereo noise and the filter's table; groups of clips are kept in `folder`."
    def part(start: int) -> dict:
        some = simulate_clips(group, 500 + seed, preset, start, rig='stereo', baseline_m=BASELINE_M, height=84, width=112)
        return added([agreement(clip, 1000 * seed + start + number) for number, clip in enumerate(some)])
    parts = [step(folder, f'agreement_{start}', dict(seed=seed, group=group, preset=preset.name), lambda: part(start)) for start in range(0, clips, group)]
    data = curated_set(folder / 'set', preset, 600 + seed, 100)
    return dict(agreement=added(parts), filter=filter_rows([line for lines in data.lines for line in lines['stereo']]))

def curation_cells(result: dict) -> list[tuple[str, ...]]:
    "Kinds down, geometries across, agreement in percent with a 95 % interval; then what the filter kept."
    lines = [('relation', 'questions', *GEOMETRIES, 'kept of K = 3', 'right letters: all → kept')]
    for kind in KINDS:
        row, cells = result['agreement'][kind], []
        for geometry in GEOMETRIES:
            right, total = row[geometry]
            low, high = wilson(right, total) if total else (0.0, 1.0)
            cells.append(f'{100 * right / max(total, 1):.0f} ({100 * low:.0f}–{100 * high:.0f})')
        count, kept, *_, before, after = result['filter'].get(kind, [0, 0, 0, 0])
        lines.append((kind, str(row['0 px'][1]), *cells, f'{kept} of {count}', f'{100 * before:.0f} → {100 * after:.0f} %'))
    return lines

CURATION = Experiment('curation', 'MLLM-4D §2 and §5.2; the paper prints no agreement. It keeps 7,000 of 14,000 chains',
                      'simulated rigs with a 0.3 m baseline and pictures of 112 x 84 px, so a pixel of disparity is worth more metres than at 512 px',
                      run_curation, curation_cells)

# %% [markdown]
# The shipped result, made by `track4d reproduce curation --preset tiny`:

# %%
try: stored = read_result(None, 'curation', 'tiny')['result']
except InputError: stored = dict(agreement=few, filter=rows)
for line in curation_cells(stored): print(' | '.join(line[:2] + line[2:5] + line[6:]))

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), gridspec_kw={'width_ratios': [1.6, 1]}, sharey=True)
styles = dict(zip(KINDS, (MUTED, '#BBBBBB', *PALETTE[:5])))
share = lambda kind, geometry: 100 * stored['agreement'][kind][geometry][0] / stored['agreement'][kind][geometry][1]
for kind in KINDS[2:]:
    values = [share(kind, geometry) for geometry in GEOMETRIES[:6]]
    bounds = np.array([wilson(*stored['agreement'][kind][geometry]) for geometry in GEOMETRIES[:6]]) * 100
    axes[0].plot(range(6), values, 'o-', color=styles[kind], label=kind.replace('_', ' ')); axes[0].fill_between(range(6), *bounds.T, color=styles[kind], alpha=0.12, lw=0)
for place, geometry in enumerate(('0 px', 'matched', 'one eye')):
    for k, kind in enumerate(KINDS): axes[1].bar(place + 0.12 * (k - 3), share(kind, geometry), 0.11, color=styles[kind])
axes[0].set(xticks=range(6), xticklabels=NOISES_PX, xlabel='disparity noise (px)', ylabel='agreement with the truth (%)', ylim=(20, 103), title='stereo, from exact to poor')
axes[1].set(xticks=range(3), xticklabels=('exact depth', 'matched stereo', 'one eye'), title='three pipelines (camera in grey)')
axes[0].legend(fontsize=7, loc='lower left'); plt.show()
assert all(share('camera_direction', geometry) == 100 for geometry in GEOMETRIES)

# %% [markdown]
# What to notice: camera relations do not feel disparity at all. Words outlive metres. One eye keeps the words and loses the
# metres, camera distance first: nothing in the picture tells it the unit. The band is a 95 % Wilson interval that takes
# questions as independent; questions about one clip hang together, so it is a little too narrow.

# %% [markdown]
# ## What we proved
#
# * agreement is counted per relation, over six noise levels, a real matcher and one eye, by one command;
# * the filter keeps a good half of the questions in every scenario, two thirds in all, and no wrong letter;
# * a set depends on seed and number alone, however often it was interrupted.
#
# ## Try it
#
# 1. Double the baseline. Which curve moves, and by how much on the noise axis?
# 2. Ask for the whole filter with one threshold for all scenarios. Which kinds lose their chains?
#
# <details><summary>Solutions</summary>
#
# 1. The noise of stereo falls with the baseline at equal disparity error, so the noisy curve moves towards the exact
#    one: by a factor of two on the noise axis as far as the noise model goes. The matcher's own failures do not
#    follow it.
# 2. The kinds whose scale is smallest. Keep the thresholds per scenario and count the chains per kind beside each
#    other.
#
# </details>
