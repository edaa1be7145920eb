# %% [markdown]
# # Viewer
# > Pictures that move: a slider over time, one over the camera, a page without a kernel, an animation.

# %%
#| default_exp viewer

# %% [markdown]
# #| export
# A moving picture is a function `draw(index) -> Figure`; whatever `viz` can draw can be moved.

# %% [markdown]
# * **What** sliders over time and over the camera, self-contained HTML, animated GIF, a file for the rerun viewer
# * **Why** time is the dimension a page does not have
# * **Paper** none; the whole notebook is **[ours]**
# * **Needs** ipywidgets, pillow, `viz`; rerun (extra `viewer`) for its section
# * **Time** 30 seconds
# * **Before this** `04_viz`

# %%
#| export
import base64
import hashlib
import importlib.util
import io
import json
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
from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.viz import credit, data_uri, draw_tracks, figure_png, object_colors, show_frame, show_image

# %%
import tempfile
from track4d_ref.cameras import camera_center
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.viz import birds_eye, use_style

# %% [markdown]
# ## A slider over time
#
# Everything here rests on one idea: a picture that depends on a number is a function `draw(index)` which returns a figure.
# `slider` puts an ipywidgets slider below it and draws each picture once, when it is first asked for.

# %%
#| export
Draw = Callable[[int], Figure]

class MovingPicture(ipywidgets.VBox):
    "A picture above its slider; where no kernel lives, in a saved notebook or on a page, the picture alone is shown."
    def _repr_mimebundle_(self, **options):
        return dict(super()._repr_mimebundle_(**options), **{'image/png': base64.b64encode(self.children[0].value).decode()})

def slider(draw: Draw, count: int, name: str = 'frame', start: int = 0, dpi: int = 80) -> MovingPicture:
    "A picture above a slider that redraws it; each picture is drawn once."
    drawn: dict[int, bytes] = {}
    def png(index: int) -> bytes:
        if index not in drawn: drawn[index] = figure_png(draw(index), dpi)
        return drawn[index]
    picture = ipywidgets.Image(value=png(start), format='png', layout={'align_self': 'flex-start', 'max_width': '100%'})
    control = ipywidgets.IntSlider(value=start, min=0, max=count - 1, description=name, layout={'width': '90%', 'max_width': '600px'})
    control.observe(lambda change: setattr(picture, 'value', png(change['new'])), names='value')
    return MovingPicture([picture, control])


# %%
use_style()
clip = simulate_clip(7, load_preset('tiny'), 6, domain='open', camera_program='right+pan_left', height=150, width=220,
                     object_programs=('curved', 'static', 'straight'))
view, colors = clip.view, list(object_colors(clip).values())
centers_m = np.stack([item.centers_m for item in clip.objects], 1)       # (T, N, 3)
visual_uv_px, true_uv_px = project(view.K, view.w2c, centers_m)[0], project(view.K, view.w2c[0], centers_m)[0]

def frame_and_plan(frame):
    figure, axes = plt.subplots(1, 2, figsize=(6.2, 2.7), width_ratios=(1.5, 1))
    show_frame(axes[0], view, frame, f'frame {frame}', wash=0.15)
    draw_tracks(axes[0], visual_uv_px[:frame + 1], colors)
    birds_eye(axes[1], clip, frame).set_title('from above')
    return figure


# %% [markdown]
# Where a kernel runs, the handle moves the picture. A saved notebook has no kernel; what it keeps is the picture.

# %%
time = slider(frame_and_plan, clip.frames_count, start=5)
time

# %%
picture, control = time.children
before = picture.value
control.value = 0
assert picture.value != before and picture.value == figure_png(frame_and_plan(0), 80)
control.value = 5
assert picture.value == before
assert base64.b64decode(time._repr_mimebundle_()['image/png']) == before          # what stays when nobody is there


# %% [markdown]
# ## A slider over the camera
#
# A frame with depth is more than a picture: every pixel is a coloured point in the world, and points can be looked at from
# somewhere else. Time stands still, the camera moves. White is what the first camera never saw.
#
# The turn is made in the world: first the world turns by $-\alpha$ about the pivot, then the old camera looks at it.

# %%
#| export
def frame_points(view: View, frame: int) -> tuple[np.ndarray, np.ndarray]:
    "Every pixel with depth as a coloured world point: xyz_world (N, 3) and uint8 colours (N, 3)."
    if view.depth_m is None or view.frames is None:
        raise InputError(f'view {view.name}: points need frames and depth; choose a clip that has both')
    known = np.isfinite(view.depth_m[frame]) & (view.depth_m[frame] > 0)
    uv_px, depth_m = pixel_centers(view.height, view.width)[known], view.depth_m[frame][known]
    return unproject(view.K, view.w2c[frame], uv_px, depth_m.astype(float)), view.frames[frame][known]

