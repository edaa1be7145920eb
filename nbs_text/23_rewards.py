# %% [markdown]
# # Rewards
# > The spatio-temporal reward of MLLM-4D: format, answer, camera, object; as published and as released

# %%
#| default_exp rewards

# %% [markdown]
# #| export
# A completion is the text a model wrote. A solution is a dictionary with `answer` (a letter) and, for each
# of `camera_center` and `object_center`, a list with one entry per anchor frame: [x, y, z] in metres, or
# None where there is none. Every part of a reward lies between 0 and its weight; the weights of a preset
# sum to 1.

# %% [markdown]
# * **What** `st_reward(completion, solution, preset)`: four parts from one text, in the paper's formula
#   (`paper`, the default) and in the released code's algorithm (`code`)
# * **Why** reinforcement learning optimises what is computed, not what is meant; the two presets differ,
#   and the released one has holes a model will find
# * **Paper** MLLM-4D, section on ST-reward and its released reward file; facts and contradictions are
#   compared below
# * **Needs** the standard library; matplotlib for the pictures
# * **Time** 10 seconds
# * **Before this** `10_relations` (where spatial states come from)

# %% [markdown]
# ## What is rewarded
#
# MLLM-4D asks for a reasoning trace that names where the camera and the object are at both ends of the
# question's time span, and then for a letter. Four things are graded:
#
# $$R=0.5\,R_{Acc}+0.2\,R_{Fmt}+0.3\,R_{ST},\quad R_{ST}=\tfrac12 R_{Cam}+\tfrac12 R_{Obj},$$
#
# $$R_{Cam|Obj}=\exp\!\Big(-\tfrac1n\sum_i\lVert p_i-g_i\rVert_2\Big)$$
#
# with the format in two halves, the tags and the presence of the spatial states. The released code adds
# four functions with other constants: 0.6 for the answer, 0.2 for the format (in the ratio 0.5, 0.4, 0.1),
# 0.1 for camera and object each. Both sum to one; they do not agree on what an answer is worth.

# %%
#| export
import math
import re
import warnings
from ast import literal_eval as python_literal
from collections import defaultdict
from dataclasses import dataclass
from statistics import mean

from track4d_ref.storage import InputError

WEIGHTS = {'paper': dict(format=0.2, accuracy=0.5, camera=0.15, object=0.15),   # MLLM-4D, ST-reward
           'code': dict(format=0.2, accuracy=0.6, camera=0.1, object=0.1)}      # its released reward file

# %%
import random
import time

import matplotlib.pyplot as plt
import numpy as np

PARTS, COLOURS = ('format', 'accuracy', 'camera', 'object'), ('#a0aec0', '#2b6cb0', '#dd6b20', '#38a169')
plt.rcParams.update({'figure.dpi': 90, 'axes.spines.top': False, 'axes.spines.right': False, 'font.size': 9})

# %% [markdown]
# The trace every example below starts from: two anchor frames, camera and object centre at each, then the
# letter. The camera moves half a metre, the object one.

# %%
CAMERA, THING = ('[0, 0, 0]', '[0.3, 0, 0.4]'), ('[1, 0, 2]', '[1, 0, 3]')

def trace(camera=CAMERA, thing=THING, letter='B', tag='thinking'):
    states = [f'**Spatial State ({name} Frame):**\n- Camera Center: {c}\n- Object Center: {o}'
              for name, c, o in zip(('Initial', 'Final'), camera, thing)]
    return f'<{tag}>Which way?\n{states[0]}\nit grows\n{states[1]}\nso.</{tag}><answer>{letter}</answer>'

solution = dict(answer='B', camera_center=[[0, 0, 0], [.3, 0, .4]], object_center=[[1, 0, 2], [1, 0, 3]])
print(trace())

# %%
assert all(abs(sum(weights.values()) - 1) < 1e-12 for weights in WEIGHTS.values())
assert np.allclose(np.linalg.norm(np.diff(solution['camera_center'], axis=0)), .5)


