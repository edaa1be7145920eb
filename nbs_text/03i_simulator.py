# %% [markdown]
# # Simulator
# > Clips whose truth is known: asked for by seed and number, rendered, checked, written.

# %%
#| default_exp simulator

# %% [markdown]
# #| export
# Clip i depends only on (seed, i), the preset and the requests: its random numbers come from `SeedSequence([seed, i])`.

# %% [markdown]
# * **What** `simulate_clip`, `simulate_clips`, `write_clips`
# * **Why** all later notebooks take their clips from here
# * **Paper** 4DP-QA uses Kubric, SHIFT and Virtual KITTI at this place; ours is a reduced scale of them **[ours]**
# * **Needs** numpy, torch
# * **Time** 40 seconds
# * **Before this** `03c_raycasting`, `03h_scenes`

# %%
#| export
import dataclasses
import hashlib
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

# %%
#| export
from pathlib import Path
import numpy as np
import torch
from tqdm import tqdm
from track4d_ref.cameras import pose_from
from track4d_ref.clips import Clip, SceneObject, View, save_clip

# %%
#| export
from track4d_ref.domains import DOMAINS
from track4d_ref.presets import Preset
from track4d_ref.programs import CAMERA_PROGRAMS, OBJECT_PROGRAMS, turn_about
from track4d_ref.raycasting import render
from track4d_ref.scenes import UP, Rejected, Scene, camera_fits, sample_scene, sample_world, scene_solids
from track4d_ref.shapes import SHAPES

# %%
#| export
from track4d_ref.stages import Stage
from track4d_ref.storage import InputError, read_json, write_json

# %%
import matplotlib.pyplot as plt
import tempfile
from track4d_ref.cameras import camera_center, pixel_centers, project, unproject
from track4d_ref.presets import load_preset

# %%
torch.set_num_threads(1)                     # small pictures: threads would wait for each other

# %% [markdown]
# ## Asking
#
# A request fixes what matters and leaves the rest to chance. Wrong names are answered with the right ones.

# %%
#| export
TRAINING_DOMAINS = ('open', 'open', 'driving', 'indoor', 'tossed')
ATTEMPTS = 200
PRESET_KEYS = ('frames', 'resolution', 'fps', 'objects_min', 'objects_max')      # all that a clip depends on


# %%
#| export
@dataclass(frozen=True)
class Request:
    "What a caller may ask of a clip; None leaves it to chance."
    domain: str | None = None                        # a key of DOMAINS; 'heldout' only comes when asked for
    camera_program: str | None = None                # e.g. 'pan_left' or 'forward+pan_left'
    object_programs: tuple[str, ...] | None = None   # one per object
    objects: int | None = None
    height: int | None = None                        # pixels
    width: int | None = None
    roll_rad: float = 0.0                            # of the first camera, clockwise
    rig: str = 'mono'                                # 'mono', 'stereo' or 'ring'
    views: int = 2                                   # cameras of a ring, 2 … 7
    baseline_m: float = 0.3                          # of a stereo rig
    physics: str = 'ballistic'                       # or 'mujoco', for tossed things
    min_visible: float = 0.0015                      # of the picture, in half the frames, for every object
    smooth: bool = True                              # antialiased colours
    device: str = 'cpu'


# %%
#| export
def _choice(field: str, value, choices) -> None:
    if value not in choices:
        raise InputError(f'simulate_clip: {field} = {value!r} does not exist; '
                         f'choose from {", ".join(choices)}')


# %% [markdown]
# Checking happens before any work. Names are compared with the tables of programs and domains, numbers with their ranges, and
# the count of objects with the list of programs.

# %%
#| export
def check_request(requests: dict) -> Request:
    "The requests as a `Request`; InputError names an unknown field or value."
    known = [field.name for field in dataclasses.fields(Request)]
    for name in requests: _choice('request', name, known)
    request = Request(**requests)
    if request.domain is not None: _choice('domain', request.domain, tuple(DOMAINS))
    for name in (request.camera_program or 'static').split('+'):
        _choice('camera_program', name, CAMERA_PROGRAMS)
    for name in request.object_programs or (): _choice('object_programs', name, OBJECT_PROGRAMS)
    _choice('rig', request.rig, ('mono', 'stereo', 'ring'))
    _choice('physics', request.physics, ('ballistic', 'mujoco'))
    for field, low, high in (('objects', 1, 10), ('height', 16, 4096), ('width', 16, 4096), ('views', 2, 7)):
        value = getattr(request, field)
        if value is not None and not low <= value <= high:
            raise InputError(f'simulate_clip: {field} = {value} is out of range; give {low} … {high}')
    if request.objects and request.object_programs and request.objects != len(request.object_programs):
        raise InputError(f'simulate_clip: {len(request.object_programs)} object_programs for '
                         f'{request.objects} objects; give one per object')
    return request


