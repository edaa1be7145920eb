# %% [markdown]
# # Point and ask
# > What happens when a person clicks on a picture or asks in words: tracks, a talker, a view from above.

# %%
#| default_exp looking

# %% [markdown]
# * **What** the four things `track4d app` does: open a clip, follow a clicked point, ask a model, draw the view from above
# * **Why** a claim about motion is believed sooner when one can point at the thing oneself
# * **Paper** 4DP-QA: Eq. 1 and 2, by hand on any pixel; LMM-Track4D: an answer that comes with a path. The rest is **[ours]**
# * **Needs** nothing new; no GPU
# * **Time** 20 seconds
# * **Before this** [`05_tracks`](05_tracks.ipynb), [`19_track4d`](19_track4d.ipynb)

# %%
#| export
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

import numpy as np

from track4d_ref.storage import InputError, project_path

# %%
import matplotlib.pyplot as plt

from track4d_ref.viz import draw_tracks, frame_strip, show_frame, use_style
use_style()


# %% [markdown]
# ## What there is to look at, and whom to ask
#
# Clips are the street of the front page (`hero_clip`, kept in `data_samples/street` because its sixteen large frames take a while to
# simulate), the four small ones, and every clip folder a person brings. Models are found
# by the files a checkpoint leaves behind: `config.json` of a whole model, `adapter.json` of adapters, `track4d.json` of
# LMM-Track4D. Whatever appears in `data_samples/` appears in the list.

# %%
#| export
def clip_choices(brought: list[Path] = ()) -> dict[str, Path]:
    "Names of clips and their folders: first those that were named, alone or many in a folder, then those in data_samples."
    found = {}
    shipped = project_path('data_samples/street'), project_path('data_samples/clips')
    for root in (*shipped, *map(Path, brought)):
        files = sorted({*root.glob('clip.json'), *root.glob('*/clip.json')})
        if not files: raise InputError(f'{root}: no clip folder here; make one with track4d data simulate or convert')
        found |= {file.parent.name if file.parent.name not in found else str(file.parent): file.parent for file in files}
    return dict(sorted(found.items(), key=lambda choice: any(choice[1].is_relative_to(root) for root in shipped)))

def open_choice(folder: Path):
    "The clip of a folder; InputError if there is nothing to look at."
    from track4d_ref.clips import load_clip
    clip = load_clip(folder)
    if clip.view.frames is None: raise InputError(f'{folder}: the clip has no pictures to look at; choose another')
    return clip

MARKS = ('track4d.json', 'adapter.json', 'config.json')

def model_choices(brought: list[Path] = ()) -> dict[str, Path]:
    "Names of checkpoints and their folders: first those that were named, then the tour's model, then the others in data_samples."
    shipped = sorted(project_path('data_samples').iterdir(), key=lambda folder: (folder.name != 'tour_model', folder.name))
    for folder in map(Path, brought):
        if not any((folder / mark).is_file() for mark in MARKS):
            raise InputError(f'{folder}: no checkpoint (none of {", ".join(MARKS)}); name the folder of a saved model')
    found = {}
    for folder in (*map(Path, brought), *shipped):
        if any((folder / mark).is_file() for mark in MARKS): found.setdefault(folder.name, folder)
    return found


# %%
clips, models = clip_choices(), model_choices()
print(*clips, *models, sep='\n')
assert len(clips) == 5 and 'tour_model' in models

# %%
from track4d_ref.presets import load_preset
preset = load_preset('tiny')
clip = open_choice(clips['street'])
clip

# %%
frame_strip(clip); plt.show()


# %% [markdown]
# ## To point
#
# A click is a pixel of a frame. Where the clip has depth, the pixel is lifted to the surface it shows and that point
# is followed: with its object if it lies on one, and resting if it lies on the background. Where there is no depth, or no
# pose, the object whose centre is nearest in the picture is meant. The point then has two tracks: what the picture shows,
# by the camera of each frame (Eq. 1), and what really moves, by the camera of the frame that was clicked (Eq. 2).

