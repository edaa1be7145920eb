# %% [markdown]
# # Dialogues
# > Questions about one thing, turn after turn; some are answered in words, some with four metric 3D states.

# %%
#| default_exp dialogues

# %% [markdown]
# #| export
# Positions are metres in the dialogue's world frame: the first view's camera at the clip's first frame (x right, y down,
# z forward). Times are seconds since the clip's first frame. A segment is (start, stop) in frames, stop excluded.

# %% [markdown]
# * **What** multi-turn dialogues made from clips: the same target in every turn, trajectories and short answers
# * **Why** LMM-Track4D's task is not one question but a conversation that must not lose its subject
# * **Paper** LMM-Track4D: "trajectory-grounded multi-turn spatiotemporal dialogue", whole short clips or segments of longer ones
#   (428 : 98), answer-only turns, several calibrated cameras. **Templates, turns per dialogue, frame and serialisation are not
#   published: ours are marked [ours]**
# * **Needs** `clips`, `simulator`, `viz`
# * **Time** 30 seconds
# * **Before this** `02_clips`, `03i_simulator`, `05_tracks`

# %%
#| export
from dataclasses import dataclass, field

import numpy as np

from track4d_ref.cameras import camera_center, in_image, project, transform
from track4d_ref.clips import Clip, SceneObject

# %%
import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.viz import birds_eye, draw_box, frame_strip, ground_axes, object_colors, time_colors, use_style

use_style()


# %% [markdown]
# ## One world frame, one clock
#
# A trajectory needs a frame in which to be metric. **[ours]** It is the first camera of the first view: what the model sees
# first is where the numbers begin, for short and long clips alike, and a segment of a long clip keeps the *clip's* frame.

# %%
#| export
def dialogue_path_m(clip: Clip, item: SceneObject, times_s: np.ndarray) -> np.ndarray:
    "Box centres (J, 3) in the dialogue's frame at times (J,), linear between frames; NaN where absent."
    clock_s = clip.times_s - clip.times_s[0]
    centres = transform(clip.view.w2c[0], item.centers_m)
    path = np.stack([np.interp(times_s, clock_s, axis) for axis in centres.T], -1)
    after = np.searchsorted(clock_s, times_s).clip(0, len(clock_s) - 1)
    exact = np.isclose(clock_s[after], times_s)
    there = item.present[after] & (exact | item.present[(after - 1).clip(0)])
    return np.where(there[:, None], path, np.nan)

def state_times_s(clip: Clip, segment: tuple[int, int], count: int = 4) -> np.ndarray:
    "`count` moments (J,) equally spaced inside a segment, both ends included, rounded to what the text prints."
    clock_s = clip.times_s - clip.times_s[0]
    return np.round(np.linspace(clock_s[segment[0]], clock_s[segment[1] - 1], count), 2).clip(0, clock_s[-1])


# %%
preset = load_preset('tiny', ('resolution=112',))
clip = simulate_clip(5, preset, 3, rig='ring', views=2, domain='open', camera_program='orbit_left')
times_s = state_times_s(clip, (0, 8))
print(clip, times_s)

# %%
assert np.allclose(np.diff(times_s), np.diff(times_s)[0], atol=0.011) and times_s[0] == 0 and times_s[-1] == 1.75
assert np.allclose(dialogue_path_m(clip, clip.objects[0], clip.times_s), transform(clip.view.w2c[0], clip.objects[0].centers_m))

# %% [markdown]
# Both views of the clip, with the first object's box:

# %%
figure, axes = plt.subplots(2, 4, figsize=(6.2, 3.3), dpi=66)
colors = object_colors(clip)
for row, view in zip(axes, clip.views):
    for axis, t in zip(row, (0, 2, 4, 7)):
        axis.imshow(view.frames[t], extent=(0, view.width, view.height, 0)); draw_box(axis, view, clip.objects[0], t, colors[1])
        axis.set(xticks=[], yticks=[], xlim=(0, view.width), ylim=(view.height, 0)); axis.set_title(f'{view.name}, {clip.times_s[t]:.2f} s', fontsize=8)
plt.show()
assert len(clip.views) == 2


