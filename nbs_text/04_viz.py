# %% [markdown]
# # Pictures
# > Every picture of the book: overlays, depth, the view from above, and the pair that tells the papers' story.

# %%
#| default_exp viz

# %% [markdown]
# #| export
# Colours say what, lightness says when: an object keeps one hue, its track runs from pale to full colour.
# Pictures have the extent (0, W, H, 0), so axis coordinates are pixel coordinates (u, v) as in `cameras`.

# %% [markdown]
# * **What** small drawing functions on matplotlib axes, each for one kind of truth a clip holds
# * **Why** a wrong pose is a number nobody reads, and a picture everybody sees
# * **Paper** the visual language of 4DP-QA's Figures 1 and 2; palette and layout are **[ours]**
# * **Needs** matplotlib, `cameras`, `clips`, `simulator`
# * **Time** 30 seconds
# * **Before this** `01_cameras`, `02_clips`, `03i_simulator`

# %%
#| export
import base64
import io
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from html import escape
from PIL import Image
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from track4d_ref.cameras import camera_center, project, transform, unproject
from track4d_ref.clips import Clip, SceneObject, View

# %%
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip

# %% [markdown]
# ## One palette, one style
#
# Eight hues, in an order that stays apart for red–green blind eyes (about one man in twelve). Hue is reserved for
# *which object*. Time gets a ramp of its own, dark violet to yellow, and along a coloured track it is told by lightness:
# pale is early, full is late.

# %%
#| export
PALETTE = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#882255', '#5C4A00')
INK, MUTED, PAPER = '#22252B', '#7B828D', '#F4F4F1'
CREDITS = {'kitti': 'Images and labels: KITTI (Geiger et al.), CC BY-NC-SA 3.0',
           'adt': 'Images and poses: Aria Digital Twin (Meta), research licence'}

def use_style() -> None:
    "Set the look of all figures: one type size, no frame lines without a job, titles at the left."
    matplotlib.rcParams.update({
        'figure.dpi': 90, 'figure.constrained_layout.use': True, 'font.size': 9, 'text.color': INK,
        'axes.titlesize': 10, 'axes.titlelocation': 'left', 'axes.titleweight': 'bold',
        'axes.titlecolor': INK, 'axes.labelcolor': INK,
        'axes.edgecolor': MUTED, 'xtick.color': MUTED, 'ytick.color': MUTED,
        'axes.spines.top': False, 'axes.spines.right': False, 'axes.linewidth': 0.8,
        'axes.grid': False, 'grid.alpha': 0.3, 'xtick.labelsize': 8, 'ytick.labelsize': 8,
        'legend.frameon': False, 'legend.fontsize': 8, 'lines.linewidth': 1.8,
        'axes.prop_cycle': matplotlib.cycler(color=PALETTE)})

def object_colors(clip: Clip) -> dict[int, str]:
    "One colour per object id; the palette starts again after its last colour."
    return {item.id: PALETTE[index % len(PALETTE)] for index, item in enumerate(clip.objects)}

def time_colors(count: int) -> np.ndarray:
    "The time ramp: `count` RGBA colours (T, 4) from dark violet (first) to yellow (last)."
    return matplotlib.colormaps['plasma'](np.linspace(0.05, 0.92, count))

def fade(color, amount: np.ndarray | float) -> np.ndarray:
    "Mix a colour with white: 0 leaves it, 1 is white; (..., 3)."
    amount = np.asarray(amount)[..., None]
    return np.array(to_rgb(color)) * (1 - amount) + amount


# %% [markdown]
# What a person without green cones sees can be computed: one matrix on linear RGB (Viénot, Brettel and Mollon 1999). The
# smallest distance between two of our colours must stay clear of zero under it.

# %%
NO_GREEN = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])

def without_green(rgb): return (rgb ** 2.2 @ NO_GREEN.T).clip(0, 1) ** (1 / 2.2)

def smallest_distance(rgb):
    distance = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1)
    return distance[~np.eye(len(rgb), dtype=bool)].min()


# %%
use_style()
hues = np.array([to_rgb(color) for color in PALETTE])
tracks = np.stack([fade(color, np.linspace(0.6, 0, 60)) for color in PALETTE[:3]])
rows = [('palette', hues), ('without green cones', without_green(hues)), ('time', time_colors(60)[:, :3]),
        *zip(('object 1 over time', 'object 2 over time', 'object 3 over time'), tracks)]
