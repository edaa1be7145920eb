# %% [markdown]
# # References
# > Three ways to say which object is meant: its caption, a pixel in a named frame, a circle drawn around it.

# %%
#| default_exp references

# %% [markdown]
# #| export
# Pixels in texts and records are fractions (x, y) = (u / W, v / H) of the picture, three decimals. A reference is a dict
# {object, label, mode, frame, uv} and for circles also {color, radius}; frame is a number in the video as shown.

# %% [markdown]
# * **What** phrases for objects, and the circles drawn for them
# * **Why** a model which only ever hears captions learns names, not places; the paper samples the mode per object
# * **Paper** 4DP-QA §3.2: caption, pixel coordinate, visual prompt (a circle); the drawing rules are **[ours]**
# * **Needs** numpy, `measurements`
# * **Time** 10 seconds
# * **Before this** `08a_measurements`

# %%
#| export
import numpy as np

from track4d_ref.clips import View
from track4d_ref.measurements import Measured

# %%
import matplotlib.pyplot as plt

from track4d_ref.measurements import measure
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip


# %% [markdown]
# ## A pixel that is on the object
#
# The centre of a box may lie on whatever stands in front of it, and the mean of a mask may lie in the hole of a ring. We
# take the pixel *of the mask* that is nearest to the mask's mean: always on the object, and never at its rim unless the
# object is all rim. Without a mask only the projected centre is left.

# %%
#| export
def object_pixel(m: Measured, row: int, frame: int) -> np.ndarray | None:
    "A pixel centre (2,) on an object in one frame: inside its mask, near its middle. None if it is not in the picture."
    view, t = m.view, m.frames[frame]
    if view.instances is None:
        inside = (m.uv_px[row, frame] >= 0).all() and (m.uv_px[row, frame] < (view.width, view.height)).all()
        return m.uv_px[row, frame] if inside and m.depth_m[row, frame] > 0 else None
    pixels = np.argwhere(view.instances[t] == m.clip.objects[row].id)  # (P, 2) rows and columns
    if not len(pixels): return None
    nearest = np.abs(pixels - pixels.mean(0)).sum(1).argmin()
    return pixels[nearest, ::-1] + 0.5

def fraction(uv_px: np.ndarray, view: View) -> tuple[float, float]:
    "A pixel as (x, y) in fractions of the picture, three decimals, round half to even."
    return tuple(round(float(value), 3) for value in np.asarray(uv_px) / (view.width, view.height))

def point_text(xy) -> str:
    "(0.412, 0.587)"
    u, v = (round(float(value), 3) + 0.0 for value in xy)          # + 0.0: no negative zeros
    return f'({u:.3f}, {v:.3f})'


# %%
m = measure(simulate_clip(7, load_preset('tiny')))
figure, axes = plt.subplots(1, 3, figsize=(8.5, 2.9), dpi=78)
for axis, t in zip(axes, (0, 3, len(m.frames) - 1)):
    axis.imshow(m.view.frames[t]); axis.axis('off'); axis.set_title(f'frame {t}', fontsize=9)
    for n, item in enumerate(m.clip.objects):
        uv = object_pixel(m, n, t)
        if uv is not None: axis.plot(*(uv - 0.5), 'w+'); axis.text(*(uv - 4), f'{item.caption}\n{point_text(fraction(uv, m.view))}', fontsize=5.5, color='white', ha='center', va='bottom' if n % 2 else 'top', clip_on=True)
plt.tight_layout(); plt.show()

# %%
for n, item in enumerate(m.clip.objects):
    for t in range(len(m.frames)):
        uv = object_pixel(m, n, t)
        assert (uv is None) == (m.visible_px[n, t] == 0)
        if uv is not None: assert m.view.instances[t][int(uv[1]), int(uv[0])] == item.id
assert point_text((0.0625, 1 / 3)) == '(0.062, 0.333)'      # an exact tie goes to the even digit

# %% [markdown]
# ## A circle nobody can miss
#
# The circle's colour must not occur around it, or a red circle on a red ball says nothing. For each of seven named colours
# we look for the most similar pixel in the neighbourhood, and draw one of the colours for which even that pixel is
# different enough. Two circles in one question get different colours. The drawing goes onto a *copy*: other questions on
# the same clip must not see it.

