# %% [markdown]
# # Pictures
# > Every picture of the book: overlays, depth, strips, the view from above, and the pair that tells the papers' story.

# %%
#| default_exp viz

# %% [markdown]
# #| export
# Colours say what, lightness says when: each object keeps one hue, and tracks run from pale (early) to full colour (late).
# Pictures are drawn with the extent (0, W, H, 0), so axis coordinates are pixel coordinates (u, v) as in `cameras`.

# %% [markdown]
# * **What** small drawing functions on matplotlib axes, each for one kind of truth a clip holds
# * **Why** a wrong pose is a number nobody reads, and a picture everybody sees
# * **Paper** the visual language of 4DP-QA's Figures 1 and 2; palette and layout are **[ours]**
# * **Needs** matplotlib, `cameras`, `clips`, `simulator`
# * **Time** 30 seconds
# * **Before this** `01_cameras`, `02_clips`, `03_simulator`

# %%
#| export
import base64
import io
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from html import escape
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from track4d_ref.cameras import camera_center, project, transform, unproject
from track4d_ref.clips import Clip, SceneObject, View

# %%
#| export
PALETTE = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#7A5195', '#8A6D00')
INK, MUTED, PAPER = '#22252B', '#7B828D', '#F4F4F1'
CREDITS = {'kitti': 'Images and labels: KITTI (Geiger et al.), CC BY-NC-SA 3.0',
           'adt': 'Images and poses: Aria Digital Twin (Meta), research licence'}

def use_style() -> None:
    "Set the look of all figures: one type size, no frame lines without a job, titles at the left."
    matplotlib.rcParams.update({
        'figure.dpi': 90, 'figure.constrained_layout.use': True, 'font.size': 9, 'text.color': INK,
        'axes.titlesize': 10, 'axes.titlelocation': 'left', 'axes.titleweight': 'bold', 'axes.titlecolor': INK,
        'axes.labelcolor': INK, 'axes.edgecolor': MUTED, 'xtick.color': MUTED, 'ytick.color': MUTED,
        'axes.spines.top': False, 'axes.spines.right': False, 'axes.linewidth': 0.8, 'axes.grid': False, 'grid.alpha': 0.3,
        'xtick.labelsize': 8, 'ytick.labelsize': 8, 'legend.frameon': False, 'legend.fontsize': 8, 'lines.linewidth': 1.8,
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


# %%
#| export
def picture_axis(axis: Axes, height: int, width: int, title: str = '') -> Axes:
    "Prepare an axis for drawing in pixel coordinates: row 0 on top, no ticks."
    axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect='equal', title=title)
    axis.spines[:].set_visible(False)
    return axis

def show_frame(axis: Axes, view: View, frame: int, title: str = '', wash: float = 0.0) -> Axes:
    "Draw one frame, mixed with white by `wash`; a sheet of paper where the clip has no image."
    picture_axis(axis, view.height, view.width, title)
    if view.frames is None or not view.frame_valid[frame]:
        axis.add_patch(plt.Rectangle((0, 0), view.width, view.height, color=PAPER, zorder=0))
        return axis
    image = view.frames[frame] / 255.0
    axis.imshow(image * (1 - wash) + wash, extent=(0, view.width, view.height, 0), interpolation='antialiased')
    return axis

def tint_instances(frame: np.ndarray, instances: np.ndarray, colors: dict[int, str], strength: float = 0.55) -> np.ndarray:
    "A frame (H, W, 3) uint8 whose objects are tinted and outlined by their colours; the background turns grey."
    image = np.repeat(frame.mean(-1, keepdims=True), 3, -1) / 255 * 0.7 + 0.3
    for number, color in colors.items():
        mask = instances == number
        image[mask] = (1 - strength) * frame[mask] / 255 + strength * np.array(to_rgb(color))
        inside = mask.copy()
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)): inside &= np.roll(mask, step, axis)
        image[mask & ~inside] = to_rgb(color)
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