figure, axes = plt.subplots(len(rows), 1, figsize=(6.4, 2.2))
for axis, (name, colors) in zip(axes, rows):
    axis.imshow(colors[None], aspect='auto', interpolation='nearest')
    axis.set_ylabel(name, rotation=0, ha='right', va='center', fontsize=8)
    axis.set(xticks=[], yticks=[]); axis.spines[:].set_visible(False)
plt.show()

# %%
print(f'smallest distance: {smallest_distance(hues):.2f} to all eyes, {smallest_distance(without_green(hues)):.2f} without green cones')
assert smallest_distance(hues) > 0.2 and smallest_distance(without_green(hues)) > 0.2
red_and_olive = np.array([to_rgb('#d62728'), to_rgb('#6e7b00')])
assert smallest_distance(red_and_olive) > 0.5 and smallest_distance(without_green(red_and_olive)) < 0.05    # refused
assert (np.diff(time_colors(9)[:, :3] @ (0.2, 0.7, 0.1)) > 0).all()                                   # time only gets lighter


# %% [markdown]
# ## One frame, four ways
#
# A clip knows more than its pixels: which object owns each pixel, how far away it is, and where each object's box lies.
# These functions draw one kind of truth each. Axis coordinates are pixel coordinates, so a projected point can be
# plotted as it is: `imshow` gets the extent (0, W, H, 0), which puts the first pixel's centre at (½, ½).

# %%
#| export
def picture_axis(axis: Axes, height: int, width: int, title: str = '') -> Axes:
    "Prepare an axis for drawing in pixel coordinates: row 0 on top, no ticks."
    axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect='equal', title=title)
    axis.spines[:].set_visible(False)
    return axis

def show_image(axis: Axes, image: np.ndarray, title: str = '') -> Axes:
    "Draw any image (H, W, 3) in pixel coordinates."
    height, width = image.shape[:2]
    picture_axis(axis, height, width, title)
    axis.imshow(image, extent=(0, width, height, 0), interpolation='antialiased')
    return axis

def show_frame(axis: Axes, view: View, frame: int, title: str = '', wash: float = 0.0) -> Axes:
    "Draw one frame, mixed with white by `wash`; a sheet of paper where the clip has no image."
    if view.frames is not None and view.frame_valid[frame]:
        return show_image(axis, view.frames[frame] / 255.0 * (1 - wash) + wash, title)
    picture_axis(axis, view.height, view.width, title)
    axis.add_patch(plt.Rectangle((0, 0), view.width, view.height, color=PAPER, zorder=0))
    return axis


# %%
#| export
def tint_instances(frame: np.ndarray, instances: np.ndarray, colors: dict[int, str]) -> np.ndarray:
    "A frame (H, W, 3) uint8 whose objects wear their colours; the background turns pale grey."
    light = frame.mean(-1, keepdims=True) / 255  # (H, W, 1)
    image = np.repeat(0.45 + 0.5 * light, 3, -1)
    for number, color in colors.items():
        mask = instances == number
        image[mask] = (np.array(to_rgb(color)) * (0.55 + 0.9 * light[mask])).clip(0, 1)
    return (image * 255).round().astype(np.uint8)

def depth_to_rgb(depth_m: np.ndarray, near_m: float | None = None, far_m: float | None = None) -> np.ndarray:
    "Depth (H, W) as colours (H, W, 3) uint8: near is yellow, far is violet, logarithmic; no depth is white."
    known = np.isfinite(depth_m) & (depth_m > 0)
    values = depth_m[known] if known.any() else np.ones(1)
    near_m, far_m = near_m or np.percentile(values, 1), far_m or np.percentile(values, 99)
    ratio = np.log(np.where(known, depth_m, near_m) / near_m) / max(np.log(far_m / near_m), 1e-9)
    image = matplotlib.colormaps['viridis'](1 - ratio.clip(0, 1))[..., :3]
    return (np.where(known[..., None], image, 1.0) * 255).round().astype(np.uint8)


# %%
#| export
HALO = withStroke(linewidth=2.6, foreground='white', alpha=0.85)
BOX_EDGES = np.array([(corner, corner | bit) for corner in range(8) for bit in (1, 2, 4) if not corner & bit])