# %%
#| export
CIRCLE_COLORS = dict(red=(230, 25, 25), green=(30, 200, 40), blue=(30, 70, 240), yellow=(250, 230, 30),
                     magenta=(240, 40, 220), cyan=(30, 220, 230), orange=(250, 140, 20))

def circle_radius_px(m: Measured, row: int, frame: int) -> float:
    "A radius that goes around what is visible of an object: half the diagonal of its extent and a bit, at least 4 px."
    view, pixels = m.view, None
    if view.instances is not None: pixels = np.argwhere(view.instances[m.frames[frame]] == m.clip.objects[row].id)
    extent = np.ptp(pixels, axis=0) + 1 if pixels is not None and len(pixels) else np.full(2, np.sqrt(m.visible_px[row, frame]))
    return max(4.0, 0.55 * float(np.linalg.norm(extent)))

CLEAR = 150  # least difference (sum over R, G, B) from every pixel around for a colour to be eligible

def distinct_color(picture: np.ndarray, uv_px: np.ndarray, radius_px: float, rng: np.random.Generator, taken=()) -> str:
    "A random one of the named colours that nothing around the circle (H, W, 3) resembles; the best one if none is clear."
    reach = int(2 * radius_px + 3)
    column, row = (int(value) for value in uv_px)
    patch = picture[max(0, row - reach):row + reach + 1, max(0, column - reach):column + reach + 1].reshape(-1, 3)
    patch = patch[::max(1, len(patch) // 2000)].astype(float)
    free = [name for name in CIRCLE_COLORS if name not in taken]
    worst = np.array([np.abs(patch - CIRCLE_COLORS[name]).sum(-1).min() for name in free])
    clear = np.flatnonzero(worst >= min(CLEAR, worst.max()))
    return free[int(rng.choice(clear))]


# %%
#| export
def draw_circle(picture: np.ndarray, uv_px: np.ndarray, radius_px: float, color) -> None:
    "Draw a ring into a picture (H, W, 3), in place."
    height, width = picture.shape[:2]
    distance = np.hypot(np.arange(width) + 0.5 - uv_px[0], (np.arange(height) + 0.5 - uv_px[1])[:, None])
    picture[np.abs(distance - radius_px) <= max(0.75, height / 150)] = color

def draw_references(frames: np.ndarray, references) -> np.ndarray:
    "A copy of the frames (T, H, W, 3) of a question with the circles of its references; the same array if there are none."
    circles = [reference for reference in references if reference['mode'] == 'circle']
    if not circles: return frames
    drawn, size = frames.copy(), np.array(frames.shape[2:0:-1])
    for reference in circles:
        draw_circle(drawn[reference['frame']], np.array(reference['uv']) * size, reference['radius'] * size[1],
                    CIRCLE_COLORS[reference['color']])
    return drawn


# %%
rng = np.random.default_rng(0)
uv, radius = object_pixel(m, 0, 0), circle_radius_px(m, 0, 0)
name = distinct_color(m.view.frames[0], uv, radius, rng)
reference = dict(object=1, mode='circle', frame=0, uv=fraction(uv, m.view), color=name, radius=radius / m.view.height)
drawn = draw_references(m.view.frames, [reference])
figure, axes = plt.subplots(1, 3, figsize=(8.5, 2.9), dpi=90)
for axis, picture, title in zip(axes, (m.view.frames[0], drawn[0], drawn[1]), ('frame 0', f'with a {name} circle', 'frame 1: untouched')):
    axis.imshow(picture); axis.axis('off'); axis.set_title(title, fontsize=9)
plt.tight_layout(); plt.show()

# %%
assert (drawn[1:] == m.view.frames[1:]).all() and (drawn[0] != m.view.frames[0]).any() and drawn is not m.view.frames
red = np.full((40, 60, 3), (230, 25, 25), np.uint8)
assert distinct_color(red, np.array([30, 20]), 6, rng) not in ('red', 'orange')
assert distinct_color(red, np.array([30, 20]), 6, rng, taken=('cyan',)) != 'cyan'
assert draw_references(m.view.frames, [dict(mode='caption')]) is m.view.frames

# %% [markdown]
# ## From a row to a phrase
#
# `refer` writes the phrase and the record of a reference. A caption may only be used if no other object of the clip has
# the same one; "the car" among nine cars is no reference. If the wanted mode is impossible, the next one is tried, and
# `None` says that this object cannot be referred to at all.

# %%
#| export
MODES = ('caption', 'pixel', 'circle')

def refer(m: Measured, row: int, frame: int, mode: str, rng: np.random.Generator, taken=()) -> tuple[str, dict] | None:
    "Phrase and record for one object in one frame of the video; None if this mode cannot name it."
    item = m.clip.objects[row]
    record = dict(object=int(item.id), label=item.label, mode=mode, frame=int(frame), uv=None)
    if mode == 'caption':
        unique = sum(other.caption == item.caption for other in m.clip.objects) == 1
        return (f'the {item.caption}', record) if unique else None
    uv_px = object_pixel(m, row, frame)
    if uv_px is None: return None
    record['uv'] = list(fraction(uv_px, m.view))
    if mode == 'pixel': return f'the object at {point_text(record["uv"])} in frame {frame}', record
    if m.view.frames is None or not m.view.frame_valid[m.frames[frame]]: return None
    radius_px = circle_radius_px(m, row, frame)
    color = distinct_color(m.view.frames[m.frames[frame]], uv_px, radius_px, rng, taken)
    record.update(color=color, radius=round(radius_px / m.view.height, 4))
    return f'the object in the {color} circle in frame {frame}', record

def refer_somehow(m: Measured, row: int, frame: int, modes, rng: np.random.Generator, taken=()) -> tuple[str, dict] | None:
    "`refer` in a random one of the modes that can name this object."
    for mode in rng.permutation(list(modes)):
        found = refer(m, row, frame, str(mode), rng, taken)
        if found: return found
    return None


# %%
for mode in MODES: print(refer(m, 0, 2, mode, rng))

# %%
phrases = {mode: refer(m, 0, 2, mode, rng)[0] for mode in MODES}
assert phrases['caption'] == f'the {m.clip.objects[0].caption}' and ' circle in frame 2' in phrases['circle']
assert refer(m, 0, 2, 'circle', rng)[1]['color'] in CIRCLE_COLORS
assert refer_somehow(m, 0, 2, ('caption',), rng) == refer(m, 0, 2, 'caption', rng)

# %% [markdown]
# Which colours come up? All seven should have their turn, or a model would learn that "magenta" means "the asked object".
# Always taking the most different colour was our first version, and on these pictures it never chose orange.

# %%
from collections import Counter
from track4d_ref.simulator import simulate_clips
colors = Counter(distinct_color(m.view.frames[0], uv, 8, rng) for m in map(measure, simulate_clips(40, 2, load_preset('tiny')))
                 for n in range(len(m.clip.objects)) if (uv := object_pixel(m, n, 0)) is not None)
figure, axis = plt.subplots(figsize=(5, 2), dpi=90)
axis.bar(list(colors), list(colors.values()), color=[np.array(CIRCLE_COLORS[name]) / 255 for name in colors])
axis.set(ylabel='objects'); plt.tight_layout(); plt.show()

# %%
assert set(colors) == set(CIRCLE_COLORS)

# %% [markdown]
# ## What we proved
#
# * The pixel of a reference is always on the visible part of its object.
# * Circles go onto copies, in a colour that the neighbourhood lacks, and two circles never share a colour.
# * A caption that fits two objects is refused.
#
# ## Try it
#
# 1. Refer by a box instead of a circle. What changes for thin objects?
# 2. Make `distinct_color` work for a reader who cannot tell red from green.
#
# <details><summary>Solutions</summary>
#
# 1. A thin object fills little of its box, so the box points at the background as well. Measure the share of pixels
#    in the mark that belong to the object, and refuse below a threshold.
# 2. Compare colours in a space that models the deficiency (drop the red-green axis of Lab) and ask for the same
#    distance there. Some pairs of captions then count as equal, and another way to refer must be used.
#
# </details>
