# %% [markdown]
# # Sets of clips to train on
# > Thousands of clips with hundreds of thousands of questions, kept as arrays, drawn afresh for every step: mixtures are a matter of drawing.

# %%
#| default_exp clip_sets

# %% [markdown]
# * **What** `ClipSet`: frames, questions and the words of every cell, in pieces that are made once; and `draw_example`
# * **Why** the tables compare mixtures of the same questions at the same number of samples; so clips must be shared by all runs
# * **Paper** 4DP-QA §4.3, Table 4: standard questions, 20 % of them replaced by true-motion tracking, by visual tracking, or by
#   both. Drawing afresh instead of listing 400,000 pairs is **[ours]**
# * **Needs** nothing
# * **Time** 25 seconds
# * **Before this** `09_questions`, `20_packing`, `22_sft`, `22f_grounding`, `22g_pointing`

# %%
#| export
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from track4d_ref.bench import BENCH
from track4d_ref.clips import Clip
from track4d_ref.grounding import camera_truth, mention_ends, object_truth
from track4d_ref.measurements import measure
from track4d_ref.packing import ClipExample
from track4d_ref.patches import PatchLayout, Video
from track4d_ref.pointing import object_shares, pair_motions
from track4d_ref.presets import Preset, load_thresholds
from track4d_ref.questions import QUESTION_TYPES, Question, Style, ask_measured_all
from track4d_ref.references import draw_references
from track4d_ref.simulator import simulate_clip
from track4d_ref.storage import InputError, read_arrays, write_arrays

# %%
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.viz import PALETTE, use_style
use_style()

# %% [markdown]
# ## Questions about one clip
#
# As in the benchmark, an object is named by caption, by a pixel or by a drawn circle. Circles change the video, so a clip has
# two sets of questions: for the video as it is, and for the video with a few circles drawn, all of them at once, where no two
# circles share a colour. Every line keeps what training and scoring need, and no more.

# %%
#| export
STANDARD = tuple(name for name, kind in QUESTION_TYPES.items() if kind.category != 'tracking')
MODES = ('caption', 'caption', 'pixel', 'circle')          # [ours] half of the objects by caption

def question_hint(question: Question) -> tuple[int, str] | None:
    "Where in the prompt the true label could be said, and the label; None for tracks and where the label points at an object by place."
    truth, claimed = question.meta['label'].removeprefix('the '), question.meta.get('claim', '')
    if question.category == 'tracking' or truth.startswith('object') or claimed.startswith('{'): return None
    if not claimed: return len(question.text) + 1, truth
    return (question.text.rindex(claimed), truth) if claimed in question.text else None

def question_line(question: Question, captions: dict[int, str] | None = None) -> dict:
    """A question as a small dict: type, form, prompt, answer, true label, hint, option texts, the circles it needs, and where it
    mentions which object (`22f_grounding`) if the captions of all objects by id are given."""
    return dict(type=question.type, form=question.meta['form'], prompt=question.prompt, answer=question.answer, label=question.meta['label'],
                hint=question_hint(question), choices=list(question.choices), circles=[reference for reference in question.references if reference['mode'] == 'circle'],
                mentions=mention_ends(question.prompt, question.references, captions) if captions else [])


# %%
#| export
def _compatible(lines: list[dict], most: int = 4) -> tuple[list[dict], list[dict]]:
    "The lines whose circles can be drawn together, first come first served, and those circles."
    circles, kept = [], []
    for line in lines:
        new = [circle for circle in line['circles'] if circle not in circles]
        clash = any((circle['frame'], circle['color']) == (old['frame'], old['color']) for circle in new for old in circles)
        if clash or len(circles) + len(new) > most: continue
        circles += new; kept.append(line)
    return kept, circles

def clip_lines(clip: Clip, rng: np.random.Generator, per_type: int = 4) -> dict[str, list]:
    "Question lines of a clip: `plain`, `circled` with their `circles`, and both kinds of `tracks`."
    m, cuts, captions = measure(clip), load_thresholds(clip.source), {int(item.id): item.caption for item in clip.objects}
    ask = lambda modes, forms, count: [question_line(question, captions) for question in
                                       ask_measured_all(m, rng, STANDARD, count, cuts, Style(forms=forms, modes=modes))]
    plain = ask(('caption', 'caption', 'pixel'), ('choice', 'yes_no'), per_type) + ask(('caption', 'pixel'), ('free',), 1)
    circled, circles = _compatible(ask(MODES, ('choice', 'yes_no'), per_type))
    tracks = [question_line(question) for question in ask_measured_all(m, rng, ('visual_tracking', 'true_motion_tracking'), 4, cuts)]
    return dict(plain=plain, circled=circled, circles=circles, tracks=tracks)