def draw_box(axis: Axes, view: View, item: SceneObject, frame: int, color: str, label: str = '') -> Axes:
    "The 3D box of an object in a frame, its front face thicker; nothing if part of it is behind the camera."
    corners_m = transform(item.world_from_object[frame], item.corners_object_m)  # (8, 3)
    uv_px, depth_m = project(view.K, view.w2c[frame], corners_m)
    if not item.present[frame] or (depth_m < 0.05).any(): return axis
    widths = [2.2 if first & last & 4 else 1.0 for first, last in BOX_EDGES]
    for style in ({'colors': 'white', 'linewidths': np.array(widths) + 1.4, 'alpha': 0.6},
                  {'colors': color, 'linewidths': widths}):
        axis.add_collection(LineCollection(uv_px[BOX_EDGES], zorder=4, capstyle='round', **style))
    if label: tag(axis, (uv_px[:, 0].mean(), uv_px[:, 1].min() - 3), label, color)
    return axis

def tag(axis: Axes, uv_px, text: str, color: str = INK, **options) -> None:
    "A small label centred above a pixel, readable on any picture."
    look = {'color': color, 'fontsize': 8, 'fontweight': 'bold', 'ha': 'center', 'va': 'bottom',
            'path_effects': [HALO], 'clip_on': True, 'zorder': 8}
    axis.text(*uv_px, text, **(look | options))


# %% [markdown]
# Our guinea pig: three objects, seen by a camera that moves and turns. The first follows a curve, the second stands
# still, the third goes straight.

# %%
preset = load_preset('tiny')
clip = simulate_clip(7, preset, 6, domain='open', camera_program='right+pan_left', height=150, width=220,
                     object_programs=('curved', 'static', 'straight'))
view, colors = clip.view, object_colors(clip)
clip

# %%
figure, axes = plt.subplots(2, 2, figsize=(4.4, 3.3))
show_frame(axes[0, 0], view, 5, 'frame')
show_image(axes[0, 1], tint_instances(view.frames[5], view.instances[5], colors), 'instances')
show_image(axes[1, 0], depth_to_rgb(view.depth_m[5]), 'depth: near is yellow')
show_frame(axes[1, 1], view, 5, 'boxes: the front is thick', wash=0.4)
for item in clip.objects: draw_box(axes[1, 1], view, item, 5, colors[item.id])
plt.show()

# %% [markdown]
# A picture is only worth something if it is in the right place. The dot of a projected object centre must fall on that
# object's pixels, and the colour of nearer ground must be the brighter one.

# %%
uv_px, _ = project(view.K, view.w2c[5], np.stack([item.centers_m[5] for item in clip.objects]))
for item, (u, v) in zip(clip.objects, uv_px): assert view.instances[5, int(v), int(u)] == item.id
coloured = depth_to_rgb(view.depth_m[5])
assert coloured[-1].mean() > coloured[70].mean() and (coloured[~np.isfinite(view.depth_m[5])] == 255).all()
tinted = tint_instances(view.frames[5], view.instances[5], colors)
assert np.ptp(tinted[view.instances[5] == 0].astype(int), axis=-1).max() == 0      # the background has no colour left


# %% [markdown]
# ## Tracks
#
# A track is a line through time. `draw_tracks` breaks it where a point is not shown, puts a small dot at each frame and
# a large one at the end. The colour `'time'` uses the time ramp, for pictures with one object only.

# %%
#| export
def draw_tracks(axis: Axes, uv_px: np.ndarray, colors, shown: np.ndarray | None = None,
                width: float = 2.0) -> Axes:
    """Tracks (T, N, 2), pale to full colour over time; `colors` is one or N colours, or 'time'.

    Frames that are not `shown` (T, N) or hold NaN leave gaps.
    """
    shown = np.isfinite(uv_px).all(-1) & (True if shown is None else shown)
    if not shown.any(): return axis
    colors = [colors] * uv_px.shape[1] if isinstance(colors, str) else list(colors)
    ramps = _ramps(colors, len(uv_px))[shown.any(0)]  # (N, T, 3)
    tracks, seen = (array[:, shown.any(0)].swapaxes(0, 1) for array in (uv_px, shown))  # (N, T, 2), (N, T)
    pairs = seen[:, :-1] & seen[:, 1:]
    segments = np.stack([tracks[:, :-1], tracks[:, 1:]], 2)[pairs]  # (segments, 2, 2)
    for style in ({'colors': 'white', 'linewidths': width + 1.6, 'alpha': 0.7, 'zorder': 3},
                  {'colors': ramps[:, 1:][pairs], 'linewidths': width, 'zorder': 4}):
        axis.add_collection(LineCollection(segments, capstyle='round', **style))
    axis.scatter(*tracks[seen].T, c=ramps[seen], s=(1.3 * width) ** 2, linewidths=0, zorder=5)
    last = np.arange(len(seen)), seen.shape[1] - 1 - seen[:, ::-1].argmax(1)
    ends = {'s': (3 * width) ** 2, 'edgecolors': 'white', 'linewidths': 0.5 * width}
    timed = np.array([color == 'time' for color in colors])[shown.any(0), None]
    axis.scatter(*tracks[last].T, c=np.where(timed, ramps[last], ramps[:, -1]), zorder=6, **ends)
    return axis