# %% [markdown]
# ## Finding the blocks
#
# The obvious expression for a block is `<answer>.*?</answer>`. It is right and it is a trap: on a text of a
# hundred thousand opening tags without a closing one, every opening scans to the end, and a reward that
# takes minutes stops the training of all processes. Two plain searches give the same block, since if the
# first opening has no closing behind it, no later one has.

# %%
def block_v1(text, tag):
    found = re.search(f'<{tag}>.*?</{tag}>', text, re.DOTALL)
    return found and found.group()

for count in (500, 1000, 2000):
    start = time.perf_counter(); block_v1('<answer>' * count, 'answer')
    print(f'{count} opening tags: {1000 * (time.perf_counter() - start):.1f} ms')


# %%
#| export
def block(text: str, tag: str) -> tuple[int, int] | None:
    """Start and end of the first <tag>...</tag> in the text, tags included; None if there is none."""
    start = text.find(f'<{tag}>')
    end = text.find(f'</{tag}>', start + len(tag) + 2) if start >= 0 else -1
    return (start, end + len(tag) + 3) if end >= 0 else None

def answer_text(completion: str) -> str:
    """The stripped inside of the first answer block; without one, the whole completion stripped."""
    found = block(completion, 'answer')
    inside = completion[found[0] + len('<answer>'):found[1] - len('</answer>')] if found else completion
    return inside.strip()


# %%
texts = ('<answer>B', '<answer> B\n</answer>', 'x<answer>A</answer><answer>B</answer>',
         '</answer><answer>', ' B ')
print([answer_text(text) for text in texts])

# %%
for text in texts:
    found = block(text, 'answer')
    assert (found and text[slice(*found)]) == block_v1(text, 'answer')
assert answer_text(texts[1]) == 'B' and answer_text(texts[2]) == 'A' and answer_text(' B ') == 'B'


# %% [markdown]
# ## Finding the centres
#
# A centre is announced by its label, "Camera Center:" or "Object Center:", then white space, then a bracket
# that closes on the same line. All of them count, wherever they stand: inside the thinking block, before
# it, in the answer. Brackets with "null" in them are dropped. Again one pass with two moving pointers (next
# bracket, next line end) replaces an expression that would look ahead from every label anew.

# %%
#| export
def label_pattern(name: str) -> re.Pattern:
    """What opens a centre: the label, white space, a bracket."""
    return re.compile(f'{name.capitalize()} Center:' + r'\s*\[')

def bracketed(completion: str, name: str) -> list[str]:
    """All bracketed texts behind '<Name> Center:' that close on their line, in order, brackets included."""
    found, place, close, line_end, opens = [], 0, -1, -1, label_pattern(name)
    text = completion + '\n'
    while opening := opens.search(text, place):
        start, place = opening.end() - 1, opening.end()
        if close < start: close = text.find(']', start)
        if close < 0: break
        if line_end < start: line_end = text.index('\n', start)
        if close < line_end:
            found.append(text[start:close + 1])
            place = close + 1
    return found

def stated(completion: str, name: str) -> list[str]:
    """The bracketed centres of one kind that do not contain 'null'."""
    return [text for text in bracketed(completion, name) if 'null' not in text.lower()]


# %%
odd = 'Camera Center:\n [1, 2,\n3] Camera Center: [null, 0, 0] Camera Center:[4] and Object Center: [x]'
bracketed(odd, 'camera'), stated(odd, 'camera'), stated(trace(), 'object')


# %%
def bracketed_v1(text, name): return re.findall(f'{name.capitalize()} Center:' + r'\s*(\[.*?\])', text)

rng = random.Random(1)
pieces = ['Camera Center:', 'Object Center:', ' ', '\n', '[', ']', '1, 2', 'null', 'Camera Center: [0]', '[[']
for _ in range(2000):
    text = ''.join(rng.choices(pieces, k=12))
    assert bracketed(text, 'camera') == bracketed_v1(text, 'camera'), text