# %%
preset = load_preset('tiny')
clip = simulate_clip(77, preset, 3)
lines = clip_lines(clip, np.random.default_rng(0))
for kind in ('plain', 'circled', 'tracks'): print(kind, len(lines[kind]), '|', lines[kind][-1]['prompt'].split('\n')[0])

# %%
figure, axes = plt.subplots(1, 4, figsize=(8, 2.2))
drawn = draw_references(clip.view.frames, lines['circles'])
frames = sorted({circle['frame'] for circle in lines['circles']} | {0, 2, 4, 6})[:4]
for axis, frame in zip(axes, frames): axis.imshow(drawn[frame]); axis.set_title(f'frame {frame}', fontsize=8); axis.axis('off')
plt.show()

# %%
assert all(not line['circles'] for line in lines['plain']) and all(c in lines['circles'] for line in lines['circled'] for c in line['circles'])
assert len({(c['frame'], c['color']) for c in lines['circles']}) == len(lines['circles'])
assert {line['type'] for line in lines['tracks']} <= {'visual_tracking', 'true_motion_tracking'}

# %% [markdown]
# ## What a cell shows
#
# For the naming loss every visual token gets the words of what its cell shows, weighted by their share: half of an object's
# share to its colour, half to its kind, the rest to the word "nothing". Both frames of the pair count.

# %%
#| export
NAMES = ('red', 'orange', 'yellow', 'green', 'cyan', 'blue', 'purple', 'pink', 'white', 'black',
         'ball', 'box', 'cylinder', 'cone', 'car', 'person', 'nothing')