# %%
#| export
@dataclass(frozen=True, eq=False)
class Pointed:
    "What a click meant: a thing (0 is the background), its world path (T, 3), and both tracks (T, 2) in pixels."
    object_id: int
    caption: str
    frame: int
    xyz_world_m: np.ndarray
    visual_px: np.ndarray
    true_px: np.ndarray
    seen: np.ndarray            # (T,)

def followed(clip, object_id: int, frame: int, xyz_world_m: np.ndarray) -> Pointed:
    "A path (T, 3) of an object or of the background (0), with its tracks; `frame` is the reference."
    from track4d_ref.tracks import track_points, true_motion_track
    visual = track_points(clip, xyz_world_m[:, None])
    true_px, _ = true_motion_track(clip.view.K, clip.view.w2c, xyz_world_m[:, None], frame)
    caption = clip.object(object_id).caption if object_id else 'the background'
    return Pointed(object_id, caption, frame, xyz_world_m, visual.uv_px[:, 0], true_px[:, 0], visual.visible[:, 0])

def point_at_object(clip, object_id: int, frame: int) -> Pointed:
    "The centre of an object's box, followed; it counts as seen where any of the object is."
    from track4d_ref.dialogues import object_seen
    from track4d_ref.tracks import object_points
    centre = followed(clip, object_id, frame, object_points(clip, object_id, np.zeros((1, 3)))[:, 0])
    return replace(centre, seen=object_seen(clip, clip.object(object_id))[0] > 0)


# %%
#| export
def first_thing(clip) -> Pointed | None:
    "The object that travels furthest, followed from frame 0: something to see before the first click."
    moved_m = {item.id: np.ptp(item.centers_m[item.present], 0).max() for item in clip.objects if item.present.any()}
    return point_at_object(clip, max(moved_m, key=moved_m.get), 0) if moved_m else None

def point_at(clip, frame: int, uv_px) -> Pointed:
    "What a pixel (u, v) of a frame shows, followed through the clip."
    from track4d_ref.cameras import project
    from track4d_ref.tracks import lift_pixel
    uv_px = np.clip(np.asarray(uv_px, float), 0, (clip.view.width - 1e-3, clip.view.height - 1e-3))
    try:
        object_id, _, xyz_world_m = lift_pixel(clip, 0, frame, uv_px)
        return followed(clip, object_id, frame, xyz_world_m)
    except InputError:                                          # no depth, or no pose: the nearest centre is meant
        here = [item for item in clip.objects if item.present[frame]]
        if not here: raise InputError(f'clip {clip.id}: nothing to point at in frame {frame}; choose another frame') from None
        centers_px, depth_m = project(clip.view.K, clip.view.w2c[frame], np.stack([item.centers_m[frame] for item in here]))
        away_px = np.where(depth_m > 0, np.linalg.norm(centers_px - uv_px, axis=1), np.inf)
        return point_at_object(clip, here[int(away_px.argmin())].id, frame)


# %%
thing = clip.objects[0]
rows, columns = np.nonzero(clip.view.instances[4] == thing.id)
middle = len(rows) // 2
pointed = point_at(clip, 4, (columns[middle] + 0.5, rows[middle] + 0.5))
wall = point_at(clip, 4, (20.5, 20.5))
print(pointed.caption, '|', wall.caption)
assert pointed.object_id == thing.id and wall.object_id == 0 and first_thing(clip).caption == 'black car'

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.7))
titles = 'visual: the camera of each frame', f'true motion: the camera of frame {pointed.frame}'
for axis, name, title in zip(axes, ('visual_px', 'true_px'), titles):
    show_frame(axis, clip.view, pointed.frame, title, wash=0.3)
    for point, color in ((pointed, '#0072B2'), (wall, '#D55E00')): draw_tracks(axis, getattr(point, name)[:, None], [color])
plt.show()

# %% [markdown]
# The orange point lies on the background. It slides through the picture on the left and stays a dot on the right. Both tracks
# of a point meet in the pixel that was clicked.

