"""Clips per second of the simulator beside renderers that people use instead, in one run, on the same scenes.

    python benchmarks/simulator.py --clips 40 --workers 2

Every contender draws the same solids, cameras and picture size and returns colour, depth and instances. Ours is
timed as a whole (drawing the scene, rejection, rendering) and for rendering alone; the others' scenes are given to
them, and loading them is timed apart. The others take one sample per pixel, as ours does without antialiasing.
PyBullet, MuJoCo and trimesh with embree take part where they are installed:
pip install pybullet mujoco trimesh embreex"""
import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from track4d_ref.presets import load_preset
from track4d_ref.raycasting import render
from track4d_ref.runcard import run_card
from track4d_ref.simulator import _draw, check_request, rig_poses, scene_stage
from track4d_ref.scenes import Rejected
from track4d_ref.simulator import simulate_clip
from track4d_ref.solids import BOX, ELLIPSOID

DOMAIN = 'open'


def draw_stage(preset, seed: int, index: int):
    request = check_request({'domain': DOMAIN})
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    while True:
        try:
            scene = _draw(rng, preset, request)
            return scene_stage(scene, rig_poses(scene, request))
        except Rejected: continue


def unit_mesh(kind: int, taper: float) -> tuple[np.ndarray, np.ndarray]:
    "Vertices and triangles of a unit solid; round ones have 24 segments."
    import trimesh
    if kind == BOX: mesh = trimesh.creation.box(extents=(2, 2, 2))
    elif kind == ELLIPSOID: mesh = trimesh.creation.uv_sphere(radius=1, count=(12, 24))
    else:
        mesh = trimesh.creation.cylinder(radius=1, height=2, sections=24)
        mesh.vertices[mesh.vertices[:, 2] > 0, :2] *= max(taper, 1e-3)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


class Ours:
    name = 'track4d_ref'

    def load(self, preset, seed, index): return (preset, seed, index)

    def draw(self, job): return simulate_clip(job[1], job[0], job[2], domain=DOMAIN).view.frames.shape


class OursPlain(Ours):
    name = 'track4d_ref, no antialiasing'

    def draw(self, job): return simulate_clip(job[1], job[0], job[2], domain=DOMAIN,
                                              smooth=False).view.frames.shape


class OursRenderOnly(Ours):
    name = 'track4d_ref, rendering only'

    def load(self, preset, seed, index): return draw_stage(preset, seed, index)

    def draw(self, stage): return render([stage])[0][0].shape


class OursRenderOnlyPlain(OursRenderOnly):
    name = 'track4d_ref, rendering only, no antialiasing'

    def draw(self, stage): return render([stage], smooth=False)[0][0].shape


class PyBullet:
    "TinyRenderer, PyBullet's software renderer, with its shadows."
    name = 'PyBullet TinyRenderer'

    def __init__(self):
        import pybullet
        self.p, self.client = pybullet, pybullet.connect(pybullet.DIRECT)

    def load(self, preset, seed, index):
        p, stage = self.p, draw_stage(preset, seed, index)
        p.resetSimulation()
        bodies, solids = [], stage.solids
        floor = p.createVisualShape(p.GEOM_BOX, halfExtents=[20, 20, 0.01], rgbaColor=[0.6, 0.6, 0.6, 1])
        p.createMultiBody(baseVisualShapeIndex=floor, basePosition=[0, 0, -0.01])
        for s in range(len(solids.kind)):
            vertices, faces = unit_mesh(solids.kind[s], solids.taper[s])
            shape = p.createVisualShape(p.GEOM_MESH, vertices=(vertices * solids.half_m[s]).tolist(),
                                        indices=faces.ravel().tolist(),
                                        rgbaColor=[*np.sqrt(solids.colours[s, 1]), 1])
            bodies.append(p.createMultiBody(baseVisualShapeIndex=shape))
        return stage, bodies

    def draw(self, job):
        stage, bodies = job
        p, height, width = self.p, stage.height, stage.width
        fy, near, far = stage.K[0, 1, 1], 0.05, 100.0
        projection = p.computeProjectionMatrixFOV(np.degrees(2 * np.arctan(height / 2 / fy)), width / height,
                                                  near, far)
        for frame in range(len(stage.w2c)):
            for body, pose in zip(bodies, stage.solids.world_from_solid[frame]):
                p.resetBasePositionAndOrientation(body, pose[:3, 3], quaternion(pose[:3, :3])[[1, 2, 3, 0]])
            view = (np.diag([1.0, -1, -1, 1]) @ stage.w2c[frame]).T.ravel().tolist()
            _, _, rgb, depth, segments = p.getCameraImage(width, height, view, projection,
                                                          lightDirection=stage.room.to_light.tolist(),
                                                          shadow=1, renderer=p.ER_TINY_RENDERER)
        return np.shape(rgb)