def render_points(K: np.ndarray, w2c: np.ndarray, xyz_world: np.ndarray, colors: np.ndarray, height: int,
                  width: int, dot_px: int = 2) -> np.ndarray:
    "Paint world points as squares of `dot_px`, near over far; (H, W, 3) uint8, white where nothing is."
    uv_px, depth_m = project(K, w2c, xyz_world)
    order = np.flatnonzero((depth_m > 0.05) & (np.abs(uv_px) < 1e6).all(-1))
    order = order[np.argsort(-depth_m[order], kind='stable')]  # far first, so that near ones overwrite them
    corner = np.floor(uv_px[order] - (dot_px - 1) / 2).astype(int)
    image = np.full((height, width, 3), 255, np.uint8)
    steps = np.stack(np.meshgrid(range(dot_px), range(dot_px)), -1).reshape(-1, 2)
    columns, rows = np.moveaxis(corner[:, None] + steps, -1, 0)  # (N, dot²)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    owners = np.broadcast_to(order[:, None], rows.shape)
    image[rows[inside], columns[inside]] = colors[owners[inside]]
    return image

def orbit(w2c: np.ndarray, pivot_m: np.ndarray, up: np.ndarray, angle_rad: float) -> np.ndarray:
    "The camera (4, 4) after it was carried by `angle_rad` about the upright axis through `pivot_m`."
    rotation = rotation_about(up, angle_rad)
    return w2c @ invert_pose(pose_from(rotation, pivot_m - rotation @ pivot_m))


# %%
#| export
def swung_camera(clip: Clip, frame: int, angle_rad: float, view_index: int = 0) -> np.ndarray:
    "`w2c` (4, 4) of a frame's camera carried about the point it looks at, at the median depth."
    view = clip.views[view_index]
    known = np.isfinite(view.depth_m[frame]) & (view.depth_m[frame] > 0)
    camera = invert_pose(view.w2c[frame])
    pivot_m = camera[:3, 3] + camera[:3, 2] * np.median(view.depth_m[frame][known])
    return orbit(view.w2c[frame], pivot_m, clip.up, angle_rad)

def draw_orbit(clip: Clip, frame: int, angle_rad: float, view_index: int = 0) -> Figure:
    "One moment of a clip seen from another place: its pixels as points."
    view = clip.views[view_index]
    w2c = swung_camera(clip, frame, angle_rad, view_index)
    image = render_points(view.K, w2c, *frame_points(view, frame), view.height, view.width)
    figure, axis = plt.subplots(figsize=(4.2, 4.2 * view.height / view.width + 0.3))
    show_image(axis, image, f'frame {frame}, camera swung by {np.degrees(angle_rad):+.0f}°')
    return figure

