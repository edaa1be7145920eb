# %% [markdown]
# # Every sample, asked
# > How many questions of each type does each real data set yield, and are the answers right when a person looks?

# %% [markdown]
# * **What** a table of question types by sources, and a gallery of drawn questions with everything needed to check each by eye
# * **Why** a reader can pass every unit test and still swap left and right; whoever looks at a drawn answer notices at once
# * **Paper** 4DP-QA §3 (its thirteen types and its sources); sample sizes and drawings are **[ours]**
# * **Needs** nothing; with `TRACK4D_DATA` set it asks the real samples, without it a simulated clip stands in
# * **Time** 75 seconds
# * **Before this** `07z_readers`, `09_questions`

# %%
import os
import textwrap
from collections import Counter
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from track4d_ref.presets import load_preset, load_thresholds
from track4d_ref.questions import QUESTION_TYPES, ask_all
from track4d_ref.raw import thumbnail
from track4d_ref.readers import source_clips
from track4d_ref.simulator import simulate_clip
from track4d_ref.standard import pictured
from track4d_ref.viz import CREDITS, birds_eye, draw_box, object_colors, picture_axis, use_style

use_style()
data = os.environ.get('TRACK4D_DATA')

# %% [markdown]
# ## The samples
#
# Each source is read through the same door as `track4d data convert`, in pieces of a length that suits it. 7-Scenes and TUM hold a moving
# camera and no objects, so only the camera can be asked about, and only over moments so short that a hand-held motion is still
# one motion. SHIFT's sample is a single frame, where nothing can move. Of KITTI two sequences are taken, one with poses and one without, and moments without a picture
# are left out (`pictured`), because nobody can answer a question about a black frame. HOT3D and WildTrack come without pictures
# here: what their boxes know can be asked, and the drawings below show the boxes.
#
# Virtual KITTI 2 and Stereo4D, TAPVid-3D, APIDIS have no sample that holds poses and objects, so they do not appear; their readers are tested on
# files in their layout.

# %%
# source → (sample, frames in a piece, most pieces)
PLACES = {'kitti': ('kitti_tracking', 21, 30), 'shift': ('shift_sample', 64, 1), 'adt': ('adt_pinhole', 64, 1),
          'hot3d': ('hot3d_sample', 64, 2), 'kubric': ('kubric_scenes', 64, 2),
          'wildtrack': ('wildtrack', 12, 6), '7scenes': ('sevenscenes_rgbd', 2, 30),
          'tum': ('trajectories/freiburg1_xyz-groundtruth.txt', 8, 30)}

def clips_of(source: str) -> list:
    sample, frames, most = PLACES[source]
    return [pictured(read()) for _, read in islice(source_clips(source, Path(data) / sample, frames), most)]

if data: clips = {source: clips_of(source) for source in PLACES if (Path(data) / PLACES[source][0]).exists()}
else: clips = {'simulator': [simulate_clip(seed=3, preset=load_preset('tiny'), index=i) for i in range(3)]}
print({source: f'{len(found)} clips, {sum(clip.frames_count for clip in found)} frames' for source, found in clips.items()})

# %%
assert clips and all(clip.licence and clip.source for found in clips.values() for clip in found)


# %% [markdown]
# ## How many of each
#
# At most four questions of each type are asked of each clip; what is too close to call is not asked at all. An empty cell is
# honest: nothing in that sample is clear enough, or the type needs something that is not there. Kubric's cameras turn and
# travel at once and get no camera question; ADT's two pictures are 33 milliseconds apart, in which nobody turns or walks. Only KITTI's 0001
# has camera poses in the sample. In the other sequences the world is the camera of each frame, so whether the camera moves, how far a car drove or
# where a point would be seen by a resting camera is not known, and the engine does not ask it (`NEEDS_WORLD`).