def cell_words(clip: Clip, layout: PatchLayout = PatchLayout()) -> np.ndarray:
    "Shares of NAMES (tokens, names) in the cell of every visual token, in the order of the tokens."
    view, cell = clip.view, layout.cell
    shape = (view.frames.shape[0] // layout.temporal, layout.temporal, view.height // cell, cell, view.width // cell, cell)
    shares = np.zeros((shape[0], shape[2], shape[4], len(NAMES)), dtype=np.float32)
    for item in clip.objects:
        cover = (view.instances == item.id).reshape(shape).mean((1, 3, 5))
        for word in item.caption.split(): shares[..., NAMES.index(word)] += cover / 2
    shares[..., -1] = 1 - shares[..., :-1].sum(-1)
    return shares.reshape(-1, len(NAMES))


# %%
words = cell_words(clip)
figure, axes = plt.subplots(1, 2, figsize=(5, 2.5))
axes[0].imshow(clip.view.frames[0]); axes[1].imshow(1 - words[:16, -1].reshape(4, 4), cmap='viridis', vmin=0, vmax=1)
for axis in axes: axis.axis('off')
for k, row in enumerate(words[:16]):
    axes[1].text(k % 4, k // 4, '\n'.join(NAMES[n] for n in np.argsort(-row[:-1])[:2] if row[n] > 0.02), fontsize=6, ha='center', va='center', color='w')
plt.show()
assert words.shape == (64, 17) and np.allclose(words.sum(1), 1, atol=1e-5)

# %% [markdown]
# ## Pieces that are kept
#
# A set is a folder of pieces of 250 clips. A piece is made once, written whole or not at all, and depends on nothing but seed
# and number; so a stopped run goes on, and two runs may share the work. Texts travel as JSON in bytes inside the npz.

# %%
#| export
PIECE = 250

@dataclass(frozen=True)
class ClipSet:
    """Many clips: frames (M, T, H, W, 3) uint8, words of the cells (M, tokens, names), the question lines of each; what mentions are to
    know (`22f_grounding`): objects and their weights (M, 8, 33), cameras (M, 6); and what tokens are to feel (`22g_pointing`): shares of
    objects (M, tokens, 8), their motions (M, pairs, 8, 4)."""
    frames: np.ndarray
    words: np.ndarray
    lines: list[dict]
    objects: np.ndarray
    weights: np.ndarray
    cameras: np.ndarray
    shares: np.ndarray
    motions: np.ndarray

    def __len__(self) -> int: return len(self.frames)


# %%
#| export
def make_piece(preset: Preset, seed: int, start: int, count: int, layout: PatchLayout = PatchLayout()) -> dict[str, np.ndarray]:
    "Arrays of clips start … start + count − 1 of a series."
    frames, words, lines, truths = [], [], [], []
    for index in range(start, start + count):
        clip = simulate_clip(seed, preset, index)
        frames.append(clip.view.frames); words.append(cell_words(clip, layout).astype(np.float16))
        lines.append(clip_lines(clip, np.random.default_rng([seed, index])))
        m = measure(clip)
        truths.append((*object_truth(m), camera_truth(m), object_shares(clip, layout).astype(np.float16), pair_motions(m, layout.temporal)))
    text = np.frombuffer(json.dumps(lines, ensure_ascii=False).encode(), np.uint8)
    told = dict(zip(('objects', 'weights', 'cameras', 'shares', 'motions'), map(np.stack, zip(*truths))))
    return dict(frames=np.stack(frames), words=np.stack(words), lines=text) | told


# %%
#| export
def clip_set(folder: Path | str, preset: Preset, seed: int, count: int, piece: int = PIECE, progress: bool = True,
             layout: PatchLayout = PatchLayout()) -> ClipSet:
    "The first `count` clips of a series with their questions, from the pieces in `folder`; missing pieces are made."
    folder, found = Path(folder), []
    for start in tqdm(range(0, count, piece), 'clips and questions', unit='piece', disable=not progress):
        path = folder / f'pointed_{preset.name}_{layout.cell}px_{seed}_{start:06d}_{piece}.npz'
        if not path.exists(): write_arrays(path, **make_piece(preset, seed, start, piece, layout))
        found.append(read_arrays(path))
    lines = [line for arrays in found for line in json.loads(arrays['lines'].tobytes())]
    join = lambda name: np.concatenate([arrays[name] for arrays in found])[:count]
    return ClipSet(join('frames'), join('words'), lines[:count], *map(join, ('objects', 'weights', 'cameras', 'shares', 'motions')))


# %%
folder = Path(tempfile.mkdtemp())
small = clip_set(folder, preset, 78, 6, piece=3, progress=False)
again = clip_set(folder, preset, 78, 5, piece=3, progress=False)
print(len(small), 'clips,', sum(len(line['plain']) + len(line['circled']) for line in small.lines), 'standard questions')
assert np.array_equal(again.frames, small.frames[:5]) and again.lines == small.lines[:5]
assert len(list(folder.iterdir())) == 2

# %% [markdown]
# ## Mixtures
#
# A mixture says which share of the questions of a video are true-motion (TM) and visual (PT) tracking; the rest is standard,
# and their number stays the same. Types and forms are drawn as often as the benchmark asks them (4DP-QA's counts, `12e_bench`), and a
# fifth as often in free words.
#
# A closed question is answered in words and then by its letter, "moves left, so B", or by Yes or No. A model of four layers must
# find the answer in the video *and* find it among the options; with a letter alone it has to do both before its first word, and
# after 250 steps on all types its letters were still constants, while it knew 86 % of camera movements in words (`LOG.md`). **[ours]**

# %%
#| export
SHARES = {(name, form): share + 1 for name, (choice, yes_no) in BENCH.counts.items()          # [ours]; + 1: every form is drawn at times
          for form, share in dict(choice=choice, yes_no=yes_no, free=(choice + yes_no) // 5).items()}

@dataclass(frozen=True)
class Mixture:
    "Shares of the two tracking tasks; the rest are standard questions (4DP-QA Table 4, rows II to V)."
    name: str
    true_motion: float = 0.0
    visual: float = 0.0

MIXTURES = (Mixture('Std'), Mixture('Std + TM', true_motion=0.2), Mixture('Std + PT', visual=0.2), Mixture('Std + PT + TM', 0.1, 0.1))

def _draw_standard(lines: list[dict], count: int, rng: np.random.Generator) -> list[dict]:
    "`count` lines, each time a type and form in proportion to SHARES first, without repetition while there is choice."
    pools, chosen = {}, []
    for number in rng.permutation(len(lines)): pools.setdefault((lines[number]['type'], lines[number]['form']), []).append(lines[number])
    while len(chosen) < count and pools:
        kinds = list(pools)
        shares = np.array([SHARES[kind] for kind in kinds], float)
        kind = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        chosen.append(pools[kind].pop())
        if not pools[kind]: del pools[kind]
    return chosen


# %%
#| export
def spoken(line: dict) -> str:
    "The answer of a question line as the model is to say it: words, and the letter (or Yes, No) that follows from them."
    return line['answer'] if line['form'] not in ('choice', 'yes_no') else f'{line["label"]}, so {line["answer"]}'

def draw_example(data: ClipSet, index: int, mixture: Mixture, count: int, rng: np.random.Generator, seconds_per_frame: float = 0.25,
                 circled: float = 0.5) -> tuple[ClipExample, list[dict]]:
    "A training video with about `count` questions of a mixture, and their lines; with circles drawn in a share `circled` of the draws."
    lines = data.lines[index]
    kind = 'circled' if lines['circled'] and rng.random() < circled else 'plain'
    frames = draw_references(data.frames[index], lines['circles'] if kind == 'circled' else [])
    number = {name: int(rng.binomial(count, share)) for name, share in
              (('true_motion_tracking', mixture.true_motion), ('visual_tracking', mixture.visual))}
    chosen = []
    for name, wanted in number.items():
        tracks = [line for line in lines['tracks'] if line['type'] == name]
        chosen += [tracks[k] for k in rng.permutation(len(tracks))[:wanted]]
    chosen += _draw_standard(lines[kind], count - len(chosen), rng)
    dialogues = tuple(({'role': 'user', 'content': line['prompt']}, {'role': 'assistant', 'content': spoken(line)}) for line in chosen)
    camera = next((line['label'] for line in lines['plain'] if line['type'] == 'camera_movement'), '')
    return ClipExample(f'clip-{index}', (Video(f'clip-{index}', frames, seconds_per_frame),), dialogues, camera), chosen


# %%
rng, counts = np.random.default_rng(0), {}
for mixture in MIXTURES:
    drawn = [line['type'] for k in range(60) for line in draw_example(small, k % 6, mixture, 10, rng)[1]]
    share = lambda name: np.mean([kind == name for kind in drawn])
    counts[mixture.name] = (1 - share('true_motion_tracking') - share('visual_tracking'), share('true_motion_tracking'), share('visual_tracking'))
figure, axis = plt.subplots(figsize=(7, 1.7)); left = np.zeros(4)
for place, (label, color) in enumerate(zip(('standard', 'true motion', 'visual tracking'), PALETTE)):
    values = np.array([row[place] for row in counts.values()])
    axis.barh(list(counts), values, left=left, color=color, label=label); left += values
axis.invert_yaxis(); axis.set(xlabel='share of the questions', xlim=(0, 1)); axis.legend(ncols=3, loc=(0, 1.02), fontsize=7); plt.show()

# %%
assert counts['Std'][0] == 1 and all(0.12 < sum(row[1:]) < 0.28 for name, row in counts.items() if name != 'Std')
assert draw_example(small, 2, MIXTURES[1], 10, np.random.default_rng(5))[1] == draw_example(small, 2, MIXTURES[1], 10, np.random.default_rng(5))[1]

# %% [markdown]
# ## What we proved
#
# * a set is the same however often it was interrupted; draws depend on nothing but their seed;
# * circles of one video never clash; mixtures keep their shares.
#
# ## Try it
#
# 1. Count how often each option letter is right in a set. Is a balancer (`09a_balance`) needed for training, too?
# 2. Draw every object's circle at once. Which questions would then be answerable by colour alone?
#
# <details><summary>Solutions</summary>
#
# 1. `Counter` over the letters. In training an uneven letter is a prior the model will learn; balancing answers is
#    not enough if letters are not shuffled.
# 2. All that name an object by its circle: with every circle drawn the colour says which one is meant, so the caption
#    is no longer needed, and the answer may be read off the palette.
#
# </details>