class MuJoCo:
    "mujoco.Renderer through OpenGL; depth and segmentation each take a pass of their own."
    name = 'MuJoCo renderer'

    def __init__(self):
        os.environ.setdefault('MUJOCO_GL', 'egl')
        import mujoco
        self.m = mujoco
        mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 16, 16).close()

    def load(self, preset, seed, index):
        stage, m = draw_stage(preset, seed, index), self.m
        kinds = {ELLIPSOID: 'ellipsoid', BOX: 'box'}
        geoms = ''.join('<body mocap="true"><geom type="{}" size="{} {} {}" rgba="{} {} {} 1"/></body>'.format(
            kinds.get(kind, 'cylinder'), *half, *np.sqrt(colours[1]))
            for kind, half, colours in zip(stage.solids.kind, stage.solids.half_m, stage.solids.colours))
        fovy = np.degrees(2 * np.arctan(stage.height / 2 / stage.K[0, 1, 1]))
        camera = f'<body mocap="true"><camera name="c" fovy="{fovy}"/></body>'
        model = m.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 5"/><geom type="plane" size="20 20 1"/>'
                                          f'{geoms}{camera}</worldbody></mujoco>')
        return stage, model, m.MjData(model), m.Renderer(model, stage.height, stage.width)

    def draw(self, job):
        stage, model, data, renderer = job
        for frame in range(len(stage.w2c)):
            camera = np.linalg.inv(np.diag([1.0, -1, -1, 1]) @ stage.w2c[frame])
            for number, pose in enumerate([*stage.solids.world_from_solid[frame], camera]):
                data.mocap_pos[number], data.mocap_quat[number] = pose[:3, 3], quaternion(pose[:3, :3])
            self.m.mj_forward(model, data)
            renderer.update_scene(data, 'c')
            rgb = renderer.render()
            for on, off in ((renderer.enable_depth_rendering, renderer.disable_depth_rendering),
                            (renderer.enable_segmentation_rendering,
                             renderer.disable_segmentation_rendering)):
                on()
                renderer.render()
                off()
        return rgb.shape



class Embree:
    "trimesh with embree: first hits of all rays, shaded by the normal; a shadow ray per hit as well."
    name = 'trimesh + embree'

    def __init__(self):
        import trimesh
        from trimesh.ray.ray_pyembree import RayMeshIntersector
        self.trimesh, self.intersector = trimesh, RayMeshIntersector

    def load(self, preset, seed, index):
        stage = draw_stage(preset, seed, index)
        solids = stage.solids
        return stage, [unit_mesh(kind, taper) for kind, taper in zip(solids.kind, solids.taper)]

    def draw(self, job):
        stage, meshes = job
        v, u = np.mgrid[:stage.height, :stage.width] + 0.5
        local = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(stage.K[0]).T
        floor = self.trimesh.creation.box(extents=(40, 40, 0.02))
        floor.vertices[:, 2] -= 0.01
        for frame in range(len(stage.w2c)):
            poses = stage.solids.world_from_solid[frame]
            vertices = [floor.vertices] + [(xyz * half) @ pose[:3, :3].T + pose[:3, 3]
                                           for (xyz, _), half, pose in zip(meshes, stage.solids.half_m,
                                               poses)]
            offsets = np.cumsum([0] + [len(part) for part in vertices[:-1]])
            faces = [floor.faces] + [triangles for _, triangles in meshes]
            owner = np.repeat(np.arange(-1, len(meshes)), [len(part) for part in faces])
            mesh = self.trimesh.Trimesh(np.concatenate(vertices),
                                        np.concatenate([f + o for f,
                                                        o in zip(faces, offsets)]), process=False)
            c2w = np.linalg.inv(stage.w2c[frame])
            rays = local @ c2w[:3, :3].T
            caster = self.intersector(mesh)
            triangle, ray, place = caster.intersects_id(np.tile(c2w[:3, 3], (len(rays), 1)), rays,
                                                        multiple_hits=False, return_locations=True)
            depth, instance = np.full(len(rays), np.inf), np.zeros(len(rays), np.int32)
            depth[ray] = ((place - c2w[:3, 3]) @ c2w[:3, 2])
            instance[ray] = np.append(stage.solids.instance, 0)[owner[triangle]]
            normal = mesh.face_normals[triangle]
            lit = ~caster.intersects_any(place + 1e-4 * normal, np.tile(stage.room.to_light, (len(place), 1)))
            shade = 0.4 + 0.6 * lit * (normal @ stage.room.to_light).clip(0)
            image = np.zeros((len(rays), 3), np.uint8)
            image[ray] = 255 * shade[:, None] * np.concatenate([np.sqrt(stage.solids.colours[:, 1]),
                                                                [[0.6] * 3]])[owner[triangle]]
        return image.shape