# %% [markdown]
# ## Who sees it, and when
#
# With instance maps an object counts as seen in a view when enough of its pixels are there; without them (KITTI, WildTrack)
# when its centre falls into the picture. Both are labels, not inputs. Two labels describe a trajectory turn **[ours]**:
#
# * *occluded*: at one of its moments no view sees the target;
# * *viewpoint change*: seen from the target, the first camera moves by 15° or more, or the view that shows it best changes.

# %%
#| export
def object_seen(clip: Clip, item: SceneObject, min_pixels: int = 8) -> np.ndarray:
    "Pixels of the object (V, T) in every view and frame, 0 below `min_pixels`; 1 or 0 by its centre without a mask."
    rows = []
    for view in clip.views:
        if view.instances is not None:
            count = (view.instances == item.id).sum((1, 2))
            rows.append(np.where(count >= min_pixels, count, 0))
        else:
            uv_px, depth_m = project(view.K, view.w2c, item.centers_m[:, None])
            rows.append((in_image(uv_px, depth_m, view.height, view.width)[:, 0] & item.present).astype(int))
    return np.stack(rows)


# %%
#| export
def nearest_frames(clip: Clip, times_s: np.ndarray) -> np.ndarray:
    "The frame (J,) nearest to each moment."
    return np.abs(clip.times_s - clip.times_s[0] - np.asarray(times_s)[:, None]).argmin(1)

def turn_labels(clip: Clip, item: SceneObject, times_s: np.ndarray) -> dict[str, bool]:
    "Whether the moments hold an occlusion or a change of viewpoint of at least 15 degrees."
    frames = nearest_frames(clip, times_s)
    seen = object_seen(clip, item)[:, frames]
    toward = camera_center(clip.view.w2c[frames]) - item.centers_m[frames]
    toward /= np.linalg.norm(toward, axis=1)[:, None]
    turned_deg = np.degrees(np.arccos((toward @ toward.T).clip(-1, 1).min()))
    switched = len(clip.views) > 1 and len(set(seen[:, seen.any(0)].argmax(0))) > 1
    return {'occluded': bool((seen == 0).all(0).any()), 'viewpoint_change': bool(turned_deg >= 15 or switched)}


# %%
seen = object_seen(clip, clip.objects[0])
figure, axis = plt.subplots(figsize=(6, 2.1), dpi=90)
for row, view in zip(seen, clip.views): axis.plot(clip.times_s, row, 'o-', markersize=4, label=view.name)
axis.set(xlabel='time (s)', ylabel='pixels', title=f'How much of the {clip.objects[0].caption} each view shows'); axis.legend(); plt.show()
print(turn_labels(clip, clip.objects[0], times_s))
assert seen.shape == (2, 8) and seen[0, 2] == (clip.view.instances[2] == 1).sum()

# %% [markdown]
# ## A turn
#
# A trajectory turn's answer in words is short: *Its path is* `[TRK]`. The four states stand beside it, because the model returns
# them through the decoder. `trajectory_text` (next notebook) writes the same states as text, for models without one.

# %%
#| export
STATE_WORD = '[TRK]'
PATH_ANSWER = f'Its path is {STATE_WORD}.'

@dataclass(frozen=True, eq=False)
class Turn:
    "One question with its answer; the arrays are empty in answer-only turns."
    kind: str                          # 'trajectory', 'seen', 'nearer', 'travelled' or 'name'
    question: str
    answer: str
    segment: tuple[int, int]
    times_s: np.ndarray = field(default_factory=lambda: np.zeros(0))         # (J,)
    xyz_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))      # (J, 3), NaN where the target is absent
    seen: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))      # (J,) by any view
    labels: dict = field(default_factory=dict)

    @property
    def returns_path(self) -> bool: return self.kind == 'trajectory'


# %%
#| export
@dataclass(frozen=True, eq=False)
class Dialogue:
    "Turns about one target of one clip."
    id: str
    clip: str
    scene: str
    source: str
    target: int
    caption: str
    long: bool
    segment: tuple[int, int]           # what the first turn asks about
    turns: tuple[Turn, ...]
    meta: dict = field(default_factory=dict)

    @property
    def path_turns(self) -> list[int]:
        "Numbers of the turns that return a trajectory."
        return [number for number, turn in enumerate(self.turns) if turn.returns_path]


# %% [markdown]
# Only the first turn names the target; later ones say *it*. That is what makes memory measurable **[ours]**: without the
# history, and without a state, "it" could be any object.
#
# If the clip's caption is not unique (KITTI has a dozen cars), the target is named by where it is in the first view when
# first seen there.