def _ramps(colors: list, frames_count: int) -> np.ndarray:
    "The colours (N, T, 3) of tracks over time."
    age = np.linspace(0.0, 0.6, frames_count)[::-1]
    by_time = time_colors(frames_count)[:, :3]
    return np.stack([by_time if color == 'time' else fade(color, age) for color in colors])


# %%
centers_m = np.stack([item.centers_m for item in clip.objects], 1)                # (T, N, 3)
visual_uv_px, _ = project(view.K, view.w2c, centers_m)                            # every frame's own camera
true_uv_px, _ = project(view.K, view.w2c[0], centers_m)                           # the first frame's camera
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.7))
draw_tracks(show_frame(axes[0], view, 0, 'one colour per object', wash=0.3), visual_uv_px, list(colors.values()))
hidden = np.ones(visual_uv_px.shape[:2], bool); hidden[3:5] = False
draw_tracks(show_frame(axes[1], view, 0, 'the time ramp, two frames hidden', wash=0.3), visual_uv_px, 'time', hidden)
plt.show()

# %%
lines = [item for item in axes[0].collections if isinstance(item, LineCollection)]
assert np.allclose(lines[1].get_segments()[0], visual_uv_px[:2, 0])
gaps = [item for item in axes[1].collections if isinstance(item, LineCollection)]
assert len(lines[1].get_segments()) - len(gaps[1].get_segments()) == 3 * 3    # two hidden frames break three steps of three tracks
colors_over_time = lines[1].get_colors()[:len(visual_uv_px) - 1, :3]
assert (np.diff(colors_over_time.sum(1)) < 0).all()                                 # pale first, full colour last


# %% [markdown]
# ## From above
#
# In the picture a camera that turns and an object that walks look alike. From above they do not. `birds_eye` lays the
# first camera at the origin, looking up the page: cones are the camera over time (violet first, yellow last), shapes are
# footprints at one frame with a stroke towards the front, lines are whole paths.

# %%
#| export
def ground_axes(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    "For the view from above: the first camera's place (3,) and the axes (2, 3) to its right and ahead."
    rotation = clip.view.w2c[0, :3, :3]
    ahead = rotation[2] - clip.up * (rotation[2] @ clip.up)
    if np.linalg.norm(ahead) < 1e-6: ahead = -rotation[1]  # looking straight down: ahead is the picture's top
    ahead = ahead / np.linalg.norm(ahead)
    return camera_center(clip.view.w2c[0]), np.stack([np.cross(ahead, clip.up), ahead])

def birds_eye(axis: Axes, clip: Clip, frame: int = 0, ids=None, cone_m: float | None = None, names: bool = False) -> Axes:
    "The clip from above: footprints at `frame`, all paths, the first view's cameras as cones `cone_m` long; captions if `names`."
    origin_m, axes = ground_axes(clip)
    def flat(xyz): return (xyz - origin_m) @ axes.T
    colors = object_colors(clip)
    for item in clip.objects:
        if (ids is not None and item.id not in ids) or not item.present.any(): continue
        axis.plot(*flat(item.centers_m[item.present]).T, color=colors[item.id], linewidth=1.2, zorder=3)
        shown = frame if item.present[frame] else int(item.present.argmax())
        corners_m = transform(item.world_from_object[shown], item.corners_object_m)
        _footprint(axis, flat(corners_m), colors[item.id])
        if names: axis.annotate(item.caption, flat(corners_m).max(0), (3, 0), textcoords='offset points', color=colors[item.id], fontsize=8)
    reach_m = np.ptp(np.concatenate([axis.dataLim.get_points(), [[0, 0]]]), axis=0).max()
    _camera_cones(axis, clip.view, flat, cone_m or 0.12 * reach_m)
    axis.set(xlabel='right (m)', ylabel='ahead (m)', aspect='equal')
    axis.margins(0.06)
    return axis


# %% [markdown]
# A footprint is the shadow of all six faces of the box, so it is right for a box that tumbles, too. Cones are drawn for
# at most six moments; more would hide each other.

# %%
#| export
def _footprint(axis: Axes, corners: np.ndarray, color: str) -> None:
    faces = [[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]]
    shadow = {'facecolors': [fade(color, 0.55)], 'edgecolors': 'none', 'zorder': 2}
    axis.add_collection(PolyCollection(corners[np.array(faces)], **shadow))
    to_front = np.stack([corners.mean(0), corners[4:].mean(0)])
    axis.plot(*to_front.T, color=color, linewidth=2, zorder=4, solid_capstyle='round')

def _camera_cones(axis: Axes, view: View, flat, cone_m: float) -> None:
    ramp, centers = time_colors(len(view.w2c)), flat(camera_center(view.w2c))
    axis.plot(*centers.T, color=MUTED, linewidth=0.8, zorder=4)
    sides = np.array([[0.0, view.K[1, 2]], [view.width, view.K[1, 2]]])
    for frame in np.unique(np.linspace(0, len(ramp) - 1, 6).round().astype(int)):
        rim = flat(unproject(view.K, view.w2c[frame], sides, np.full(2, cone_m)))
        cone, color = np.stack([centers[frame], *rim]), ramp[frame]
        axis.fill(*cone.T, facecolor=(*color[:3], 0.35), edgecolor=color, linewidth=1.2, zorder=5)


# %%
figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.9), width_ratios=(1.5, 1))
show_frame(axes[0], view, 0, 'what the first camera sees', wash=0.2)
for item in clip.objects: draw_box(axes[0], view, item, 0, colors[item.id], item.caption)
birds_eye(axes[1], clip, names=True).set_title('the same from above')
plt.show()