def quaternion(rotation: np.ndarray) -> np.ndarray:
    "Unit quaternion (w, x, y, z) of a rotation (3, 3)."
    values, vectors = np.linalg.eigh(np.array([
        [rotation[0, 0] - rotation[1, 1] - rotation[2, 2], 0, 0, 0],
        [rotation[0, 1] + rotation[1, 0], rotation[1, 1] - rotation[0, 0] - rotation[2, 2], 0, 0],
        [rotation[0, 2] + rotation[2, 0], rotation[1, 2] + rotation[2, 1],
         rotation[2, 2] - rotation[0, 0] - rotation[1, 1], 0],
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1],
         np.trace(rotation)]]))
    return vectors[[3, 0, 1, 2], np.argmax(values)]


def work(contender, preset, seed, indices, queue, gate):
    torch.set_num_threads(1)
    try: renderer = contender()
    except Exception as error:                 # absent or without a display: reported, not hidden
        queue.put((None, None, f'{type(error).__name__}: {error}', None))
        gate.wait()
        return
    renderer.draw(renderer.load(preset, seed, 10 ** 6))
    gate.wait()
    loading = drawing = processor = 0.0
    for index in indices:
        start = time.perf_counter()
        job = renderer.load(preset, seed, index)
        middle, used = time.perf_counter(), time.process_time()
        renderer.draw(job)
        loading, drawing = loading + middle - start, drawing + time.perf_counter() - middle
        processor += time.process_time() - used
    queue.put((loading, drawing, None, processor))


def measure(contender, preset, seed: int, clips: int, workers: int) -> dict:
    context = multiprocessing.get_context('spawn')
    queue, gate = context.Queue(), context.Barrier(workers)
    processes = [context.Process(target=work, args=(contender, preset, seed, range(k, clips, workers), queue,
                                                    gate))
                 for k in range(workers)]
    for process in processes: process.start()
    answers = [queue.get() for _ in processes]
    for process in processes: process.join()
    if answers[0][2]: return {'name': contender.name, 'absent': answers[0][2]}
    loading, drawing = (max(answer[k] for answer in answers) for k in (0, 1))
    return {'name': contender.name, 'clips_per_s': clips / drawing,
            'clips_per_s_with_loading': clips / (loading + drawing),
            'clips_per_core_s': clips / sum(answer[3] for answer in answers)}


def compare(rows: list[dict]) -> dict:
    "Our speed over the fastest other renderer's, with and without antialiasing."
    others = [row for row in rows[4:] if 'clips_per_s' in row]
    if not others: return {}
    best = {key: max(row[key] for row in others) for key in ('clips_per_s', 'clips_per_core_s')}
    return {row['name']: {'wall': row['clips_per_s'] / best['clips_per_s'],
                          'core': row['clips_per_core_s'] / best['clips_per_core_s']} for row in rows[:4]}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=int, default=40)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--preset', default='tiny')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', default='results/benchmark_simulator.json')
    options = parser.parse_args()
    preset = load_preset(options.preset)
    rows = [measure(contender, preset, options.seed, options.clips, options.workers)
            for contender in (Ours, OursPlain, OursRenderOnly, OursRenderOnlyPlain, PyBullet, MuJoCo, Embree)]
    for row in rows:
        if 'absent' in row: print(f'{row["name"]:46s} absent ({row["absent"].splitlines()[0][:80]})')
        else:
            print(f'{row["name"]:46s} {row["clips_per_s"]:7.1f} clips/s, {row["clips_per_s_with_loading"]:7.1f} with '
                  f'loading, {row["clips_per_core_s"]:7.1f} per second of one core')
    ratios = compare(rows)
    for name, values in ratios.items():
        print(f'{name}: {values["wall"]:.2f} times the fastest other by the clock, {values["core"]:.2f} by core time')
    command = ' '.join(['python', 'benchmarks/simulator.py', *sys.argv[1:]])
    record = run_card(command, preset, options.seed, clips=options.clips, workers=options.workers, domain=DOMAIN,
                      load_average=os.getloadavg()[0], rows=rows, ratios=ratios)
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    Path(options.out).write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__': main()