# %%
def questions_of(source: str, per_type: int = 4) -> list:
    "(clip, question) of all clips of a source."
    cuts, asked = load_thresholds(source), []
    for number, clip in enumerate(clips[source]):
        asked += [(clip, question) for question in ask_all(clip, np.random.default_rng(number), per_type=per_type,
                                                           thresholds=cuts)]
    return asked

asked = {source: questions_of(source) for source in clips}
counts = np.array([[Counter(question.type for _, question in asked[source])[name] for source in asked]
                   for name in QUESTION_TYPES])  # (13, sources)

# %%
figure, axis = plt.subplots(figsize=(7.4, 4.0), dpi=85)
axis.imshow(np.sqrt(counts), cmap='Blues', aspect='auto', vmax=2 * np.sqrt(counts.max()))
for (row, column), count in np.ndenumerate(counts):
    axis.text(column, row, count or '·', ha='center', va='center', fontsize=8)
axis.set(xticks=range(len(asked)), yticks=range(len(QUESTION_TYPES)))
axis.set_xticklabels([f'{source}\n{sum(column)}' for source, column in zip(asked, counts.T)])
axis.set_yticklabels([f'{kind.number} {name}' for name, kind in QUESTION_TYPES.items()])
axis.tick_params(length=0); axis.xaxis.tick_top(); axis.spines[:].set_visible(False); plt.show()

# %%
for source, column in zip(asked, counts.T): print(f'{source:10} {column.sum():4} questions of {(column > 0).sum():2} types')
assert counts.sum() > 20
if data: assert (counts > 0).any(1).all() and (counts[:, list(asked).index('wildtrack')] > 0).all()
known = lambda clip: clip.meta.get('camera_poses_known', True)
assert all(known(clip) for pairs in asked.values() for clip, question in pairs if question.type == 'camera_movement')


# %% [markdown]
# ## One of each, drawn
#
# On the left the frame in which the first thing is named, in the middle the last frame that matters, on the right the scene from above, where the camera looks
# up the page and its triangle goes from violet to yellow. A, B and C are the objects in the order in which the question names them; they are drawn
# from their boxes, so a box that misses its object shows at once. Read the question, answer it from the picture, then compare.

# %%
def shown_frames(question) -> tuple[int, int]:
    "Two frames of the clip that let a person check the answer."
    named = sorted(question.frames[reference['frame']] for reference in question.references)
    if question.category == 'tracking': named = [question.frames[question.targets['reference']]]
    if question.category == 'spatial' and len(named) > 1: return named[0], named[-1]
    return (named or question.frames)[0], question.frames[-1]

def draw_moment(axis, clip, question, frame: int) -> None:
    "One frame with the boxes of the named objects, and the track if one is asked for."
    view, colors = clip.views[question.view], object_colors(clip)
    picture_axis(axis, view.height, view.width, f'frame {question.frames.index(frame)}')
    if view.frames is not None and view.frame_valid[frame]:
        axis.imshow(thumbnail(view.frames[frame], 140, 20), extent=(0, view.width, view.height, 0))
    else: axis.set_facecolor('#F2F2EE'); axis.add_patch(plt.Rectangle((0, 0), view.width, view.height, color='#F2F2EE'))
    for letter, reference in zip('ABC', question.references):
        draw_box(axis, view, clip.object(reference['object']), frame, colors[reference['object']], letter)
    if question.category == 'tracking':
        path_px = np.array(question.targets['xy']) * (view.width, view.height)
        axis.plot(*path_px[np.argsort(question.targets['frames'])].T, 'o-', color='#009E73', markersize=3, linewidth=1)