# %%
assert np.allclose(pointed.visual_px[4], (columns[middle] + 0.5, rows[middle] + 0.5))
assert np.allclose(pointed.visual_px[4], pointed.true_px[4])
assert np.ptp(wall.true_px, 0).max() < 1e-6 < 5 < np.nanmax(np.ptp(wall.visual_px, 0))


# %% [markdown]
# ## To draw over a picture
#
# On the page a track is a small SVG over the frame, in the picture's own pixels; so the browser scales it, a click comes back in
# pixels, and scrubbing through time draws nothing anew but lines. A hollow end says that the point is hidden in that frame.

# %%
#| export
def frame_uri(frame: np.ndarray, wash: float = 0.0) -> str:
    "A frame (H, W, 3) uint8, mixed with white by `wash`, as a JPEG that is part of the page."
    from PIL import Image
    from track4d_ref.viz import data_uri
    buffer = io.BytesIO()
    Image.fromarray((frame * (1 - wash) + 255 * wash).astype(np.uint8)).save(buffer, 'JPEG', quality=92)
    return data_uri(buffer.getvalue(), 'image/jpeg')

def track_svg(uv_px: np.ndarray, seen: np.ndarray, frame: int, width: int, color: str) -> str:
    "SVG of a track (T, 2) up to `frame`, pale to full colour; a circle where it is now, hollow if hidden."
    size, lines = width / 140, []
    for at in range(1, frame + 1):
        if not np.isfinite(uv_px[at - 1:at + 1]).all(): continue
        (x1, y1), (x2, y2) = uv_px[at - 1:at + 1]
        where = f'x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke-linecap="round"'
        opacity = 0.35 + 0.65 * at / max(frame, 1)
        lines += [f'<line {where} stroke="white" stroke-width="{1.9 * size:.2f}" opacity="0.8"/>',
                  f'<line {where} stroke="{color}" stroke-width="{1.1 * size:.2f}" opacity="{opacity:.2f}"/>']
    if np.isfinite(uv_px[frame]).all():
        x, y = uv_px[frame]
        fill, edge = (color, 'white') if seen[frame] else ('white', color)
        lines.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{2.1 * size:.2f}" fill="{fill}" stroke="{edge}" stroke-width="{0.7 * size:.2f}"/>')
    return ''.join(lines)


# %%
svg = track_svg(pointed.visual_px, pointed.seen, 10, clip.view.width, '#0072B2')
assert svg.count('<line') == 20 and svg.count('<circle') == 1 and 'nan' not in svg
assert frame_uri(clip.view.frames[0]).startswith('data:image/jpeg;base64,')
assert track_svg(np.full((4, 2), np.nan), np.ones(4, bool), 3, 140, 'red') == ''


# %% [markdown]
# ## To ask
#
# A *talker* takes a clip and a question and returns a reply: words, and a path if the model gave one. An ordinary
# Qwen2.5-VL answers in words; should these hold four timed states (`11a_trajectory_text`), they are read as a path. LMM-Track4D
# returns its path from the decoder, and keeps its state from question to question as long as the clip stays.

# %%
#| export
@dataclass(frozen=True, eq=False)
class Reply:
    "An answer: words, and places (J, 3) in metres in the first camera's frame at times (J,), empty without a path."
    text: str
    times_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    xyz_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))

Talker = Callable[[object, str], Reply]

def words_talker(model, tokenizer, preset) -> Talker:
    "A whole vision-language model or one with adapters, asked afresh each time."
    from track4d_ref.examples import fitted_video
    from track4d_ref.packing import ClipExample, ask_packed
    from track4d_ref.records import VIDEO
    from track4d_ref.templates import prompt_text
    from track4d_ref.trajectory_text import parse_trajectory
    def ask(clip, question: str) -> Reply:
        chosen = np.unique(np.linspace(0, clip.frames_count - 1, preset.frames).round().astype(int))
        video = fitted_video(clip.id, clip.view.frames[chosen], clip.times_s[chosen], preset)
        prompt = {'role': 'user', 'content': f'{VIDEO}\n' + prompt_text(question, (), 'free')}
        text = ask_packed(model, tokenizer, ClipExample(clip.id, (video,), ((prompt,),)), most_words=96)[0].strip()
        path = parse_trajectory(text)
        return Reply(text, path.times_s, path.xyz_m) if path.readable else Reply(text)
    return ask