# %%
try: check_request({'camera_program': 'forward+fly'})
except InputError as error: print(error)
assert check_request({'rig': 'ring', 'views': 5}).views == 5


# %% [markdown]
# ## One camera, two or seven
#
# A rectified stereo pair is two equal cameras, one shifted along the row direction. A ring takes the first camera's whole motion
# and turns it around the middle of things, so all cameras move in step.

# %%
#| export
def _draw(rng: np.random.Generator, preset: Preset, request: Request) -> Scene:
    "One try at a scene; raises Rejected."
    domain = request.domain or str(rng.choice(TRAINING_DOMAINS))
    count = request.objects or int(rng.integers(preset.objects_min, preset.objects_max + 1))
    drawn = rng.choice(DOMAINS[domain].object_programs, count)
    programs = request.object_programs or tuple(str(name) for name in drawn)
    world = sample_world(rng, domain, request.height or preset.resolution, request.width or preset.resolution,
                         np.arange(preset.frames) / preset.fps, request.roll_rad, request.physics)
    return sample_scene(rng, world, request.camera_program, programs)


# %% [markdown]
# All cameras share one lens. For a ring, the turn is about a vertical line through the middle of the actors, so the cameras keep
# their heights. In a street a full circle would end inside the houses; there the ring spans forty degrees.

# %%
#| export
def rig_poses(scene: Scene, request: Request) -> dict[str, np.ndarray]:
    """Named `w2c` (T, 4, 4) of all cameras: one; a rectified pair; or the first one turned around the
    middle of things."""
    if request.rig == 'mono': return {'camera': scene.w2c}
    if request.rig == 'stereo':
        aside = pose_from(np.eye(3), np.array([-request.baseline_m, 0, 0]))
        return {'left': scene.w2c, 'right': aside @ scene.w2c}
    middle = np.mean([actor.world_from_object[:, :3, 3].mean(0) for actor in scene.actors], 0) * (1, 1, 0)
    poses = {'camera0': scene.w2c}
    for number in range(1, request.views):
        turn = turn_about(UP, np.array(np.radians(scene.world.domain.ring_deg) * number / request.views))
        back = pose_from(turn.T, middle - turn.T @ middle)                 # world → world before the turn
        poses[f'camera{number}'] = scene.w2c @ back
        if not camera_fits(poses[f'camera{number}'], scene.world):
            raise Rejected(f'camera {number} of the ring leaves the room')
    return poses


# %%
assert 'heldout' not in TRAINING_DOMAINS and set(TRAINING_DOMAINS) <= set(DOMAINS)


# %% [markdown]
# ## From scene to clip
#
# The views of a rig are rendered as one long clip and cut apart afterwards. Then pixels are counted: an object hidden behind
# another for more than half of the frames rejects the draw.

# %%
#| export
def scene_stage(scene: Scene, poses: dict[str, np.ndarray]) -> Stage:
    "All cameras of a scene one after the other, for the renderer."
    solids, world = scene_solids(scene), scene.world
    repeated = np.tile(solids.world_from_solid, (len(poses), 1, 1, 1))
    w2c = np.concatenate(list(poses.values()))
    return Stage(dataclasses.replace(solids, world_from_solid=repeated), world.room,
                 np.tile(world.K, (len(w2c), 1, 1)), w2c,
                 world.height, world.width)


# %% [markdown]
# Rules on geometry were coarse, so pixels decide. An object that covers less than 0.15 % of the picture, nineteen pixels at
# 112 × 112, in more than half of the frames cannot be asked about. The draw is repeated with the same generator, which has
# moved on; the clip still depends on nothing but seed and number.

# %%
#| export
def _all_shown(scene: Scene, instances: np.ndarray, min_visible: float) -> bool:
    """Whether the first camera shows every object on `min_visible` of the picture in at least half of the
    frames."""
    first = instances[:len(scene.w2c)]
    share = np.stack([(first == number + 1).mean((1, 2)) for number in range(len(scene.actors))])
    return bool(((share >= min_visible).mean(1) >= 0.5).all())


# %% [markdown]
# The record says what was asked: domain, camera program and object programs are kept in `meta`. Questions must not read them,
# they measure geometry; but balance and error analysis may.

# %%
#| export
def _record(scene: Scene, poses: dict[str, np.ndarray], pictures: tuple[np.ndarray, ...], name: str,
            meta: dict) -> Clip:
    "The clip of a rendered scene."
    world, frames = scene.world, len(scene.w2c)
    views = tuple(View(camera, world.K, w2c, world.height, world.width,
                       *(array[number * frames:(number + 1) * frames] for array in pictures))
                  for number, (camera, w2c) in enumerate(poses.items()))
    objects = tuple(SceneObject(number, actor.label, f'{actor.colour} {actor.label}', actor.size_m,
                                actor.world_from_object,
                                np.ones(frames, bool), SHAPES[actor.label].agent)
                    for number, actor in enumerate(scene.actors, 1))
    meta = meta | {'domain': world.domain_name, 'camera_program': scene.camera_program,
                   'object_programs': {str(number): actor.program for number,
                                       actor in enumerate(scene.actors, 1)}}
    return Clip(name, views, objects, world.times_s, UP, 'simulator', 'Apache-2.0', meta)