# %%
origin_m, axes_world = ground_axes(clip)
assert np.allclose(axes_world @ axes_world.T, np.eye(2)) and np.allclose(axes_world @ clip.up, 0)
on_ground = (centers_m[0] - origin_m) @ axes_world.T
left_to_right = project(view.K, view.w2c[0], centers_m[0])[0][:, 0]
assert (np.argsort(left_to_right) == np.argsort(on_ground[:, 0] / on_ground[:, 1])).all()   # bearings keep their order
assert (on_ground[:, 1] > 0).all()


# %% [markdown]
# ## Strips and pairs
#
# `frame_strip` shows a clip at a glance. `motion_pair` is the picture this whole project turns around, 4DP-QA's Figure 2:
# the same points, once through every frame's own camera, once through a single one. The object that stands still
# (orange) moves in the left picture only. The arithmetic is the next notebook's; here it is two lines.

# %%
#| export
def frame_strip(clip: Clip, frames=None, view_index: int = 0, width_in: float = 8.0, draw=None) -> Figure:
    "Frames side by side with their times (four unless told); `draw(axis, frame)` may add to each."
    view = clip.views[view_index]
    if frames is None: frames = np.unique(np.linspace(0, clip.frames_count - 1, 4).round().astype(int))
    height_in = width_in / len(frames) * view.height / view.width + 0.3
    figure, axes = plt.subplots(1, len(frames), figsize=(width_in, height_in), squeeze=False)
    for axis, frame in zip(axes[0], frames):
        show_frame(axis, view, frame)
        seconds = clip.times_s[frame] - clip.times_s[0]
        axis.set_title(f'{seconds:.2f} s', fontweight='normal', fontsize=8, color=MUTED)
        if draw: draw(axis, frame)
    return figure


# %% [markdown]
# The pair stands side by side, or one above the other for wide pictures. Washing the frame out with white lets the
# tracks speak. Where a licence asks for it, the figure names its source.

# %%
#| export
def motion_pair(clip: Clip, visual_uv_px: np.ndarray, true_uv_px: np.ndarray, colors, reference: int = 0,
                shown=(None, None), stacked: bool = False, view_index: int = 0, wash: float = 0.3,
                width_in: float = 8.0, line: float = 2.0) -> Figure:
    "4DP-QA's Figure 2: visual and true-motion tracks (T, N, 2) of the same points, on the reference frame."
    view = clip.views[view_index]
    rows, columns = (2, 1) if stacked else (1, 2)
    panel_in = width_in / columns * view.height / view.width + 0.3
    figure, axes = plt.subplots(rows, columns, figsize=(width_in, rows * panel_in))
    titles = 'visual tracks: moving camera', f'true motion: camera of frame {reference}'
    for axis, uv_px, mask, title in zip(axes, (visual_uv_px, true_uv_px), shown, titles):
        draw_tracks(show_frame(axis, view, reference, title, wash), uv_px, colors, mask, line)
    credit(figure, clip)
    return figure