# %%
#| export
def name_target(clip: Clip, item: SceneObject) -> str | None:
    "'the red ball', or 'the car at (0.41, 0.62) of the first view at 0.50 s'; None if neither is possible."
    if [other.caption for other in clip.objects].count(item.caption) == 1: return f'the {item.caption}'
    frames = np.flatnonzero(object_seen(clip, item)[0])
    if not len(frames): return None
    view, frame = clip.view, frames[0]
    uv_px, _ = project(view.K, view.w2c[frame], item.centers_m[frame][None])
    u, v = uv_px[0] / (view.width, view.height)
    return f'the {item.label} at ({u:.2f}, {v:.2f}) of the first view at {clip.times_s[frame] - clip.times_s[0]:.2f} s'


# %%
#| export
FIRST_PATH = ('Follow {name} from {a:.2f} s to {b:.2f} s. Where does it go?',
              'Where is {name} between {a:.2f} s and {b:.2f} s?', 'Track {name} from {a:.2f} s to {b:.2f} s.')
LATER_PATH = ('And where is it between {a:.2f} s and {b:.2f} s?', 'Follow it from {a:.2f} s to {b:.2f} s.',
              'Track it again, from {a:.2f} s to {b:.2f} s.')

def path_turn(clip: Clip, item: SceneObject, segment: tuple[int, int], rng: np.random.Generator,
              name: str = '', states: int = 4) -> Turn:
    "A turn that returns `states` positions; with a `name` it introduces the target, without it says 'it'."
    times_s = state_times_s(clip, segment, states)
    text = str(rng.choice(FIRST_PATH if name else LATER_PATH))
    seen = object_seen(clip, item)[:, nearest_frames(clip, times_s)].any(0)
    return Turn('trajectory', text.format(name=name, a=times_s[0], b=times_s[-1]), PATH_ANSWER, segment, times_s,
                dialogue_path_m(clip, item, times_s), seen, turn_labels(clip, item, times_s))


# %%
rng = np.random.default_rng(0)
turn = path_turn(clip, clip.objects[0], (0, 8), rng, name_target(clip, clip.objects[0]))
print(turn.question, '→', turn.answer); print(turn.xyz_m.round(2).tolist(), turn.labels)
assert 'the ' + clip.objects[0].caption in turn.question and turn.xyz_m.shape == (4, 3) and (turn.xyz_m[:, 2] > 0).all()

# %% [markdown]
# ## Answer-only turns
#
# Four small questions with dead zones: is it seen, is it nearer, how far did it travel, what is it. Where the truth is too
# close to call, the question is not asked. The last one has no answer without memory.

# %%
#| export
DISTANCES_M = (0.5, 2.0)
DISTANCE_WORDS = ('Less than 0.5 m.', 'Between 0.5 m and 2 m.', 'More than 2 m.')
CLOSE_MARGIN = 0.15

def _seen_turn(clip: Clip, item: SceneObject, segment: tuple[int, int], rng: np.random.Generator) -> Turn:
    seen = object_seen(clip, item).any(0)
    options = [frames for flag in (False, True) if len(frames := np.flatnonzero(seen[slice(*segment)] == flag))]
    frame = segment[0] + int(rng.choice(options[int(rng.integers(len(options)))]))
    when_s = clip.times_s[frame] - clip.times_s[0]
    return Turn('seen', f'Can any camera see it at {when_s:.2f} s?', 'Yes.' if seen[frame] else 'No.', segment)

def _nearer_turn(clip: Clip, item: SceneObject, segment: tuple[int, int], rng: np.random.Generator) -> Turn | None:
    frames = np.array([segment[0], segment[1] - 1])
    away_m = np.linalg.norm(camera_center(clip.view.w2c[frames]) - item.centers_m[frames], axis=1)
    if not item.present[frames].all() or abs(np.log(away_m[1] / away_m[0])) < CLOSE_MARGIN: return None
    a, b = clip.times_s[frames] - clip.times_s[0]
    words = 'nearer to' if rng.random() < 0.5 else 'farther from'
    right = (away_m[1] < away_m[0]) == (words == 'nearer to')
    question = f'Is it {words} the first camera at {b:.2f} s than at {a:.2f} s?'
    return Turn('nearer', question, 'Yes.' if right else 'No.', segment)