# %% [markdown]
# ## Reading three numbers
#
# What stands in the brackets comes from a model under optimisation pressure. Running it as code is out of
# the question. The released file reads Python literals; that admits far more than vectors: `[True, 0, 0]`
# is a point one metre along x, `[0x10, 1_000, 1e3]` is another, `["a"]` is a list. Preset `code` keeps
# these quirks, bounded to 1,000 characters per bracket **[ours]** so that no parser can be drowned. Preset
# `paper` reads three finite decimal numbers and nothing else **[ours]**.
#
# Both return None for what they cannot read. The rule of the released code for that case is blunt: one
# unreadable bracket empties the whole list.

# %%
#| export
LONGEST_CENTRE = 1000       # characters within one pair of brackets
NUMBER = r'\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*'
VECTOR = re.compile(rf'\[{NUMBER},{NUMBER},{NUMBER}\]')

def decimal_vector(text: str) -> list[float] | None:
    """'[x, y, z]' as three finite numbers, or None for anything else."""
    found = VECTOR.fullmatch(text) if len(text) <= LONGEST_CENTRE else None
    values = [float(number) for number in found.groups()] if found else [math.inf]
    return values if all(map(math.isfinite, values)) else None

def literal_vector(text: str) -> list | None:
    """A bracketed Python literal as the released code would read it (a list of anything), or None."""
    if len(text) > LONGEST_CENTRE: return None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: return python_literal(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError): return None

READERS = {'paper': decimal_vector, 'code': literal_vector}

# %%
samples = ['[1, 2, 3]', '[1., .5, -2e-1]', '[01, 2, 3]', '[1, 2, 3,]', '[True, 0, 0]', '[0x10, 1_0, 1]',
           '[1 2 3]', '[nan, 0, 0]', '[1e999, 0, 0]', '[1+1, 0, 0]', '["a", 0, 0]', '[１, 2, 3]',
           '[]', '[((1))]']
for text in samples: print(f'{text:18}', decimal_vector(text), literal_vector(text), sep='   ')

# %%
assert decimal_vector('[1., .5, -2e-1]') == [1, .5, -.2] and literal_vector('[True, 0, 0]') == [1, 0, 0]
assert [decimal_vector(text) is not None for text in samples] == [True] * 3 + [False] * 11
refused = '[01, 2, 3]', '[1 2 3]', '[nan, 0, 0]', '[1+1, 0, 0]', '[１, 2, 3]'
assert [literal_vector(text) is None for text in samples] == [text in refused for text in samples]
for deep in ('(' * 400 + ')' * 400, '-' * 990 + '1', '9' * 990 + ',,'):
    assert literal_vector(f'[{deep}]') is None and decimal_vector(f'[{deep}]') is None


# %% [markdown]
# ## From distance to reward
#
# Stated and true centres are paired by order of appearance. Different counts give zero, and so does a pair
# of different length. Otherwise the reward is $e^{-\bar d}$ with the mean distance in metres: 0.1 m is
# worth 0.90, half a metre 0.61, two metres 0.14. The scale is fixed: in a room it is strict, on a street it
# is out of reach, and that is a property of the paper, not of ours.
#
# What if the truth has no centre at all? The released code gives the full mark to a completion that states
# none, so silence is paid. The task's output shape asks for `null` there; preset `paper` therefore wants to
# read it **[ours]**: the label followed by `null`, and no vector.

# %%
#| export
def distance_m(stated_m: list, true_m: list[float]) -> float:
    """Euclidean distance of two points; infinite if they differ in length or hold anything but numbers."""
    numbers = all(isinstance(value, (int, float, complex)) for value in stated_m)
    if not numbers or len(stated_m) != len(true_m): return math.inf
    try: return math.hypot(*(abs(value - true) for value, true in zip(stated_m, true_m)))
    except OverflowError: return math.inf

def centre_reward(completion: str, name: str, truth: list[list[float]], preset: str) -> float:
    """exp(-mean distance) of the stated centres in [0, 1]; 0 for a wrong count or an unreadable bracket."""
    texts = stated(completion, name)
    if not truth and preset == 'paper': return float(not texts and says_null(completion, name))
    if truth and len(texts) != len(truth): return 0.0
    points = [READERS[preset](text) for text in texts]
    if any(point is None for point in points): points = []
    if not truth: return float(not points)
    if len(points) != len(truth): return 0.0
    error_m = mean(distance_m(point, true) for point, true in zip(points, truth))
    return math.exp(-error_m) if error_m < math.inf else 0.0

