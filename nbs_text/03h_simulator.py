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
# * **Before this** `03c_raycasting`, `03g_scenes`

# %%
#| export
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from track4d_ref.clips import Clip, SceneObject, View
from track4d_ref.domains import DOMAINS
from track4d_ref.presets import Preset
from track4d_ref.programs import CAMERA_PROGRAMS, OBJECT_PROGRAMS
from track4d_ref.raycasting import render
from track4d_ref.scenes import Rejected, Scene, sample_scene, scene_solids
from track4d_ref.shapes import SHAPES
from track4d_ref.stages import Stage
from track4d_ref.storage import InputError

# %%
#| export
TRAINING_DOMAINS = ('open', 'open', 'driving', 'indoor', 'tossed')
ATTEMPTS = 200

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
    min_visible: float = 0.0015                      # of the picture, in half the frames, for every object
    smooth: bool = True                              # antialiased colours
    device: str = 'cpu'

def _checked(requests: dict) -> Request:
    known = [field.name for field in dataclasses.fields(Request)]
    for name in requests:
        if name not in known: raise InputError(f'simulate_clip: unknown request {name!r}; choose from {", ".join(known)}')
    request = Request(**requests)
    if request.domain not in (None, *DOMAINS):
        raise InputError(f'simulate_clip: domain {request.domain!r} does not exist; choose from {", ".join(DOMAINS)}')
    for name in (request.camera_program or 'static').split('+'):
        if name not in CAMERA_PROGRAMS:
            raise InputError(f'simulate_clip: camera_program {name!r} does not exist; combine {", ".join(CAMERA_PROGRAMS)} with +')
    for name in request.object_programs or ():
        if name not in OBJECT_PROGRAMS:
            raise InputError(f'simulate_clip: object program {name!r} does not exist; choose from {", ".join(OBJECT_PROGRAMS)}')
    return request


# %%
#| export
def _draw(rng: np.random.Generator, preset: Preset, request: Request) -> Scene:
    "One try at a scene; raises Rejected."
    domain = request.domain or str(rng.choice(TRAINING_DOMAINS))
    count = request.objects or len(request.object_programs or ()) or int(rng.integers(preset.objects_min, preset.objects_max + 1))
    programs = request.object_programs
    if programs is not None and len(programs) != count:
        raise InputError(f'simulate_clip: {len(programs)} object_programs for {count} objects; give one per object')
    height, width = request.height or preset.resolution, request.width or preset.resolution
    times_s = np.arange(preset.frames) / preset.fps
    return sample_scene(rng, domain, request.camera_program, programs, count, height, width, times_s, request.roll_rad)

def _stage(scene: Scene) -> Stage:
    return Stage(scene_solids(scene), scene.room, np.tile(scene.K, (len(scene.w2c), 1, 1)), scene.w2c, scene.height, scene.width)

def _shown(instances: np.ndarray, count: int, min_visible: float) -> bool:
    "Whether every object covers `min_visible` of the picture in at least half of the frames."
    share = np.stack([(instances == number + 1).mean((1, 2)) for number in range(count)])
    return bool(((share >= min_visible).mean(1) >= 0.5).all())


# %%
#| export
def simulate_clip(seed: int, preset: Preset, index: int = 0, **requests) -> Clip:
    """Clip `index` of the series `seed`; `requests` are the fields of `Request`, e.g. camera_program='pan_left'.

    The same seed, index, preset and requests give the same bytes. Raises InputError if no scene satisfies the request."""
    request = _checked(requests)
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    reason = 'an object is hidden'
    for attempt in range(ATTEMPTS):
        try: scene = _draw(rng, preset, request)
        except Rejected as rejection:
            reason = str(rejection)
            continue
        pictures = render([_stage(scene)], request.device, request.smooth)[0]
        if _shown(pictures[2], len(scene.actors), request.min_visible):
            return _clip(scene, pictures, f'simulated_{seed}_{index:06d}', {'seed': seed, 'index': index, 'attempts': attempt + 1})
    raise InputError(f'simulate_clip: no scene fits {request} after {ATTEMPTS} tries (last: {reason}); ask for less')

def simulate_clips(count: int, seed: int, preset: Preset, start: int = 0, **requests) -> Iterator[Clip]:
    "Clips start … start + count − 1 of the series `seed`, one at a time."
    for index in range(start, start + count): yield simulate_clip(seed, preset, index, **requests)


# %%
#| export
def _clip(scene: Scene, pictures: tuple[np.ndarray, ...], name: str, meta: dict) -> Clip:
    "The record of a rendered scene."
    frames, depth_m, instances = pictures
    view = View('camera', scene.K, scene.w2c, scene.height, scene.width, frames, depth_m, instances)
    everywhere = np.ones(len(scene.times_s), bool)
    objects = tuple(SceneObject(number + 1, actor.label, f'{actor.colour} {actor.label}', actor.size_m, actor.world_from_object,
                                everywhere, SHAPES[actor.label].agent) for number, actor in enumerate(scene.actors))
    meta = meta | {'domain': scene.domain, 'camera_program': scene.camera_program,
                   'object_programs': {str(number + 1): actor.program for number, actor in enumerate(scene.actors)}}
    return Clip(name, (view,), objects, scene.times_s, np.array([0.0, 0.0, 1.0]), 'simulator', 'Apache-2.0', meta)
