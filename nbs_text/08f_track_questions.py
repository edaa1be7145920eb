# %% [markdown]
# # Track questions
# > Where a point goes: visual and true-motion tracking as text, question types 12 and 13 of 4DP-QA.

# %%
#| default_exp track_questions

# %% [markdown]
# #| export
# Coordinates are fractions (x, y) = (u / W, v / H) with three decimals. "Visible" always means: seen by the camera of that
# frame, for both kinds of track.

# %% [markdown]
# * **What** choosing a query point and target frames, and a grammar for trajectories that can be written and parsed
# * **Why** replacing a fifth of the questions by true-motion tracking is what helped most on unseen benchmarks
# * **Paper** 4DP-QA §3.3, Eq. 1 and 2; normalised to three decimals, occlusion flag, frames in random order
# * **Needs** numpy, `tracks`, `measurements`, `references`
# * **Time** 15 seconds
# * **Before this** `05_tracks`, `08e_references`

# %%
#| export
import re
from dataclasses import dataclass

import numpy as np

from track4d_ref.measurements import Measured
from track4d_ref.presets import Thresholds
from track4d_ref.references import point_text
from track4d_ref.storage import InputError
from track4d_ref.tracks import lift_pixels, track_points

# %%
import matplotlib.pyplot as plt

from track4d_ref.measurements import measure
from track4d_ref.presets import load_preset, load_thresholds
from track4d_ref.simulator import simulate_clip, simulate_clips

# %% [markdown]
# ## The grammar of a trajectory
#
# One entry per target frame: `frame 17: (0.412, 0.587) visible; frame 3: (0.401, 0.560) occluded`. The writer rounds once,
# half to even. The parser accepts exactly what the writer writes and raises on everything else; a lenient reading of what
# a model *said* belongs to the scoring, not here.

# %%
#| export
TRACK_POINT = re.compile(r'frame (\d+): \(([01]\.\d{3}), ([01]\.\d{3})\) (visible|occluded)')

def write_track(frames, xy: np.ndarray, visible) -> str:
    "Frames (K,), points (K, 2) as fractions in [0, 1] and flags (K,) as text."
    xy = np.asarray(xy, float).reshape(-1, 2)
    if not ((xy >= 0) & (xy <= 1)).all(): raise InputError('a track may only hold points inside the picture, from 0 to 1')
    return '; '.join(f'frame {int(frame)}: {point_text(point)} {"visible" if seen else "occluded"}'
                     for frame, point, seen in zip(frames, xy, visible, strict=True))