def says_null(completion: str, name: str) -> bool:
    """True if the label is followed by null, bare or as [null]."""
    label = f'{name.capitalize()} Center:'
    return re.search(label + r'\s*(?:null\b|\[\s*null\s*[\],])', completion) is not None


# %%
errors_m = np.linspace(0, 3, 61)
kept = [centre_reward(f'Object Center: [{1 + e}, 0, 2]', 'object', [[1, 0, 2]], 'paper') for e in errors_m]
true_m = solution['object_center']
mixed = [centre_reward(trace(thing=(f'[{1 + e}, 0, 2]', '[1, 0, 3]')), 'object', true_m, 'paper')
         for e in errors_m]
fig, axis = plt.subplots(figsize=(6, 3.2))
axis.plot(errors_m, kept, color='#2b6cb0', label='all anchors off by this much')
axis.plot(errors_m, mixed, '--', color='#dd6b20', label='one of two anchors off')
for e in (.1, .25, .5, 1, 2):
    axis.plot(e, math.exp(-e), 'o', color='#2b6cb0', ms=4)
    axis.annotate(f'{math.exp(-e):.3f}', (e, math.exp(-e)), xytext=(-30, -10), textcoords='offset points')
axis.set(xlabel='error, m', ylabel='reward of the term', ylim=(0, 1.05),
         title='Half a metre keeps 61 % of the term')
axis.legend(frameon=False); fig.tight_layout()


# %%
def centre(text, truth, preset): return centre_reward(text, 'object', truth, preset)

assert np.allclose(kept, np.exp(-errors_m)) and np.allclose(mixed, np.exp(-errors_m / 2))
assert centre('', [], 'code') == 1 and centre('', [], 'paper') == 0
assert centre('Object Center: null', [], 'paper') == 1
assert centre('Object Center: [oops]', [], 'code') == 1                    # an unreadable one is silence
assert centre('Object Center: [1, 0]', [[1, 0, 2]], 'code') == 0 == centre('', [[1, 0, 2]], 'code')
assert centre('Object Center: [1e300, 9e300, 0]', [[1, 0, 2]], 'paper') == 0

# %% [markdown]
# The same as a landscape. The truth lies at (1, 3) in the ground plane, metres; the colour is what the
# object term pays for a statement at each place. There is a gradient everywhere, but ten metres away it is
# below any difference a group of rollouts can notice.

# %%
x_m, z_m = np.meshgrid(np.linspace(-3, 5, 49), np.linspace(-1, 7, 49))
paid = np.exp(-np.hypot(x_m - 1, z_m - 3))
some = centre_reward(f'Object Center: [{x_m[5, 9]}, 0, {z_m[5, 9]}]', 'object', [[1, 0, 3]], 'paper')
fig, axis = plt.subplots(figsize=(4.8, 3.8))
shown = axis.contourf(x_m, z_m, paid, levels=np.linspace(0, 1, 11), cmap='Blues')
axis.plot(1, 3, '+', color='#dd6b20', ms=12)
axis.set(xlabel='x, m', ylabel='z, m', aspect='equal', title='What a stated place is paid')
fig.colorbar(shown, label='reward of the term'); fig.tight_layout()
assert abs(some - paid[5, 9]) < 1e-12


# %% [markdown]
# ## Format and answer
#
# The paper gives half of the format for the tags and half for the spatial states. The code gives 0.5 for
# the two pairs of tags anywhere and in any order, 0.4 if both labels are followed by some bracket, and 0.1
# for a thinking block longer than twenty characters, of which its own tags have 21. In `paper` the thinking
# block must end before the answer begins **[ours]**, and a label may be followed by `null` if its truth has
# no centre **[ours]**, since that is then the right statement.
#
# The answer is compared exactly, case and all, after stripping. "B. 2.4" is wrong in both presets. An empty
# answer is never right.