def camera_slider(clip: Clip, frame: int, reach_rad: float = 0.6, count: int = 13,
                  view_index: int = 0) -> ipywidgets.VBox:
    "Swing the camera about a frozen moment, from −reach_rad to +reach_rad."
    angles = np.linspace(-reach_rad, reach_rad, count)
    def draw(index: int) -> Figure: return draw_orbit(clip, frame, angles[index], view_index)
    return slider(draw, count, 'camera', count // 2)


# %%
figure, axes = plt.subplots(1, 3, figsize=(7.2, 1.9))
for axis, degrees in zip(axes, (-35, 0, 35)):
    w2c = swung_camera(clip, 5, np.radians(degrees))
    show_image(axis, render_points(view.K, w2c, *frame_points(view, 5), view.height, view.width), f'camera at {degrees:+d}°')
plt.show()

# %% [markdown]
# At 0° every point must land on the pixel it came from. And carrying the camera all the way around must end where it began.

# %%
xyz_world, point_colors = frame_points(view, 5)
at_rest = render_points(view.K, view.w2c[5], xyz_world, point_colors, view.height, view.width, dot_px=1)
known = np.isfinite(view.depth_m[5])
assert (at_rest[known] == view.frames[5][known]).all() and (at_rest[~known] == 255).all()
full_turn = orbit(view.w2c[5], np.array([1.0, 2, 3]), clip.up, 2 * np.pi)
assert np.allclose(full_turn, view.w2c[5])
swung = swung_camera(clip, 5, 0.5)
ahead = project(view.K, swung, camera_center(view.w2c[5])[None])[1]
assert ahead > 0                                                          # the old camera stands in front of the new one
assert len(camera_slider(clip, 5, count=3).children) == 2

# %% [markdown]
# ## The same without a kernel
#
# Reports are read by people who do not run Python. `html_slider` packs all pictures into one piece of HTML with eight
# lines of script. Its identifier is a hash of the pictures, so the same clip always gives the same page.

# %%
#| export
PAGE = '''<figure id="{key}" style="margin:0"><img alt="{alt}" style="max-width:100%" src="{first}"><br>
<input type="range" min="0" max="{last}" value="0" aria-label="{name}" style="width:60%">
<output>{name} 0</output>
<script>(() => {{
  const box = document.getElementById("{key}"), pictures = {pictures};
  box.querySelector("input").oninput = event => {{
    box.querySelector("img").src = pictures[event.target.value];
    box.querySelector("output").value = "{name} " + event.target.value;
  }};
}})()</script></figure>'''

def html_slider(draw: Draw, count: int, alt: str, name: str = 'frame', dpi: int = 70) -> str:
    "The same as HTML that carries all its pictures and needs no kernel; `alt` says in words what it shows."
    pictures = [data_uri(figure_png(draw(index), dpi)) for index in range(count)]
    key = 'slider-' + hashlib.sha256(''.join(pictures).encode()).hexdigest()[:12]
    return PAGE.format(key=key, alt=escape(alt, quote=True), first=pictures[0], last=count - 1,
                       name=escape(name, quote=True), pictures=json.dumps(pictures))


# %%
page = html_slider(frame_and_plan, 3, 'a clip and its plan, frame by frame')
print(f'{len(page) / 1024:.0f} KB for three pictures')
assert page.count('data:image/png;base64,') == 4 and '{' + 'key}' not in page   # the first picture stands in it twice
assert page == html_slider(frame_and_plan, 3, 'a clip and its plan, frame by frame')


# %% [markdown]
# ## An animation for the front page
#
# Left the video with its visual tracks, right the camera held still while the tracks of true motion grow. All frames share
# one palette of 128 colours, which keeps the file small and the colours steady.

# %%
#| export
def motion_frame(clip: Clip, frame: int, visual_uv_px: np.ndarray, true_uv_px: np.ndarray, colors,
                 reference: int = 0, width_in: float = 6.0) -> Figure:
    "One moment of the animation: video and visual tracks, held camera and true motion, both so far."
    view = clip.view
    figure, axes = plt.subplots(1, 2, figsize=(width_in, width_in / 2 * view.height / view.width + 0.35))
    show_frame(axes[0], view, frame, 'the video and its visual tracks')
    show_frame(axes[1], view, reference, 'camera held still: true motion', wash=0.35)
    for axis, uv_px in zip(axes, (visual_uv_px, true_uv_px)):
        draw_tracks(axis, uv_px[:frame + 1], colors, width=1.6)
    credit(figure, clip)
    return figure

def write_gif(path: Path | str, draw: Draw, count: int, fps: float = 8.0, dpi: int = 80,
              hold: int = 6) -> None:
    "An animated GIF of draw(0) … draw(count − 1) that loops for ever and rests on its last picture."
    images = [Image.open(io.BytesIO(figure_png(draw(index), dpi))).convert('RGB') for index in range(count)]
    palette = images[-1].quantize(128, method=Image.Quantize.MEDIANCUT)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    step_ms = round(1000 / fps)
    with atomic_path(path) as partial:
        images[0].save(partial, format='GIF', save_all=True, append_images=images[1:], loop=0,
                       duration=[step_ms] * (count - 1) + [step_ms * hold])


# %%
motion_frame(clip, 6, visual_uv_px, true_uv_px, colors, width_in=5.6); plt.show()

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'motion.gif'
    write_gif(path, lambda frame: motion_frame(clip, frame, visual_uv_px, true_uv_px, colors), clip.frames_count)
    with Image.open(path) as animation:
        print(f'{animation.n_frames} frames of {animation.width} × {animation.height}, {path.stat().st_size / 1024:.0f} KB')
        assert animation.n_frames == clip.frames_count and path.stat().st_size < 400_000


# %% [markdown]
# ## The whole clip in another program
#
# [Rerun](https://rerun.io) is a free viewer for things that move in space and time: one can fly around the scene, switch views off
# and stop at any moment. `write_rerun` puts a whole clip into one of its files. Cameras become frustums with their pictures and
# depth in them, objects become boxes with their captions, and the path of each object so far trails behind it.
#
# Two conventions have to be translated. Rerun wants to know where the camera *is*, so `w2c` is inverted; and depth it draws as
# points, so sky (infinite) is written as 0, which means "unknown" there as it does here.

# %%
#| export
def _rerun():
    "The rerun package; InputError says how to install it."
    if importlib.util.find_spec('rerun') is None:
        raise InputError("write_rerun: rerun is not installed; pip install 'track4d_ref[viewer]'")
    import rerun
    return rerun

def _log_view(rerun, stream, view: View, frame: int) -> None:
    "One camera at one moment: where it is, its lens, and what it sees."
    path, camera = f'world/{view.name}', invert_pose(view.w2c[frame])
    stream.log(path, rerun.Transform3D(translation=camera[:3, 3], mat3x3=camera[:3, :3]))
    stream.log(path, rerun.Pinhole(image_from_camera=view.K, resolution=[view.width, view.height],
                                   camera_xyz=rerun.ViewCoordinates.RDF))
    if view.frames is not None and view.frame_valid[frame]:
        stream.log(f'{path}/picture', rerun.Image(view.frames[frame]))
    if view.depth_m is not None:
        depth_m = np.where(np.isfinite(view.depth_m[frame]), view.depth_m[frame], 0)
        stream.log(f'{path}/depth', rerun.DepthImage(depth_m, meter=1.0))
    if view.instances is not None:
        stream.log(f'{path}/instances', rerun.SegmentationImage(view.instances[frame].astype(np.uint16)))


# %% [markdown]
# An object that is absent is cleared, so that its box does not stay behind in the air. The path is drawn in the world and the box
# in the object's own axes, which is why the pose belongs to the box alone.

# %%
#| export
def _log_object(rerun, stream, item: SceneObject, frame: int, color: str) -> None:
    "One object at one moment: its box at its pose, and its path so far."
    path, rgb = f'world/objects/{item.id}', [int(color[k:k + 2], 16) for k in (1, 3, 5)]
    if not item.present[frame]:
        stream.log(path, rerun.Clear(recursive=True))
        return
    pose = item.world_from_object[frame]
    stream.log(f'{path}/box', rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
    stream.log(f'{path}/box', rerun.Boxes3D(half_sizes=[item.size_m / 2], labels=[item.caption], colors=[rgb]))
    line = item.centers_m[:frame + 1][item.present[:frame + 1]]
    if len(line) > 1: stream.log(f'{path}/path', rerun.LineStrips3D([line], colors=[rgb]))

def write_rerun(path: Path | str, clip: Clip) -> None:
    "Write the whole clip as a file for the rerun viewer (`rerun clip.rrd`); needs the extra `viewer`."
    rerun, colors = _rerun(), object_colors(clip)
    with atomic_path(path) as partial:
        stream = rerun.RecordingStream('track4d_ref', recording_id=clip.id)
        stream.save(str(partial))
        up = 'XYZ'[int(np.argmax(np.abs(clip.up)))]
        axes = getattr(rerun.ViewCoordinates, f'RIGHT_HAND_{up}_{"UP" if clip.up.sum() > 0 else "DOWN"}')
        stream.log('world', axes, static=True)
        for frame, time_s in enumerate(clip.times_s):
            stream.set_time('time', duration=float(time_s))
            for view in clip.views: _log_view(rerun, stream, view, frame)
            for item in clip.objects: _log_object(rerun, stream, item, frame, colors[item.id])
        stream.flush()
        stream.disconnect()


# %% [markdown]
# The file is read back with rerun's own reader, if the extra is there; without it, the sentence says what to install.

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'clip.rrd'
    if importlib.util.find_spec('rerun'):
        write_rerun(path, clip)
        print(f'{path.stat().st_size / 1024:.0f} KB for {clip.frames_count} frames; open it with: rerun clip.rrd')
        assert path.read_bytes()[:3] == b'RRF'
    else:
        try: write_rerun(path, clip)
        except InputError as error: assert 'track4d_ref[viewer]' in str(error) and not path.exists()

# %% [markdown]
# ## What we proved
#
# * A slider shows exactly the picture its function draws.
# * Unprojected points, looked at by their own camera, give the picture back pixel by pixel.
# * Pages and animations are the same bytes every time.
#
# ## Try it
#
# 1. Write `time` or `camera_slider(clip, 5)` on a line of its own and move the handle.
# 2. Swing the camera by 90°. Why is everything so thin?
# 3. Make a slider over the *reference frame* of the true-motion panel.
#
# <details><summary>Solutions</summary>
#
# 1. With a kernel the handle moves the picture; each is drawn once and kept. In the saved notebook only the picture
#    remains.
# 2. A frame is a surface seen from one side; from the side, all its points lie on a thin curve, and what they hid was
#    never recorded. At 90° one looks along the surface.
# 3. `true = lambda r: project(view.K, view.w2c[r], centers_m)[0]` and `slider(lambda r: motion_pair(clip,
#    visual_uv_px, true(r), colors, r), clip.frames_count, 'reference')`. The tracks keep their shape roughly and move
#    with the camera of the reference frame.
#
# </details>