# %% [markdown]
# One function makes one clip. Two hundred failed draws in a row mean that the request contradicts itself, and the error says which
# rule failed last.

# %%
#| export
def simulate_clip(seed: int, preset: Preset, index: int = 0, **requests) -> Clip:
    """Clip `index` of the series `seed`; `requests` are fields of `Request`, e.g. camera_program='pan_left'.

    The same seed, index, preset and requests give the same bytes. InputError if no scene satisfies the request."""
    request, reason = check_request(requests), ''
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    for attempt in range(ATTEMPTS):
        try:
            scene = _draw(rng, preset, request)
            poses = rig_poses(scene, request)
        except Rejected as rejection:
            reason = str(rejection)
            continue
        pictures = render([scene_stage(scene, poses)], request.device, request.smooth)[0]
        if _all_shown(scene, pictures[2], request.min_visible):
            meta = {'seed': seed, 'index': index, 'attempts': attempt + 1, 'rig': request.rig}
            return _record(scene, poses, pictures, f'simulated_{seed}_{index:06d}', meta)
        reason = 'an object is hidden'
    raise InputError(f'simulate_clip: no scene fits {requests} after {ATTEMPTS} tries '
                     f'(last: {reason}); ask for less')


# %%
#| export
def simulate_clips(count: int, seed: int, preset: Preset, start: int = 0, **requests) -> Iterator[Clip]:
    "Clips start … start + count − 1 of the series `seed`, one at a time."
    for index in range(start, start + count): yield simulate_clip(seed, preset, index, **requests)


# %%
preset = load_preset('tiny')
clip = simulate_clip(0, preset, 1, domain='driving')
again = simulate_clip(0, preset, 1, domain='driving')
assert clip.view.frames.tobytes() == again.view.frames.tobytes() and clip.meta == again.meta
clip

# %% [markdown]
# Six camera programs, first and last frame of each. The change from left to right should be nameable at a glance:

# %%
figure, axes = plt.subplots(2, 6, figsize=(9.5, 3.4), dpi=56)
for column, program in enumerate(('forward', 'left', 'pan_right', 'tilt_up', 'roll_clockwise', 'orbit_left')):
    shown = simulate_clip(3, preset, column, domain='open', camera_program=program)
    for row, frame in ((0, 0), (1, -1)):
        axes[row, column].imshow(shown.view.frames[frame])
        axes[row, column].set(xticks=[], yticks=[], title=program if row == 0 else '')
    assert shown.meta['camera_program'] == program
figure.tight_layout()

# %% [markdown]
# ## Truth that agrees with itself
#
# Every pixel of an object, unprojected, must lie in that object's box. The pixels of a ring's cameras must describe one world:
# points seen by one camera land at the right depth in another.

# %%
ring = simulate_clip(5, preset, 0, domain='open', rig='ring', views=4)
figure, axes = plt.subplots(1, 4, figsize=(9.5, 2.5), dpi=72)
for axis, view in zip(axes, ring.views):
    axis.imshow(view.frames[3])
    axis.set(title=view.name, xticks=[], yticks=[])
    for item in ring.objects:
        mask = view.instances[3] == item.id
        xyz = unproject(view.K, view.w2c[3], pixel_centers(112, 112)[mask],
                        view.depth_m[3][mask].astype(float))
        pose = item.world_from_object[3]
        assert (np.abs((xyz - pose[:3, 3]) @ pose[:3, :3]) < item.size_m / 2 + 1e-3).all()

# %% [markdown]
# In a stereo pair, a point at depth z moves by f·B/z columns and stays in its row:

# %%
pair = simulate_clip(6, preset, 0, domain='indoor', rig='stereo', baseline_m=0.25)
left, right = pair.views
xyz = unproject(left.K, left.w2c[0], pixel_centers(112, 112).reshape(-1, 2),
                left.depth_m[0].reshape(-1).astype(float))
shift = pixel_centers(112, 112).reshape(-1, 2) - project(right.K, right.w2c[0], xyz)[0]
figure, axes = plt.subplots(1, 3, figsize=(8, 2.6), dpi=80)
for axis, image, title in zip(axes, (left.frames[0], right.frames[0], shift[:, 0].reshape(112, 112)),
                              ('left', 'right', 'disparity (px)')):
    axis.imshow(image)
    axis.set(title=title, xticks=[], yticks=[])