# %%
#| export
def has_state(completion: str, name: str) -> bool:
    """True if the label is followed by a bracketed expression anywhere, across lines (released code)."""
    opening = label_pattern(name).search(completion)
    return opening is not None and completion.find(']', opening.end()) >= 0

def format_reward(completion: str, truths: dict[str, list], preset: str) -> float:
    """Share of the format in [0, 1]: tags, spatial states and, in `code`, the length of the thinking."""
    thinking, answer = block(completion, 'thinking'), block(completion, 'answer')
    tags = thinking is not None and answer is not None
    if preset == 'code':
        states = has_state(completion, 'camera') and has_state(completion, 'object')
        long_enough = thinking is not None and thinking[1] - thinking[0] > 20
        return 0.5 * tags + 0.4 * states + 0.1 * long_enough
    states = all(has_state(completion, name) or (not truth and says_null(completion, name))
                 for name, truth in truths.items())
    return 0.5 * (tags and thinking[1] <= answer[0]) + 0.5 * states


# %%
truths = dict(camera=solution['camera_center'], object=solution['object_center'])
shapes = dict(whole=trace(), swapped='<answer>B</answer><thinking></thinking>', letter='B',
              think=trace(tag='think'))
for name, text in shapes.items(): print(f'{name:8}', {p: format_reward(text, truths, p) for p in WEIGHTS})

# %%
graded = {name: [format_reward(text, truths, preset) for preset in WEIGHTS] for name, text in shapes.items()}
assert graded == dict(whole=[1, 1], swapped=[0, .6], think=[.5, .4], letter=[0, 0])
assert format_reward('', truths, 'paper') == format_reward('', truths, 'code') == 0


# %% [markdown]
# ## The whole reward
#
# One call returns the four weighted parts; their sum is the reward. `spatial=False` leaves camera and
# object out, for the rung of the ladder that learns from answer and format alone. A solution that cannot be
# graded is an error of the data, named at once, and not a zero that the training would take for a bad
# completion.

# %%
#| export
@dataclass(frozen=True)
class Reward:
    """Weighted parts of one completion's reward; each between 0 and its weight."""
    format: float
    accuracy: float
    camera: float
    object: float

    @property
    def total(self) -> float: return self.format + self.accuracy + self.camera + self.object


# %%
#| export
def true_centres(solution: dict, name: str) -> list[list[float]]:
    """The centres of one kind that exist; InputError if one is not a list of finite numbers."""
    centres = [centre for centre in solution.get(f'{name}_center') or [] if centre is not None]
    for centre in centres:
        numbers = isinstance(centre, (list, tuple)) and all(type(value) in (int, float) for value in centre)
        if not numbers or not all(map(math.isfinite, centre)):
            raise InputError(f'solution: {name}_center needs [x, y, z] or None, not {str(centre)[:40]}')
    return centres

def st_reward(completion: str, solution: dict | list, preset: str = 'paper', spatial: bool = True) -> Reward:
    """Reward of one completion; `solution` is the dictionary or, as in the released data, a list of it."""
    if preset not in WEIGHTS: raise InputError(f"reward preset '{preset}' is unknown; use paper or code")
    solution = solution[0] if isinstance(solution, list) and solution else solution
    if not isinstance(solution, dict) or not isinstance(solution.get('answer'), str):
        raise InputError("solution: field 'answer' is missing; give the letter that is right")
    truths = {name: true_centres(solution, name) for name in ('camera', 'object')}
    said = answer_text(completion)
    parts = {name: centre_reward(completion, name, truth, preset) if spatial else 0.0
             for name, truth in truths.items()}
    parts |= dict(format=format_reward(completion, truths, preset),
                  accuracy=float(said == solution['answer'] != ''))
    return Reward(**{name: WEIGHTS[preset][name] * share for name, share in parts.items()})