def draw_tracks(axis: Axes, uv_px: np.ndarray, colors, shown: np.ndarray | None = None, width: float = 2.0) -> Axes:
    "Tracks (T, N, 2), pale to full colour over time; `colors` is one or N colours, or 'time'. Frames not `shown` (T, N) leave gaps."
    frames_count, count = uv_px.shape[:2]
    shown = np.isfinite(uv_px).all(-1) & (True if shown is None else shown)
    colors = [colors] * count if isinstance(colors, str) else list(colors)
    age = np.linspace(0.6, 0.0, frames_count)
    for track, seen, color in zip(uv_px.transpose(1, 0, 2), shown.T, colors):
        if not seen.any(): continue
        ramp = time_colors(frames_count)[:, :3] if color == 'time' else fade(color, age)
        pairs = seen[:-1] & seen[1:]
        segments = np.stack([track[:-1], track[1:]], 1)[pairs]
        axis.add_collection(LineCollection(segments, colors='white', linewidths=width + 1.6, alpha=0.7, capstyle='round', zorder=3))
        axis.add_collection(LineCollection(segments, colors=ramp[1:][pairs], linewidths=width, capstyle='round', zorder=4))
        axis.scatter(*track[seen].T, c=ramp[seen], s=(1.3 * width) ** 2, linewidths=0, zorder=5)
        axis.scatter(*track[seen][-1], color=ramp[seen][-1], s=(3 * width) ** 2, edgecolors='white', linewidths=1, zorder=6)
    return axis

BOX_EDGES = [(corner, corner | bit) for corner in range(8) for bit in (1, 2, 4) if not corner & bit]

def draw_box(axis: Axes, view: View, item: SceneObject, frame: int, color: str, label: str = '') -> Axes:
    "The 3D box of an object in a frame, its front face thicker; nothing if part of it is behind the camera."
    if not item.present[frame]: return axis
    uv_px, depth_m = project(view.K, view.w2c[frame], transform(item.world_from_object[frame], item.corners_object_m))  # (8, 2)
    if (depth_m < 0.05).any(): return axis
    widths = [2.2 if first & last & 4 else 1.0 for first, last in BOX_EDGES]
    axis.add_collection(LineCollection(uv_px[np.array(BOX_EDGES)], colors=color, linewidths=widths, zorder=4, clip_on=True))
    if label: tag(axis, (uv_px[:, 0].mean(), uv_px[:, 1].min() - 3), label, color)
    return axis

def tag(axis: Axes, uv_px, text: str, color: str = INK, **options) -> None:
    "A small label centred above a pixel, readable on any picture."
    axis.text(*uv_px, text, **{'color': color, 'fontsize': 8, 'fontweight': 'bold', 'ha': 'center', 'va': 'bottom',
                               'path_effects': [HALO], 'clip_on': True, 'zorder': 8, **options})