assert np.allclose(shift[:, 0], left.K[0, 0] * 0.25 / left.depth_m[0].ravel(),
                   atol=1e-6) and np.abs(shift[:, 1]).max() < 1e-6


# %% [markdown]
# ## Writing
#
# A series is a folder of clips. A clip's folder appears whole or not at all, so a run that was killed can simply be started
# again. `series.json` keeps two series from being mixed; the manifest holds a hash of every clip.
#
# Killed means killed: with `kill -9` nobody tidies up. Two things stay behind, and both are dealt with. Worker processes would
# wait for ever for their dead parent, so each watches it and leaves with it. The clip being written is left under its temporary
# name; the next run removes such remains before it starts.

# %%
#| export
def _start_worker() -> None:
    "One thread per worker, and a watch that ends the worker with its parent, however that ends."
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    def watch():
        parent.join()
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()

def _remove(remains: Path) -> None:
    "Remove what a killed run left under a temporary name, a folder or a file."
    if remains.is_dir(): shutil.rmtree(remains, ignore_errors=True)
    else: remains.unlink(missing_ok=True)


# %% [markdown]
# A worker writes one clip, or finds it there already, and answers with its line of the manifest. The hash covers the names
# and the bytes of all files in the clip's folder, so two series are equal exactly if their manifests are.

# %%
#| export
def _write_one(job: tuple) -> dict:
    "Write one clip unless it is there already; its line of the manifest."
    folder, seed, preset, requests, index = job
    target = Path(folder) / f'clip_{index:06d}'
    if not (target / 'clip.json').exists(): save_clip(simulate_clip(seed, preset, index, **requests), target)
    digest = hashlib.sha256()
    for path in sorted(target.iterdir()): digest.update(path.name.encode() + b'\0' + path.read_bytes())
    meta = read_json(target / 'clip.json')['meta']
    return {'path': target.name, 'sha256': digest.hexdigest(), 'domain': meta['domain'],
            'camera_program': meta['camera_program']}


# %%
#| export
def write_clips(folder: Path | str, count: int, seed: int, preset: Preset, workers: int = 1,
                **requests) -> Path:
    """Write clips 0 … count − 1 as folder/clip_000000, … and manifest.json, whose path is returned.

    Clips that are there already are kept, so a killed run can be started again; `workers` changes no byte.
    InputError if the folder holds another series."""
    check_request(requests)
    if count < 1 or workers < 1:
        raise InputError(f'write_clips: count = {count}, workers = {workers}; both must be at least 1')
    folder = Path(folder)
    series = {'seed': seed, 'preset': {key: getattr(preset, key) for key in PRESET_KEYS},
              'requests': {key: list(value) if isinstance(value, tuple) else value
                           for key, value in requests.items()}}
    if (folder / 'series.json').exists() and read_json(folder / 'series.json') != series:
        raise InputError(f'{folder}: holds clips of another seed, preset or request; choose an empty folder')
    write_json(folder / 'series.json', series)
    for remains in folder.glob('.*.partial-*'): _remove(remains)
    jobs = [(str(folder), seed, preset, requests, index) for index in range(count)]
    bar = dict(total=count, unit='clip', disable=None)
    if workers == 1: lines = list(tqdm(map(_write_one, jobs), **bar))
    else:
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
            lines = list(tqdm(pool.map(_write_one, jobs, chunksize=4), **bar))
    write_json(folder / 'manifest.json', {'series': series, 'clips': lines})
    return folder / 'manifest.json'


# %%
with tempfile.TemporaryDirectory() as folder:
    first = read_json(write_clips(Path(folder) / 'a', 3, 0, preset))
    second = read_json(write_clips(Path(folder) / 'b', 3, 0, preset, smooth=True))
assert [line['sha256'] for line in first['clips']] == [line['sha256'] for line in second['clips']]
print(first['clips'][0])

# %% [markdown]
# ## What we proved
#
# * the same seed and number give the same bytes, alone or in a series
# * unprojected object pixels lie in their object's box, from every camera of a ring
# * disparity is f·B/z
#
# ## Try it
#
# 1. Draw 200 clips without requests and count the programs. Is the mixture the one you would train on?
# 2. Ask for `domain='heldout'` and for `'open'` with the same seed. What would a model trained on one miss in the other?
#
# <details><summary>Solutions</summary>
#
# 1. `Counter(clip.meta['camera_program'] for clip in simulate_clips(200, 0, preset))`. The draw is uniform over
#    programs, but rejected scenes are drawn again, so programs that spoil scenes are rarer in what is left.
# 2. Whatever differs in look and shape: same seed, same paths of the generator, other kinds and textures. A model
#    that named things by their usual colour or place in one has nothing to hold on to in the other.
#
# </details>