def st_rewards(completions: list[str], solutions: list, preset: str = 'paper',
               spatial: bool = True) -> list[float]:
    """Totals for a batch, in order; the shape trainers expect."""
    return [st_reward(text, solution, preset, spatial).total
            for text, solution in zip(completions, solutions, strict=True)]


# %% [markdown]
# The table of cases that the facts sheet of the paper lists for the released code, rebuilt from their
# names. Each shows one behaviour, and the last column is the published total.

# %%
plain = dict(
    perfect=(trace(), 1.0), wrong_letter=(trace(letter='C'), .4),
    camera_half_metre_off_at_end=(trace(camera=('[0, 0, 0]', '[0, 0, 0]')), .9 + .1 * math.exp(-.25)),
    object_one_metre_off=(trace(thing=('[2, 0, 2]', '[2, 0, 3]')), .9 + .1 * math.exp(-1)),
    lower_case=(trace(letter='b'), .4), letter_and_text=(trace(letter='B. 2.4'), .4),
    padded=(trace(letter=' B\n'), 1.0), think_tag=(trace(tag='think'), .88), bare_letter=('B', .6),
    tags_only=('<thinking></thinking><answer>B</answer>', .72),
    third_camera=('Camera Center: [0,0,0]\n' + trace(), .9),
    flat_object=(trace(thing=('[1, 0]', '[1, 0]')), .9),
    object_null=(trace(thing=('null', 'null')), .82))
print(f'{"":28}{"code":>9}{"listed":>9}{"paper":>9}')
for name, (text, total) in plain.items():
    code, paper = (st_reward(text, solution, preset).total for preset in ('code', 'paper'))
    print(f'{name:28}{code:9.5f}{total:9.5f}{paper:9.5f}')

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.9), sharey=True)
for axis, preset in zip(axes, WEIGHTS):
    start = np.zeros(len(plain))
    for part, colour in zip(PARTS, COLOURS):
        share = np.array([getattr(st_reward(text, solution, preset), part) for text, _ in plain.values()])
        axis.barh([name.replace('_', ' ') for name in plain], share, left=start, color=colour, label=part)
        start += share
    axis.set(title=f'preset {preset}', xlabel='reward', xlim=(0, 1))
axes[0].invert_yaxis(); axes[1].legend(frameon=False, loc='center left', bbox_to_anchor=(1, .5))
fig.tight_layout()

# %%
for text, total in plain.values(): assert abs(st_reward(text, [solution], 'code').total - total) < 1e-9
assert st_reward(trace(), solution).total == 1 and st_reward('', solution).total == 0
assert abs(st_reward(trace(letter='C'), solution).total - .5) < 1e-12
assert st_reward(trace(), solution, spatial=False).total == .7
ungradable = {}, [], dict(answer='B', camera_center=[[math.nan, 0, 0]]), dict(answer='B', object_center=['x'])
for wrong in ungradable:
    try: st_reward('B', wrong)
    except InputError as error: print(error)
    else: raise AssertionError('an ungradable solution must be an error')

# %% [markdown]
# ## The holes, one by one
#
# Each line below is a way to be paid by the released code without doing the task. A group-relative method
# needs only that some rollouts stumble on a hole: their advantage is positive, and the next step has more
# of them. The picture pays the same texts under both presets; the task is one without any object in view,
# so the truth has camera centres only.

# %%
no_object = dict(answer='B', camera_center=[[0, 0, 0], [.3, 0, .4]], object_center=[None, None])
blank = dict(answer='B', camera_center=[None, None], object_center=[None, None])
filler = 'Object Center: [?] Camera Center: [?]'
holes = {
    '1  a bare letter, no reasoning': 'B',
    '2  answer before thinking': '<answer>B</answer><thinking></thinking>',
    '3  an empty thinking block': '<thinking></thinking><answer>B</answer>',
    '4  brackets with nonsense': filler,
    '5  silence about centres': '',
    '6  an unreadable bracket counts as silence': 'Camera Center: [?]',
    '7  nulls beside the vectors are free': 'Camera Center: [null]' * 9,
    '8  truth values as coordinates': 'Camera Center: [False, 0, 0] Camera Center: [.3, False, .4]',
    '9  start and end stated without saying which': 'Camera Center: [0,0,0] Camera Center: [.3,0,.4]',
    '10 centres in the answer block': '<answer>B Camera Center: [0,0,0] Camera Center: [.3,0,.4]</answer>',
    '11 reasoning that contradicts the numbers': trace().replace('it grows', 'it shrinks, it is C'),
    '12 a second answer after the first': trace() + '<answer>C</answer>'}