# %%
def draw_question(clip, question) -> None:
    "Two frames, the view from above, and the question with its answer below."
    figure, axes = plt.subplot_mosaic([['first', 'last', 'above'], ['text'] * 3], figsize=(7.4, 3.3), dpi=70,
                                      width_ratios=(1.5, 1.5, 1), height_ratios=(2.1, 1))
    for name, frame in zip(('first', 'last'), shown_frames(question)): draw_moment(axes[name], clip, question, frame)
    ids = [reference['object'] for reference in question.references] or None
    birds_eye(axes['above'], clip, shown_frames(question)[0], ids=ids, cone_m=None if clip.objects else 0.3)
    axes['above'].tick_params(labelsize=6); axes['above'].set_title('from above', fontsize=8)
    for axis in axes.values(): axis.title.set_fontsize(8)
    text = '\n'.join(textwrap.fill(line, 118) for line in question.prompt.splitlines()[:-1])
    answer = question.answer if not question.choices else f'{question.answer}, {question.choices["ABCD".index(question.answer)]}'
    axes['text'].axis('off')
    axes['text'].text(0, 1, f'{text}\n→ {textwrap.shorten(answer, 110)}', fontsize=7.5, va='top')
    figure.supxlabel(CREDITS.get(clip.source, f'{clip.source}: {clip.licence}'), fontsize=6, x=0.995, ha='right'); plt.show()

# a type that shows what the source is good for
CHOSEN = {'kitti': 'camera_object_distance_change', 'shift': 'depth', 'adt': 'object_object_distance', 'hot3d': 'moved_distance',
          'kubric': 'object_direction', 'wildtrack': 'object_object_distance_change', '7scenes': 'camera_movement',
          'tum': 'camera_movement', 'simulator': 'moved_distance'}

def example_of(source: str):
    "The first question of the chosen type about a clip, with pictures where the source has any."
    found = [pair for pair in asked[source] if pair[1].type == CHOSEN[source]] or asked[source]
    return next((pair for pair in found if pair[0].view.frames is not None), found[0] if found else None)

examples = {source: example_of(source) for source in asked if asked[source]}
names = list(examples)

# %%
for source in names[0:1]: draw_question(*examples[source])

# %%
for source in names[1:2]: draw_question(*examples[source])

# %%
for source in names[2:3]: draw_question(*examples[source])

# %%
for source in names[3:4]: draw_question(*examples[source])

# %%
for source in names[4:5]: draw_question(*examples[source])

# %%
for source in names[5:6]: draw_question(*examples[source])

# %%
for source in names[6:7]: draw_question(*examples[source])

# %%
for source in names[7:8]: draw_question(*examples[source])


# %% [markdown]
# Eyes tire. For the types whose truth is one comparison of distances, the answer is computed once more, here, from box
# centres and camera alone, with none of the question engine's code.

# %%
def nearer_by_hand(clip, question) -> bool | None:
    "Whether the option that the answer names is the nearest of those offered; None where it is another form of question."
    letters, frame = question.choices, question.frames[question.references[0]['frame']]
    if question.type != 'depth' or len(letters) != 2: return None
    c2w = np.linalg.inv(clip.views[question.view].w2c[frame])
    far_m = {reference['object']: np.linalg.norm(clip.object(reference['object']).centers_m[frame] - c2w[:3, 3])
             for reference in question.references}
    if 'farther' in question.text or 'further' in question.text: return None
    nearest = min(far_m, key=far_m.get)
    place = [reference['object'] for reference in question.references].index(nearest)
    named = question.references[place]
    chosen = letters['AB'.index(question.answer)]
    words = named['label'] if named['uv'] is None else f'{named["uv"][0]:.3f}, {named["uv"][1]:.3f}'
    return words in chosen or clip.object(nearest).caption in chosen

checked = [nearer_by_hand(clip, question) for pairs in asked.values() for clip, question in pairs if question.type == 'depth']
checked = [one for one in checked if one is not None]
print(f'{sum(checked)} of {len(checked)} answers about depth agree with the distances of the boxes')

# %%
assert checked and np.mean(checked) > 0.95

# %% [markdown]
# ## A gallery of seventy-two
#
# From the six sources that have objects, lots of fixed size: shuffled with a fixed seed, those with pictures first, then one of each type in turn.
# Three to a figure. A, B and C stand for the slots of the template, so "B travels further than A" names B first. Cover the line with the arrow, answer from the drawing, then look.