# %%
#| export
def _travelled_turn(clip: Clip, item: SceneObject, segment: tuple[int, int], rng: np.random.Generator) -> Turn | None:
    frames = np.array([segment[0], segment[1] - 1])
    moved_m = float(np.linalg.norm(np.diff(item.centers_m[frames], axis=0)))
    if not item.present[frames].all() or any(abs(moved_m / cut - 1) < CLOSE_MARGIN for cut in DISTANCES_M): return None
    a, b = clip.times_s[frames] - clip.times_s[0]
    return Turn('travelled', f'How far is its place at {b:.2f} s from its place at {a:.2f} s?',
                DISTANCE_WORDS[int(np.searchsorted(DISTANCES_M, moved_m))], segment)

def _name_turn(clip: Clip, item: SceneObject, segment: tuple[int, int], rng: np.random.Generator) -> Turn:
    return Turn('name', 'What are we following?', f'The {item.caption}.', segment)

ANSWER_TURNS = {'seen': _seen_turn, 'nearer': _nearer_turn, 'travelled': _travelled_turn, 'name': _name_turn}

# %%
rng = np.random.default_rng(3)
asked = [make(clip, clip.objects[1], (0, 8), rng) for make in ANSWER_TURNS.values()]
for turn in asked: print(turn and f'{turn.question} → {turn.answer}')
assert asked[0] is not None and asked[3].answer == f'The {clip.objects[1].caption}.'
assert all(turn is None or not turn.returns_path for turn in asked)


# %% [markdown]
# ## A dialogue
#
# Three or four trajectory turns and one or two answer-only turns, the same target throughout. Short clips are asked about
# as a whole first; of a long clip, the first turn names a segment. Later turns ask about parts of that segment.