asked = {name: blank if name[:1] in '567' and name[1] == ' ' else no_object for name in holes}
asked[list(holes)[10]] = asked[list(holes)[11]] = solution

# %%
fig, axis = plt.subplots(figsize=(8, 3.9))
for offset, (preset, colour) in zip((-.2, .2), zip(WEIGHTS, ('#2b6cb0', '#dd6b20'))):
    totals = [st_reward(text, asked[name], preset).total for name, text in holes.items()]
    axis.barh(np.arange(len(holes)) + offset, totals, height=.38, color=colour, label=preset)
axis.set(yticks=range(len(holes)), yticklabels=list(holes), xlabel='reward', title='What each hole is paid')
axis.invert_yaxis(); axis.legend(frameon=False); fig.tight_layout()

# %% [markdown]
# Silence (5), unreadable brackets (6) and nulls (7) earn 0.2 in the released code when there is nothing to
# state, and nothing in `paper`, except that a stated null is paid there, as it should be. The order of the
# blocks (2) matters only in `paper`, truth values (8) are numbers only in `code`. Holes 1, 3, 9, 10, 11 and
# 12 stay open in both, because the published formula has them: no part of it looks at the reasoning. They
# are the exercises at the end.

# %%
paid = {name[:2].strip(): {p: st_reward(holes[name], asked[name], p) for p in WEIGHTS} for name in holes}
assert paid['1']['code'].accuracy == .6 and paid['2']['code'].format == .12 and paid['2']['paper'].format == 0
assert paid['3']['code'].total == .72 + .1 and abs(paid['4']['code'].format - .08) < 1e-12
assert paid['5']['code'].total == .2 and paid['5']['paper'].total == 0 and paid['6']['code'].camera == .1
assert paid['6']['paper'].camera == 0 and paid['7']['code'].camera == .1 and paid['7']['paper'].object == 0
assert paid['8']['code'].camera == .1 and paid['8']['paper'].camera == 0 and paid['9']['paper'].camera == .15
assert paid['10']['code'].camera == .1 and paid['11']['paper'].total == paid['12']['paper'].total == 1

# %% [markdown]
# ## Hostile strings
#
# A policy early in training writes anything. Ten thousand generated strings mix labels, brackets, quotes,
# null bytes, full-width digits, huge numbers, lone surrogates and nesting; then come a few of a megabyte
# each. Every reward must lie in [0, 1] and the time must stay bounded.

# %%
ATOMS = ['<thinking>', '</thinking>', '<answer>', '</answer>', 'B', 'Camera Center:', 'Object Center:', ' ',
         '\n', '[', ']', '(', ')', '{', '1e999', '-', 'nan', 'inf', 'null', '0x1F', '1_0', '9' * 60, ',', '0',
         '[0, 0, 0]', '"', "'", '\\', '\x00', '１', '［', '\ud800', 'j', 'True', '#', '__import__("os")',
         ' for x in ', '**', '.5', '∞', '\u202e']

def hostile(rng): return ''.join(rng.choices(ATOMS, k=rng.randrange(1, 60)))

rng, totals, start = random.Random(7), {preset: [] for preset in WEIGHTS}, time.perf_counter()
for _ in range(10_000):
    text, truth = hostile(rng), rng.choice([solution, no_object, blank])
    for preset in WEIGHTS: totals[preset].append(st_reward(text, truth, preset).total)
print(f'10,000 strings, both presets: {time.perf_counter() - start:.1f} s')