# %%
#| export
def asked_times_s(clip, question: str, states: int = 4) -> np.ndarray:
    "`states` moments (J,): between two times named in the question ('from 0.5 s to 1.2 s'), or over the whole clip."
    named = [float(text) for text in re.findall(r'(\d+(?:\.\d+)?) ?s\b', question)]
    end_s = float(clip.times_s[-1] - clip.times_s[0])
    first, last = sorted(named[:2]) if len(named) >= 2 else (0.0, end_s)
    return np.round(np.linspace(min(first, end_s), min(last, end_s), states), 2)


# %%
#| export
class Track4DTalker:
    "LMM-Track4D in a dialogue of its own words: the state lives until another clip is asked about."

    def __init__(self, model, preset): self.model, self.preset, self.clip_id = model, preset, None

    def begin(self, clip) -> None:
        "Look at a clip and forget the last one."
        from track4d_ref.dialogue_packing import read_prefix
        from track4d_ref.track4d import see_clip
        from track4d_ref.vlm import layout_of
        side = self.preset.resolution
        self.clip_id, self.turns, self.own, self.last = clip.id, [], [], None
        self.seen, self.state = see_clip(clip, layout_of(self.model.vlm), side), self.model.start(1)
        self.tokens = self.model.see([self.seen])
        self.prefix = read_prefix(self.model, [self.seen], self.tokens)

    def __call__(self, clip, question: str) -> Reply:
        import torch
        from track4d_ref.dialogues import Dialogue, Turn
        from track4d_ref.track4d_asking import Asking, Going
        from track4d_ref.track4d_training import Lesson
        with torch.no_grad():
            if clip.id != self.clip_id: self.begin(clip)
            times_s = asked_times_s(clip, question)
            self.turns.append(Turn('trajectory', question, '', (0, clip.frames_count), times_s, np.zeros((len(times_s), 3))))
            dialogue = Dialogue(clip.id, clip.id, clip.id, clip.source, 0, '', False, (0, clip.frames_count), tuple(self.turns))
            heard = Going(self.model, [Lesson(self.seen, dialogue, {})], len(self.own), Asking('self'), [self.own],
                          self.tokens, self.prefix, self.state).ask(self.last)
        self.own.append(heard.texts[0] or '.')
        self.state, self.last = heard.state, heard.last
        path = heard.paths.get(0)
        return Reply(heard.texts[0].strip(), times_s, path) if path is not None else Reply(heard.texts[0].strip())


# %%
#| export
def load_talker(folder: Path, preset) -> Talker:
    "The talker of a checkpoint folder of any kind."
    from track4d_ref.adapters import load_model
    from track4d_ref.track4d import load_track4d
    if (folder / 'track4d.json').is_file(): return Track4DTalker(load_track4d(folder), preset)
    return words_talker(*load_model(folder), preset)


# %% [markdown]
# What may a person ask? Anything; but a small model knows the phrasings it was trained on. So the page offers questions of the
# generator about this very clip. Their truth is known and shown beside the answer, also when the answer is wrong.

# %%
#| export
TYPES = ('camera_movement', 'object_direction', 'depth', 'camera_object_distance_change')

def suggestions(clip, seed: int = 0) -> dict[str, str]:
    "Questions about the clip in words, one of each type, with their true answers."
    from track4d_ref.presets import load_thresholds
    from track4d_ref.questions import Style, ask_all
    asked = ask_all(clip, np.random.default_rng(seed), TYPES, 1, load_thresholds(clip.source), Style(('free',), ('caption',)))
    return {question.text: question.answer for question in asked}

def named_object(clip, text: str) -> int | None:
    "The id of the one object whose caption stands in a text, or None."
    named = [item.id for item in clip.objects if re.search(rf'\b{re.escape(item.caption)}\b', text, re.I)]
    return named[0] if len(named) == 1 else None