# %%
#| export
def ground_axes(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    "Where the view from above has its origin (3,), below the first camera, and its axes (2, 3): right and ahead of that camera."
    ahead = clip.view.w2c[0, 2, :3] - clip.up * (clip.view.w2c[0, 2, :3] @ clip.up)
    if np.linalg.norm(ahead) < 1e-6: ahead = -clip.view.w2c[0, 1, :3]  # looking straight down: the picture's top is ahead
    ahead = ahead / np.linalg.norm(ahead)
    return camera_center(clip.view.w2c[0]), np.stack([np.cross(ahead, clip.up), ahead])

def birds_eye(axis: Axes, clip: Clip, frame: int = 0, ids=None, cone_m: float | None = None) -> Axes:
    "The clip from above: footprints at `frame`, all paths, the first view's cameras as cones, early ones violet, late ones yellow."
    origin_m, axes = ground_axes(clip)
    flat = lambda xyz: (xyz - origin_m) @ axes.T
    colors = object_colors(clip)
    for item in clip.objects:
        if (ids is not None and item.id not in ids) or not item.present.any(): continue
        path = flat(item.centers_m[item.present])
        axis.plot(*path.T, color=colors[item.id], linewidth=1.2, zorder=3)
        if item.present[frame]: _footprint(axis, flat(transform(item.world_from_object[frame], item.corners_object_m)), colors[item.id])
    _camera_cones(axis, clip.view, flat, cone_m or 0.12 * np.ptp(np.concatenate([axis.dataLim.get_points(), [[0, 0]]]), axis=0).max())
    axis.set(xlabel='right (m)', ylabel='ahead (m)', aspect='equal')
    axis.margins(0.06)
    return axis

def _footprint(axis: Axes, corners: np.ndarray, color: str) -> None:
    faces = [[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]]
    axis.add_collection(PolyCollection(corners[np.array(faces)], facecolors=[fade(color, 0.55)], edgecolors='none', zorder=2))
    nose = corners[4:].mean(0)
    axis.plot(*np.stack([corners.mean(0), nose]).T, color=color, linewidth=2, zorder=4, solid_capstyle='round')

def _camera_cones(axis: Axes, view: View, flat, cone_m: float) -> None:
    frames_count, ramp = len(view.w2c), time_colors(len(view.w2c))
    centers = flat(camera_center(view.w2c))
    axis.plot(*centers.T, color=MUTED, linewidth=0.8, zorder=4)
    for frame in np.unique(np.linspace(0, frames_count - 1, 6).round().astype(int)):
        sides = np.array([[0.0, view.K[1, 2]], [view.width, view.K[1, 2]]])
        rim = flat(unproject(view.K, view.w2c[frame], sides, np.full(2, cone_m)))
        axis.fill(*np.stack([centers[frame], *rim]).T, facecolor=(*ramp[frame, :3], 0.35), edgecolor=ramp[frame], linewidth=1.2, zorder=5)


# %%
#| export
def frame_strip(clip: Clip, frames=None, view_index: int = 0, width_in: float = 8.0, draw=None) -> Figure:
    "Frames side by side with their times (four unless told); `draw(axis, frame)` may add to each."
    view = clip.views[view_index]
    frames = np.unique(np.linspace(0, clip.frames_count - 1, 4).round().astype(int)) if frames is None else frames
    height_in = width_in / len(frames) * view.height / view.width + 0.3
    figure, axes = plt.subplots(1, len(frames), figsize=(width_in, height_in), squeeze=False)
    for axis, frame in zip(axes[0], frames):
        show_frame(axis, view, frame)
        axis.set_title(f'{clip.times_s[frame] - clip.times_s[0]:.2f} s', fontweight='normal', fontsize=8, color=MUTED)
        if draw: draw(axis, frame)
    return figure

def motion_pair(clip: Clip, visual_uv_px: np.ndarray, true_uv_px: np.ndarray, colors, reference: int = 0, shown=(None, None),
                stacked: bool = False, view_index: int = 0, wash: float = 0.25) -> Figure:
    "The papers' Figure 2: visual tracks (T, N, 2) beside the true-motion tracks of the same points, both on the reference frame."
    view = clip.views[view_index]
    rows, columns = (2, 1) if stacked else (1, 2)
    panel_in = 8.0 / columns * view.height / view.width + 0.35
    figure, axes = plt.subplots(rows, columns, figsize=(8.0, rows * panel_in))
    titles = ('Visual track: what the picture shows', f'True motion: the camera held still at frame {reference}')
    for axis, uv_px, mask, title in zip(axes, (visual_uv_px, true_uv_px), shown, titles):
        show_frame(axis, view, reference, title, wash)
        draw_tracks(axis, uv_px, colors, mask)
    credit(figure, clip)
    return figure

def credit(figure: Figure, clip: Clip) -> None:
    "The source of a figure's pictures, at its foot, where their licence asks for it."
    if clip.source in CREDITS: figure.supxlabel(CREDITS[clip.source], fontsize=7, color=MUTED, x=0.995, ha='right')


# %%
#| export
def figure_png(figure: Figure, dpi: int = 100) -> bytes:
    "The PNG file of a figure; the figure is closed."
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi, metadata={'Software': None})
    plt.close(figure)
    return buffer.getvalue()

def data_uri(data: bytes, kind: str = 'image/png') -> str:
    "Bytes as a `data:` address, for pages that are one file."
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'

def figure_html(figure: Figure, alt: str, dpi: int = 100) -> str:
    "An HTML `<img>` that carries the figure itself; `alt` says in words what it shows."
    return f'<img alt="{escape(alt, quote=True)}" style="max-width:100%" src="{data_uri(figure_png(figure, dpi))}">'