# %%
slowest = {}
for piece in ('<thinking>', 'Camera Center: [', 'Object Center: [0,0,0] ', 'Camera Center:\n', '[', '(', '-',
              'Camera Center: [' + '9' * 900 + '1]', 'Camera Center: [' + '-' * 900 + '1]'):
    start = time.perf_counter()
    total = st_reward(piece * (1_000_000 // len(piece)), blank, 'code').total
    slowest[piece[:20]] = time.perf_counter() - start
    assert 0 <= total <= 1
print({piece: f'{seconds:.2f} s' for piece, seconds in slowest.items()})

# %%
fig, axis = plt.subplots(figsize=(6, 2.8))
axis.hist([totals['paper'], totals['code']], bins=np.linspace(0, 1, 26), log=True,
          color=['#2b6cb0', '#dd6b20'], label=list(WEIGHTS))
axis.set(xlabel='reward', ylabel='strings', title='Noise is paid by the released code, hardly by the default')
axis.legend(frameon=False); fig.tight_layout()
assert all(0 <= total <= 1 for values in totals.values() for total in values) and max(slowest.values()) < 10
assert np.mean(totals['paper']) < np.mean(totals['code'])


# %% [markdown]
# ## Choosing the cold-start traces
#
# Before reinforcement learning the model is shown traces written by a stronger one. Three candidates per
# question are scored with the reward above; within each scenario the threshold is the mean over questions
# of the best candidate, and about half pass. The text of the paper filters questions, its Algorithm 1
# filters chains; **[ours]** is the chain filter, with at most one chain, the best, per question.

# %%
#| export
def keep_chains(rewards: dict[str, tuple[str, list[float]]]) -> dict[str, int]:
    """question -> (scenario, rewards of its candidates); returns question -> index of the kept candidate.

    A chain is kept if it is the best of its question, positive, and reaches the mean best of its scenario."""
    best = defaultdict(list)
    for scenario, values in rewards.values(): best[scenario].append(max(values))
    threshold = {scenario: mean(values) for scenario, values in best.items()}
    return {question: values.index(max(values)) for question, (scenario, values) in rewards.items()
            if max(values) > 0 and max(values) >= threshold[scenario]}


# %%
rng = np.random.default_rng(5)
scored = {f'{scenario}-{i}': (scenario, list(np.round(rng.beta(a, 2, 3), 3)))
          for scenario, a in (('approach', 5), ('turn', 1.2)) for i in range(200)}
kept = keep_chains(scored)
print({kind: sum(name.startswith(kind) for name in kept) for kind in ('approach', 'turn')}, 'of 200 each')

# %%
assert .4 < len(kept) / len(scored) < .6
assert all(scored[name][1][i] == max(scored[name][1]) for name, i in kept.items())
assert keep_chains(dict(a=('s', [0, 0, 0]), b=('s', [0, 0]))) == {}
assert keep_chains(dict(a=('s', [.2, .7]))) == {'a': 1}

# %% [markdown]
# ## What we proved
#
# - Preset `code` gives the thirteen published totals to 1e-9; preset `paper` gives the formula's values.
# - Blocks and centres are found in one pass and equal the obvious expressions on random text.
# - Twelve ways to be paid for nothing are listed, and in the default preset silence is never paid.
# - Ten thousand hostile strings and megabytes of repeats stay within [0, 1] and within seconds.
#
# ## Try it
#
# 1. Close hole 1: require the answer tag in `paper`. Which other totals of the table change?
# 2. Close hole 9: accept a centre only below the heading of its frame. What does the model lose if it
#    forgets the heading?
# 3. Replace $e^{-d}$ by $e^{-d/s}$ with $s$ a tenth of the scene's depth. For which scenes does the
#    gradient come back?
#
# <details><summary>Solutions</summary>
#
# 1. All rows whose answer stood outside the tag lose its part. Print the table twice and mark the changed totals.
# 2. Whatever it said of the other frames is not read: a forgotten heading costs the whole component. That is harsher,
#    and cannot be gamed.
# 3. For scenes whose errors are far larger than a metre: with $s$ of the scene's size $e^{-d/s}$ is no longer flat
#    there.
#
# </details>
