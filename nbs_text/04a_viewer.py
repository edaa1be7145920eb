# %% [markdown]
# # Viewer
# > Pictures that move: a time slider, a camera slider, a page that needs no kernel, an animation for the front page.

# %%
#| default_exp viewer

# %% [markdown]
# #| export
# A moving picture is a function `draw(index) -> Figure`. Every viewer takes one, so whatever `viz` can draw can be moved.

# %% [markdown]
# * **What** sliders over time and over the camera, self-contained HTML, animated GIF
# * **Why** time is the dimension a page does not have
# * **Paper** none; the whole notebook is **[ours]**
# * **Needs** ipywidgets, pillow, `viz`
# * **Time** 30 seconds
# * **Before this** `04_viz`

# %%
#| export
import hashlib
import io
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from collections.abc import Callable
from html import escape
from pathlib import Path
from PIL import Image
from matplotlib.figure import Figure
from track4d_ref.storage import InputError, atomic_path
from track4d_ref.cameras import invert_pose, pixel_centers, pose_from, project, rotation_about, unproject
from track4d_ref.clips import Clip, View
from track4d_ref.viz import credit, data_uri, draw_tracks, figure_png, picture_axis, show_frame

# %%
#| export
Draw = Callable[[int], Figure]

def slider(draw: Draw, count: int, name: str = 'frame', start: int = 0, dpi: int = 80) -> ipywidgets.VBox:
    "A picture above a slider that redraws it; each picture is drawn once."
    drawn = {}
    def png(index: int) -> bytes:
        if index not in drawn: drawn[index] = figure_png(draw(index), dpi)
        return drawn[index]
    picture = ipywidgets.Image(value=png(start), format='png')
    control = ipywidgets.IntSlider(value=start, min=0, max=count - 1, description=name)
    control.observe(lambda change: setattr(picture, 'value', png(change['new'])), names='value')
    return ipywidgets.VBox([picture, control])

PAGE = '''<figure id="{key}" style="margin:0"><img alt="{alt}" style="max-width:100%" src="{first}"><br>
<input type="range" min="0" max="{last}" value="0" aria-label="{name}" style="width:60%"> <output>{name} 0</output>
<script>(() => {{ const box = document.getElementById("{key}"), pictures = {pictures};
box.querySelector("input").oninput = event => {{ const index = event.target.value;
box.querySelector("img").src = pictures[index]; box.querySelector("output").value = "{name} " + index; }} }})()</script></figure>'''

def html_slider(draw: Draw, count: int, alt: str, name: str = 'frame', dpi: int = 70) -> str:
    "The same as HTML that carries all its pictures and needs no kernel; `alt` says in words what it shows."
    pictures = [data_uri(figure_png(draw(index), dpi)) for index in range(count)]
    key = 'slider-' + hashlib.sha256(''.join(pictures).encode()).hexdigest()[:12]
    return PAGE.format(key=key, alt=escape(alt, quote=True), first=pictures[0], last=count - 1, name=escape(name, quote=True),
                       pictures='[' + ','.join(f'"{picture}"' for picture in pictures) + ']')


# %%
#| export
def frame_points(view: View, frame: int) -> tuple[np.ndarray, np.ndarray]:
    "Every pixel with depth as a coloured world point: xyz_world (N, 3) and uint8 colours (N, 3)."
    if view.depth_m is None or view.frames is None: raise InputError(f'view {view.name}: points need frames and depth')
    known = np.isfinite(view.depth_m[frame]) & (view.depth_m[frame] > 0)
    uv_px, depth_m = pixel_centers(view.height, view.width)[known], view.depth_m[frame][known].astype(np.float64)
    return unproject(view.K, view.w2c[frame], uv_px, depth_m), view.frames[frame][known]