# %%
QUOTA = {'kitti': 16, 'shift': 6, 'adt': 10, 'hot3d': 12, 'kubric': 14, 'wildtrack': 14}

def drawable(clip, question) -> bool:
    "Whether the two shown frames have their pictures, or the clip has none at all."
    view = clip.views[question.view]
    return view.frames is None or all(view.frame_valid[frame] for frame in shown_frames(question))

def drawn_lot(source: str) -> list:
    "A lot of the source's questions: shuffled with a fixed seed, those with pictures first, then one of each type in turn."
    pairs = [pair for pair in asked[source] if drawable(*pair)]
    pairs = [pairs[index] for index in np.random.default_rng(5).permutation(len(pairs))]
    pairs.sort(key=lambda pair: pair[0].views[pair[1].view].frames is None)
    turn, place = Counter(), {}
    for pair in pairs: place[id(pair)] = turn[pair[1].type], list(QUESTION_TYPES).index(pair[1].type); turn[pair[1].type] += 1
    return sorted(pairs, key=lambda pair: place[id(pair)])[:QUOTA.get(source, 8)]


# %%
def draw_row(rows, clip, question) -> None:
    "One question of the gallery: two frames, the view from above, the words."
    axes = rows.subplot_mosaic([['first', 'last', 'above', 'text']], width_ratios=(1.5, 1.5, 1.2, 2.6))
    for name, frame in zip(('first', 'last'), shown_frames(question)): draw_moment(axes[name], clip, question, frame)
    ids = [reference['object'] for reference in question.references] or None
    birds_eye(axes['above'], clip, shown_frames(question)[0], ids=ids, cone_m=None if clip.objects else 0.3)
    for axis in axes.values(): axis.title.set_fontsize(7); axis.tick_params(labelsize=5); axis.xaxis.label.set_fontsize(5); axis.yaxis.label.set_fontsize(5)
    answer = question.answer if not question.choices else f'{question.answer}, {question.choices["ABCD".index(question.answer)]}'
    text = '\n'.join(textwrap.fill(line, 58) for line in question.prompt.splitlines()[:-1])
    axes['text'].axis('off')
    axes['text'].text(0, 1, f'{clip.id}, {question.type}\n{text}\n→ {textwrap.shorten(answer, 56)}', fontsize=6.5, va='top')

def draw_gallery(source: str, most: int = 3) -> None:
    "A source's lot, three questions to a figure."
    lot = drawn_lot(source)
    for start in range(0, len(lot), most):
        figure = plt.figure(figsize=(9.6, 1.75 * most), dpi=64, layout='constrained')
        for rows, pair in zip(figure.subfigures(most, 1), lot[start:start + most]): draw_row(rows, *pair)
        figure.supxlabel(CREDITS.get(source, f'{source}: {lot[start][0].licence}'), fontsize=6, x=0.995, ha='right'); plt.show()

gallery = [source for source in QUOTA if source in asked] or list(asked)
print(sum(len(drawn_lot(source)) for source in gallery), 'questions')

# %%
for source in gallery[0:1]: draw_gallery(source)

# %%
for source in gallery[1:2]: draw_gallery(source)

# %%
for source in gallery[2:3]: draw_gallery(source)

# %%
for source in gallery[3:4]: draw_gallery(source)

# %%
for source in gallery[4:5]: draw_gallery(source)

# %%
for source in gallery[5:6]: draw_gallery(source)

# %%
if data: assert {source: len(drawn_lot(source)) for source in QUOTA} == QUOTA and sum(QUOTA.values()) == 72
assert all(len({id(pair) for pair in drawn_lot(source)}) == len(drawn_lot(source)) for source in gallery)