def parse_track(text: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    "The inverse of `write_track`: frames, points (K, 2), flags (K,). Anything else is an InputError."
    entries = [TRACK_POINT.fullmatch(part) for part in text.split('; ')]
    if not all(entries): raise InputError(f"not a track: {text[:60]!r}; expected 'frame 3: (0.412, 0.587) visible; …'")
    xy = np.array([[float(entry[2]), float(entry[3])] for entry in entries])
    if (xy > 1).any(): raise InputError(f'not a track: {text[:60]!r} has a coordinate above 1')
    return [int(entry[1]) for entry in entries], xy, np.array([entry[4] == 'visible' for entry in entries])


# %%
text = write_track([17, 3], [(0.4123, 0.5871), (0.0625, 0.56)], [True, False])
text

# %%
assert text == 'frame 17: (0.412, 0.587) visible; frame 3: (0.062, 0.560) occluded'
frames, xy, visible = parse_track(text)
assert write_track(frames, xy, visible) == text
for bad in ('', 'frame 3: (0.4, 0.5) visible', text + ';', text.replace('; ', ', '), 'frame 3: (1.001, 0.500) visible'):
    try: parse_track(bad)
    except InputError: continue
    raise AssertionError(bad)

# %% [markdown]
# ## A point worth asking about
#
# The query pixel lies on an object, or now and then on the background, whose true-motion track is a single spot and
# teaches that standing still is an answer. Its four neighbours must belong to the same thing: a pixel at the rim may
# belong to either side after rounding. Clips without depth cannot lift a pixel; there the centre of an object is tracked.

# %%
#| export
BACKGROUND_SHARE = 0.2  # how often the point is not on an object

def _inner_pixel(instances: np.ndarray, depth_m: np.ndarray, id: int, rng: np.random.Generator) -> np.ndarray | None:
    "A random pixel centre (2,) of an object or (id 0) of the background, away from the rim and with a depth."
    same = instances == id
    inner = same[1:-1, 1:-1] & same[:-2, 1:-1] & same[2:, 1:-1] & same[1:-1, :-2] & same[1:-1, 2:]
    known = (depth_m > 0) & np.isfinite(depth_m)
    choices = np.flatnonzero(inner & known[1:-1, 1:-1])
    if not len(choices): return None
    row, column = np.divmod(rng.choice(choices), inner.shape[1])
    return np.array([column, row]) + 1.5

def query_point(m: Measured, cuts: Thresholds, reference: int, rng: np.random.Generator) -> tuple[int, np.ndarray] | None:
    "Row of the object (-1 for the background) and world track (T, 3) over the whole clip of a random point; None without one."
    view, frame = m.view, m.frames[reference]
    rows = np.flatnonzero(m.present.all(1) & m.seen(cuts.min_visible_px)[:, reference])
    if view.depth_m is None or view.instances is None:
        if not len(rows): return None
        row = int(rng.choice(rows))
        return row, m.clip.objects[row].centers_m
    row = -1 if not len(rows) or rng.random() < BACKGROUND_SHARE else int(rng.choice(rows))
    id = 0 if row < 0 else m.clip.objects[row].id
    uv_px = _inner_pixel(view.instances[frame], view.depth_m[frame], id, rng)
    if uv_px is None: return None
    track_m = lift_pixels(m.clip, m.view_index, int(frame), uv_px[None])[2][:, 0]
    return (row, track_m) if np.isfinite(track_m).all() else None


# %%
preset, cuts, rng = load_preset('tiny'), load_thresholds('simulator'), np.random.default_rng(1)
m = measure(simulate_clip(4, preset))
figure, axis = plt.subplots(figsize=(3.4, 3.2), dpi=90)
axis.imshow(m.view.frames[0]); axis.axis('off')
for _ in range(60):
    row, track_m = query_point(m, cuts, 0, rng)
    uv = track_points(m.clip, track_m[:, None], m.view_index).uv_px[0, 0]
    axis.plot(*(uv - 0.5), 'o', markersize=3, color='white' if row < 0 else plt.cm.tab10(row), markeredgecolor='k', markeredgewidth=0.4)
axis.set_title('sixty query points; white: background', fontsize=9); plt.show()

# %%
for _ in range(30):
    row, track_m = query_point(m, cuts, 0, rng)
    column, line = np.floor(track_points(m.clip, track_m[:, None], m.view_index).uv_px[0, 0]).astype(int)
    assert m.view.instances[0][line, column] == (0 if row < 0 else m.clip.objects[row].id)


# %% [markdown]
# ## A track to ask for
#
# The answer's frames come in random order, so that a model cannot simply continue the line it has begun. A target that
# falls outside the picture, or behind the reference camera, is dropped and never clipped to the border **[ours]**: a
# coordinate in an answer is always a true one. With fewer than two targets left there is no question.

# %%
#| export
@dataclass(frozen=True)
class TrackTarget:
    "A query point and where it goes; frames are numbers in the video as shown."
    row: int              # of the object, -1 for the background
    reference: int        # the frame of the query
    query: tuple          # (x, y) in that frame
    frames: tuple         # target frames in the order of the answer
    xy: np.ndarray        # (K, 2) fractions
    visible: np.ndarray   # (K,) bool: seen in that frame by its own camera

    @property
    def answer(self) -> str: return write_track(self.frames, self.xy, self.visible)

LEAST_TARGETS, MOST_TARGETS = 2, 6  # frames in one answer


# %%
#| export
def track_target(m: Measured, cuts: Thresholds, rng: np.random.Generator, true_motion: bool) -> TrackTarget | None:
    "A random point and its visual (Eq. 1) or true-motion (Eq. 2) track over a few frames; None if it cannot be had."
    reference = int(rng.integers(len(m.frames)))
    found = query_point(m, cuts, reference, rng)
    if found is None: return None
    row, track_m = found
    clip_reference = int(m.frames[reference])
    track = track_points(m.clip, track_m[:, None], m.view_index, clip_reference if true_motion else None)
    inside, size = track.in_frame[m.frames, 0], np.array([m.view.width, m.view.height])
    if not inside[reference]: return None
    targets = np.flatnonzero(inside & (np.arange(len(m.frames)) != reference))
    if len(targets) < LEAST_TARGETS: return None
    targets = rng.permutation(targets)[:int(rng.integers(LEAST_TARGETS, MOST_TARGETS + 1))]
    xy = track.uv_px[m.frames, 0] / size
    return TrackTarget(row, reference, tuple(xy[reference].round(3).tolist()), tuple(int(t) for t in targets), xy[targets],
                       track.visible[m.frames, 0][targets])


# %%
target = next(target for _ in range(50) if (target := track_target(m, cuts, rng, True)) and target.row >= 0)
print(f'query {target.query} in frame {target.reference} on the {m.clip.objects[target.row].caption}\n{target.answer}')

# %% [markdown]
# The picture puts both kinds of answer side by side: on the left each point in the picture of its own frame, on the right
# all of them through the reference camera. For a point on the background the right-hand track is one spot.

# %%
size = np.array([m.view.width, m.view.height])
figure, axes = plt.subplots(1, 2, figsize=(6.4, 3), dpi=80)
for axis, true_motion, title in zip(axes, (False, True), ('visual: in its own frame', 'true motion: through frame 0')):
    axis.imshow(m.view.frames[0]); axis.axis('off'); axis.set_title(title, fontsize=9)
    draw = np.random.default_rng(3)
    for _ in range(12):
        row, track_m = query_point(m, cuts, 0, draw)
        track = track_points(m.clip, track_m[:, None], m.view_index, 0 if true_motion else None)
        uv = track.uv_px[:, 0]
        axis.plot(*(uv[track.in_frame[:, 0]] - 0.5).T, '.-', color='white' if row < 0 else plt.cm.tab10(row), linewidth=1, markersize=3)
axes[0].set(xlim=(0, size[0]), ylim=(size[1], 0)); axes[1].set(xlim=(0, size[0]), ylim=(size[1], 0))
plt.tight_layout(); plt.show()

# %%
clips = [measure(clip) for clip in simulate_clips(20, 9, preset)]
targets = [(m, target) for m in clips for true_motion in (True, False) if (target := track_target(m, cuts, rng, true_motion))]
for m, target in targets:
    assert LEAST_TARGETS <= len(target.frames) <= MOST_TARGETS and target.reference not in target.frames
    assert ((0 <= target.xy) & (target.xy < 1)).all()
    frames, xy, visible = parse_track(target.answer)
    assert frames == list(target.frames) and (visible == target.visible).all() and np.abs(xy - target.xy).max() <= 0.0005 + 1e-12
assert any(list(target.frames) != sorted(target.frames) for _, target in targets)

# %% [markdown]
# ## How much is lost by three decimals
#
# Half a thousandth of the picture is 0.22 px at 448 px, below anything the scores can see. The picture confirms it on the
# tracks above.

# %%
error_px = np.concatenate([(parse_track(target.answer)[1] - target.xy).ravel() * 448 for _, target in targets])
figure, axis = plt.subplots(figsize=(4.5, 2), dpi=90)
axis.hist(error_px, bins=30, color='#0072B2'); axis.set(xlabel='rounding error at 448 px (px)', ylabel='coordinates'); plt.tight_layout(); plt.show()

# %%
assert np.abs(error_px).max() <= 0.225

# %% [markdown]
# ## What we proved
#
# * Writer and parser are inverse, and the parser refuses everything else.
# * Query points lie on what the question says they lie on; targets are inside the picture and in random order.
# * Rounding to three decimals costs less than a quarter of a pixel.
#
# ## Try it
#
# 1. Write the parser that a score needs: it should accept `Frame 3 - 0.41,0.59 (visible)`. What else did models say?
# 2. Ask for tracks of two points in one question. How must the grammar grow?
#
# <details><summary>Solutions</summary>
#
# 1. Lower-case, strip the prefix up to the colon or dash, accept any separator between two decimals, read 'occluded',
#    'not visible', 'hidden' as flags. Write the table of strings first; then the parser.
# 2. One line per frame with a list, or one block per point. The second keeps the old grammar and is safer: a parser
#    can tell which point is unreadable.
#
# </details>