def render_points(K: np.ndarray, w2c: np.ndarray, xyz_world: np.ndarray, colors: np.ndarray, height: int, width: int,
                  dot_px: int = 2) -> np.ndarray:
    "Paint world points as squares of `dot_px`, near over far; (H, W, 3) uint8, white where nothing is."
    uv_px, depth_m = project(K, w2c, xyz_world)
    order = np.flatnonzero(depth_m > 0.05)
    order = order[np.argsort(-depth_m[order], kind='stable')]  # far first, so that near ones overwrite them
    image = np.full((height, width, 3), 255, np.uint8)
    corner = np.floor(uv_px[order] - (dot_px - 1) / 2).clip(-dot_px, max(height, width)).astype(int)
    steps = np.stack(np.meshgrid(range(dot_px), range(dot_px)), -1).reshape(-1, 2)
    columns, rows = np.moveaxis(corner[:, None] + steps, -1, 0)  # (N, dot²)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    owners = np.broadcast_to(order[:, None], rows.shape)
    image[rows[inside], columns[inside]] = colors[owners[inside]]
    return image

def orbit(w2c: np.ndarray, pivot_m: np.ndarray, up: np.ndarray, angle_rad: float) -> np.ndarray:
    "The camera (4, 4) after the world-space turn by `angle_rad` about the upright axis through `pivot_m`."
    rotation = rotation_about(up, angle_rad)
    return w2c @ invert_pose(pose_from(rotation, pivot_m - rotation @ pivot_m))

def draw_orbit(clip: Clip, frame: int, angle_rad: float, view_index: int = 0) -> Figure:
    "One moment of a clip seen from another place: its pixels as points, the camera swung about what it looks at."
    view = clip.views[view_index]
    xyz_world, colors = frame_points(view, frame)
    ahead = invert_pose(view.w2c[frame])[:3]
    pivot_m = ahead[:, 3] + ahead[:, 2] * np.median((xyz_world - ahead[:, 3]) @ ahead[:, 2])
    w2c = orbit(view.w2c[frame], pivot_m, clip.up, angle_rad)
    figure, axis = plt.subplots(figsize=(4.2, 4.2 * view.height / view.width + 0.3))
    picture_axis(axis, view.height, view.width, f'frame {frame}, camera swung by {np.degrees(angle_rad):+.0f}°')
    axis.imshow(render_points(view.K, w2c, xyz_world, colors, view.height, view.width), extent=(0, view.width, view.height, 0))
    return figure

def camera_slider(clip: Clip, frame: int, reach_rad: float = 0.6, count: int = 13, view_index: int = 0) -> ipywidgets.VBox:
    "Swing the camera about a frozen moment, from −reach_rad to +reach_rad."
    angles = np.linspace(-reach_rad, reach_rad, count)
    return slider(lambda index: draw_orbit(clip, frame, angles[index], view_index), count, 'camera', count // 2)


# %%
#| export
def motion_frame(clip: Clip, frame: int, visual_uv_px: np.ndarray, true_uv_px: np.ndarray, colors, reference: int = 0,
                 width_in: float = 6.4) -> Figure:
    "One moment of the animation: the video with its visual tracks so far; the held camera with the true motion so far."
    view, so_far = clip.view, np.s_[:frame + 1]
    figure, axes = plt.subplots(1, 2, figsize=(width_in, width_in / 2 * view.height / view.width + 0.35))
    show_frame(axes[0], view, frame, 'the video, visual tracks')
    show_frame(axes[1], view, reference, 'camera held still, true motion', wash=0.35)
    for axis, uv_px in zip(axes, (visual_uv_px, true_uv_px)): draw_tracks(axis, uv_px[so_far], colors, width=1.6)
    credit(figure, clip)
    return figure

def write_gif(path: Path | str, draw: Draw, count: int, fps: float = 8.0, dpi: int = 80, hold: int = 6) -> None:
    "An animated GIF of draw(0) … draw(count − 1) that loops for ever and rests on its last picture for `hold` steps."
    images = [Image.open(io.BytesIO(figure_png(draw(index), dpi))).convert('RGB') for index in range(count)]
    palette = images[-1].quantize(128, method=Image.Quantize.MEDIANCUT)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    step_ms = round(1000 / fps)
    with atomic_path(path) as partial:
        images[0].save(partial, format='GIF', save_all=True, append_images=images[1:], loop=0,
                       duration=[step_ms] * (count - 1) + [step_ms * hold])