def credit(figure: Figure, clip: Clip) -> None:
    "The source of a figure's pictures, at its foot, where their licence asks for it."
    if clip.source not in CREDITS: return
    figure.supxlabel(CREDITS[clip.source], fontsize=7, color=MUTED, x=0.995, ha='right')


# %%
frame_strip(clip, width_in=7.4, draw=lambda axis, frame: draw_tracks(axis, visual_uv_px[:frame + 1], list(colors.values()), width=1.4)); plt.show()

# %%
motion_pair(clip, visual_uv_px, true_uv_px, list(colors.values())); plt.show()

# %%
static = [item.id for item in clip.objects if np.ptp(item.centers_m, axis=0).max() < 1e-9]
column = static[0] - 1
print(f'the {clip.object(static[0]).caption}: {np.ptp(visual_uv_px[:, column], axis=0).max():.1f} px in the picture, '
      f'{np.ptp(true_uv_px[:, column], axis=0).max():.1f} px in true motion')
assert len(static) == 1 and np.ptp(visual_uv_px[:, column], axis=0).max() > 20
assert np.ptp(true_uv_px[:, column], axis=0).max() < 1e-6


# %% [markdown]
# ## Figures in pages
#
# Reports are single HTML files, so a figure must travel inside one. The PNG carries no library version and no date: the
# same figure gives the same bytes. Figures with photographs are lighter as JPEG.

# %%
#| export
def figure_png(figure: Figure, dpi: int = 100) -> bytes:
    "The PNG file of a figure; the figure is closed."
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi, metadata={'Software': None})
    plt.close(figure)
    return buffer.getvalue()

def figure_jpeg(figure: Figure, dpi: int = 80, quality: int = 80) -> bytes:
    "The JPEG file of a figure with photographs in it, a fifth of the PNG; the figure is closed."
    buffer = io.BytesIO()
    Image.open(io.BytesIO(figure_png(figure, dpi))).convert('RGB').save(buffer, 'JPEG', quality=quality)
    return buffer.getvalue()

def data_uri(data: bytes, kind: str = 'image/png') -> str:
    "Bytes as a `data:` address, for pages that are one file."
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'

def figure_html(figure: Figure, alt: str, dpi: int = 100) -> str:
    "An HTML `<img>` that carries the figure itself; `alt` says in words what it shows."
    source = data_uri(figure_png(figure, dpi))
    return f'<img alt="{escape(alt, quote=True)}" style="max-width:100%" src="{source}">'


# %%
first, second = (figure_png(motion_pair(clip, visual_uv_px, true_uv_px, list(colors.values()))) for _ in range(2))
print(f'{len(first) / 1024:.0f} KB')
assert first == second and first.startswith(b'\x89PNG')
html = figure_html(frame_strip(clip), 'four frames of "a" clip')
assert html.count('<') == 1 and 'alt="four frames of &quot;a&quot; clip"' in html
assert figure_jpeg(frame_strip(clip)).startswith(b'\xff\xd8') and not plt.get_fignums()

# %% [markdown]
# ## What we proved
#
# * The palette stays apart for red–green blind eyes; time always gets lighter on its ramp.
# * What is drawn at (u, v) is what projects to (u, v).
# * From above, bearings keep the order they have in the picture.
# * The same figure gives the same bytes.
#
# ## Try it
#
# 1. Draw the tracks with a rainbow colour map instead of lightness. Which end is early?
# 2. Ask the simulator for `camera_program='orbit_left'` and predict the two panels of `motion_pair` before you look.
# 3. Draw `birds_eye` of a clip whose camera looks straight down. What does "ahead" mean there?
#
# <details><summary>Solutions</summary>
#
# 1. Neither end, without a legend: a rainbow has no order that the eye knows. Lightness has: pale is long ago. It
#    also survives printing and colour blindness.
# 2. The camera circles around the middle of the scene: objects stay near the centre and turn, while the background
#    sweeps past. Visual tracks of resting things are curved and long where they are near or far from the pivot; on
#    the right all of them are dots.
# 3. The direction of the picture's top, laid on the ground: `ground_axes` falls back to `-rotation[1]` when the
#    viewing direction has no horizontal part.
#
# </details>