# %%
ask = load_talker(models['tour_model'], preset)
sample = open_choice(clips['clip_000001'])
for question, truth in suggestions(sample).items():
    print(f'{question}\n    model: {ask(sample, question).text}    truth: {truth}')

# %% [markdown]
# Two minutes of training are two minutes of training: it answers, and only the truth beside an answer shows where it is wrong.

# %%
known = suggestions(sample)
assert len(known) >= 3 and ask(sample, next(iter(known))).text
assert named_object(sample, 'Where does the white car go?') == 4 and named_object(sample, 'Where?') is None
assert np.allclose(asked_times_s(clip, 'Where is it from 0.5 s to 1.1 s?'), [0.5, 0.7, 0.9, 1.1])


# %% [markdown]
# ## From above
#
# The trajectory: the path of what was pointed at, in metres over the ground, from the clip's geometry; and, where the model gave a
# path, its places as crosses. Which is which stands in the legend.

# %%
#| export
def plan_figure(clip, frame: int, pointed: Pointed | None = None, reply: Reply | None = None):
    "The clip from above at a frame, what was pointed at, and the model's path."
    import matplotlib.pyplot as plt
    from track4d_ref.cameras import invert_pose, transform
    from track4d_ref.viz import INK, birds_eye, ground_axes, object_colors, use_style
    use_style()
    figure, axis = plt.subplots(figsize=(6.2, 3.6))
    origin_m, axes = ground_axes(clip)
    flat = lambda xyz_world: ((xyz_world - origin_m) @ axes.T).T
    if pointed:
        color = object_colors(clip).get(pointed.object_id, INK)
        axis.plot(*flat(pointed.xyz_world_m), color=color, linewidth=5, alpha=0.35, solid_capstyle='round', label=f'{pointed.caption}: true path')
        axis.scatter(*flat(pointed.xyz_world_m[frame]), s=70, color=color, edgecolors='white', zorder=7)
    if reply is not None and len(reply.xyz_m):
        places = flat(transform(invert_pose(clip.view.w2c[0]), reply.xyz_m))
        axis.plot(*places, color=INK, linewidth=1, linestyle=':', marker='X', markersize=7, zorder=8, label="the model's path")
    birds_eye(axis, clip, frame, names=True)
    if axis.get_legend_handles_labels()[0]: axis.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return figure


# %%
spoken = Reply('Its path is [TRK].', np.linspace(0, 1.8, 4), np.array([[0.5, 0, 5], [1, 0, 5.2], [1.6, 0, 5.4], [2.1, 0, 5.5]]))
plan_figure(clip, 8, pointed, spoken); plt.show()

# %%
handles = plan_figure(clip, 8, pointed, spoken).axes[0].get_legend_handles_labels()[1]
assert handles == [f'{pointed.caption}: true path', "the model's path"]
plt.close('all')

# %% [markdown]
# ## What we proved
#
# * Both tracks of a clicked point meet in the clicked pixel; the background is a dot in true motion.
# * Every checkpoint that is there can be asked, in words; the truth stands beside the answer where it is known.
# * A path is drawn with its origin said: the clip's geometry, or the model.
#
# ## Try it
#
# 1. Point at a wheel of a moving car, then at the road beside it. Which of the two true-motion tracks is a dot, and why?
# 2. Ask how the camera moves in all shipped clips. Where does the model answer rightly?
# 3. Write a talker that always says the same, and count how often it beats the shipped model.
#
# <details><summary>Solutions</summary>
#
# 1. The road's. `lift_pixel` finds instance 0 there, so the point rests in the world; Eq. 2 looks at it with one camera, and one
#    camera sees a resting point in one pixel. The wheel's point moves with the car's pose.
# 2. `for name, folder in clip_choices().items(): clip = open_choice(folder); print(name, ask(clip, 'How does the camera move in this video?').text, suggestions(clip))`.
#    One answer per clip is an anecdote; `00_tour` asks the same of thirty clips.
# 3. `lambda clip, question: Reply('It does not move.')` is a `Talker`. Count `reply.text == truth` over
#    `suggestions(clip).items()` of many simulated clips: this is the blind prior of `09b_blind`.
#
# </details>