# %% [markdown]
# ## What an eye found
#
# Seventy-two questions of the six sources were drawn as above with their answers hidden, answered from the drawing, and only then compared.
#
# | source | looked at | right | wrong | could not be judged |
# |---|--:|--:|--:|--:|
# | KITTI | 16 | 16 | 0 | 0 |
# | SHIFT | 6 | 6 | 0 | 0 |
# | ADT | 10 | 10 | 0 | 0 |
# | HOT3D | 12 | 11 | 0 | 1, a track without a picture |
# | Kubric | 14 | 13 | 0 | 1, a point on a tumbling ring |
# | WildTrack, first lot | 14 | 11 | **1** | 2 tracks without a picture |
#
# **One of 68 judged was wrong**, 1.5 % (95 % interval 0.3 to 7.9 %, Wilson). It was a person of WildTrack who shifts by 24 centimetres in six seconds and
# was said to turn clockwise by 93 degrees. No one annotated where people face; the reader takes it from their steps, and it took every step
# of more than ten centimetres for one. The annotated grid has cells of 2.5 centimetres, so that standing people span on the spot. A
# look at all such questions showed five more people of that kind. Now a person must get 40 centimetres further within a second before the heading
# follows (`WALKING_M`), and the remaining questions about turns are of people who walk at least 1.6 metres.
#
# The reader being mended, the lot of WildTrack was drawn again; that is the one shown here. Of these fourteen 11 are right, none wrong, and 3 could not be judged
# (two tracks without a picture, one distance that changes by half a metre at the far end of the square). This second look was not blind: the answers
# had been seen. One question was misread at first ("the white cylinder travels further than the cyan one" with the white one lettered B), which is no
# error of the question.
#
# An earlier round looked at forty-six questions and found no wrong answer, but three bugs that every test had missed: questions about moments without a picture
# (hence `pictured` and `--pictured`), a clip without any object (7-Scenes) that stopped the engine with a stack trace, and "the camera stays still"
# on KITTI sequences whose camera poses are not known. All are tests now.

# %%
def wilson(wrong: int, judged: int, z: float = 1.96) -> tuple[float, float]:
    "Wilson's 95 % interval of a share."
    share, spread = wrong / judged, z ** 2 / judged
    half = z * np.sqrt(share * (1 - share) / judged + spread / (4 * judged))
    return float((share + spread / 2 - half) / (1 + spread)), float((share + spread / 2 + half) / (1 + spread))

for name, wrong, judged in (('first look', 1, 68), ('with WildTrack drawn again', 0, 67)):
    low, high = wilson(wrong, judged)
    print(f'{name}: {wrong} of {judged} wrong, 95 % interval {100 * low:.1f} to {100 * high:.1f} %')

# %%
assert 16 + 6 + 10 + 11 + 13 + 12 == 68 and np.allclose(wilson(1, 68), (0.0026, 0.0787), atol=5e-4)
for clip, question in asked.get('wildtrack', ()):
    if question.type != 'object_rotation': continue
    places_m = clip.object(question.references[0]['object']).centers_m[list(question.frames)]
    assert np.linalg.norm(places_m - places_m[0], axis=-1).max() > 1.5      # nobody is said to turn on the spot

# %% [markdown]
# ## What we proved
#
# * Every one of the thirteen types is asked of at least one real sample, and each source yields the types that its content allows.
# * Drawn beside the scene from above, the answers agree with what a person sees; those about depth agree with the boxes, counted.
#
# ## Try it
#
# 1. Give `CHOSEN` another type for each source and judge the eight drawings before reading the answers.
# 2. Read WildTrack with `y` and `x` swapped in `grid_place_m`. Which drawing betrays it first?
# 3. Raise the pieces of 7-Scenes from 2 to 16 frames. Why do the camera questions disappear?
#
# <details><summary>Solutions</summary>
#
# 1. Write your answers down first, then read. Disagreement is either a wrong label or an unclear question; only the
#    second is mended by a threshold.
# 2. The view from above: people leave the square. Asked questions still look sensible, which is why one draws.
# 3. Between frames that are far apart the camera moves in several ways at once, and no single label passes the dead
#    zones any longer.
#
# </details>