# %%
#| export
def _inner_segment(segment: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    "A part of a segment, at least half as long and at least four frames."
    length = segment[1] - segment[0]
    size = int(rng.integers(min(max(4, (length + 1) // 2), length), length + 1))
    start = segment[0] + int(rng.integers(length - size + 1))
    return start, start + size

def usable_targets(clip: Clip, segment: tuple[int, int]) -> list[SceneObject]:
    "Objects that are there for the whole segment, can be named, and are seen in at least half of it."
    window = slice(*segment)
    return [item for item in clip.objects if item.present[window].all() and name_target(clip, item)
            and object_seen(clip, item)[:, window].any(0).mean() >= 0.5]

def _turns(clip: Clip, item: SceneObject, segment: tuple[int, int], rng: np.random.Generator,
           states: int) -> list[Turn]:
    "The first turn names the target and asks for its path; the others come in random order."
    words = rng.choice(list(ANSWER_TURNS), int(rng.integers(1, 3)), replace=False)
    kinds = ['trajectory'] * int(rng.integers(2, 4)) + list(words)
    turns = [path_turn(clip, item, segment, rng, name_target(clip, item), states)]
    for kind in rng.permutation(kinds):
        part = _inner_segment(segment, rng)
        if kind == 'trajectory': turns.append(path_turn(clip, item, part, rng, states=states))
        elif (turn := ANSWER_TURNS[kind](clip, item, part, rng)) is not None: turns.append(turn)
    return turns


# %%
#| export
def scene_of(clip: Clip) -> str:
    "What a split must not cut: the simulated world, the KITTI sequence, or whatever the clip's meta says."
    return str(clip.meta.get('scene', clip.meta.get('sequence', clip.id)))

def make_dialogue(clip: Clip, rng: np.random.Generator, long: bool = False, segment_frames: int = 8, states: int = 4,
                  target: int | None = None) -> Dialogue | None:
    """One dialogue about one target; the same generator state gives the same dialogue. None if no object is usable.

    `long` asks about a segment of `segment_frames` frames instead of the whole clip."""
    count = clip.frames_count
    size = min(segment_frames, count) if long else count
    start = int(rng.integers(count - size + 1))
    segment = (start, start + size)
    items = [item for item in usable_targets(clip, segment) if target in (None, item.id)]
    if not items: return None
    item = items[int(rng.integers(len(items)))]
    meta = {'frames': count, 'views': len(clip.views), **clip.meta}
    turns = tuple(_turns(clip, item, segment, rng, states))
    return Dialogue(f'{clip.id}-{item.id}-{start}', clip.id, scene_of(clip), clip.source, item.id, item.caption, long,
                    segment, turns, meta)


# %%
dialogue = make_dialogue(clip, np.random.default_rng(2), target=1)
for number, turn in enumerate(dialogue.turns, 1):
    print(f'{number}. {turn.question}\n   {turn.answer}', turn.xyz_m.round(1).tolist() if turn.returns_path else '')

# %%
again = make_dialogue(clip, np.random.default_rng(2), target=1)
assert [t.question for t in again.turns] == [t.question for t in dialogue.turns]
assert 3 <= len(dialogue.path_turns) <= 4 and dialogue.turns[0].returns_path

# %% [markdown]
# From above: every trajectory turn of the dialogue on the ground plane, with the path it is taken from.

# %%
figure, axes = plt.subplots(1, len(dialogue.path_turns), figsize=(8.4, 3.3), dpi=90, sharex=True, sharey=True)
origin_m, ground = ground_axes(clip)
for axis, number in zip(axes, dialogue.path_turns):
    turn = dialogue.turns[number]
    birds_eye(axis, clip, cone_m=0.9)
    world = transform(np.linalg.inv(clip.view.w2c[0]), turn.xyz_m)
    axis.scatter(*((world - origin_m) @ ground.T).T, c=time_colors(4), s=75, edgecolors='k', linewidths=0.6, zorder=8)
    axis.set_title(f'turn {number + 1}: {turn.times_s[0]:.2f} – {turn.times_s[-1]:.2f} s', fontsize=9)
plt.show()

# %%
assert all(np.allclose(t.xyz_m[0], dialogue_path_m(clip, clip.object(dialogue.target), t.times_s[:1])[0]) for t in dialogue.turns if t.returns_path)

# %% [markdown]
# A long clip, with the segment asked about in colour:

# %%
long_clip = simulate_clip(6, load_preset('tiny', ('resolution=112', 'frames=24')), 1, rig='ring', domain='open')
long_dialogue = make_dialogue(long_clip, np.random.default_rng(4), long=True)
figure, axis = plt.subplots(figsize=(7, 2.2), dpi=90)
axis.axvspan(*(long_clip.times_s[list((long_dialogue.segment[0], long_dialogue.segment[1] - 1))]), color='#eeeeee')
axis.plot(long_clip.times_s, object_seen(long_clip, long_clip.object(long_dialogue.target)).T, lw=1)
for row, number in enumerate(long_dialogue.path_turns):
    axis.scatter(long_dialogue.turns[number].times_s, np.full(4, -30 - 45 * row), c=time_colors(4), s=26)
axis.set(xlabel='time (s)', ylabel='pixels seen', title='Grey: the queried segment; dots: moments of the trajectory turns'); plt.show()

# %%
assert long_dialogue.long and long_dialogue.segment[1] - long_dialogue.segment[0] == 8 < long_clip.frames_count
assert all(long_dialogue.segment[0] <= t.segment[0] < t.segment[1] <= long_dialogue.segment[1] for t in long_dialogue.turns)

# %% [markdown]
# ## What we proved
#
# * Trajectories are the objects' paths in the first camera's frame, at moments that the question prints.
# * The same generator gives the same dialogue; the target never changes; only the first turn names it.
# * Labels for occlusion and viewpoint come from geometry and masks; questions too close to call are not asked.
#
# ## Try it
#
# 1. Write a fifth answer-only turn ("which way does it turn?") from `motion`'s labels. Which dead zone does it need?
# 2. How often is "it" ambiguous? Count the objects that could be meant in each clip.
# 3. Let the target be named by a pixel only. What changes in `name_target`, and what in the model (`rtge.point_tag`)?
#
# <details><summary>Solutions</summary>
#
# 1. The one of `rotation`: ask only where the turn about `up` exceeds the larger threshold and never where it lies
#    between the two. Return None otherwise, as `_nearer_turn` does.
# 2. In the text 'it' always means the target of the first turn. Count `len(usable_targets(clip, segment))`: that many
#    could be meant by someone who missed the first turn, which is what the corrupted history tests.
# 3. `name_target` then always returns its last line, with coordinates. In the model the pixel's own ray tag
#    (`rtge.point_tag`) must reach the question, or the coordinates are only words.
#
# </details>
