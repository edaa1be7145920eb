"""Clips: determinism, writing, requests, and the truth agreeing with itself."""
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from track4d_ref.cameras import invert_pose, pixel_centers, project, transform, unproject
from track4d_ref.clips import check_clip, load_clip, save_clip
from track4d_ref.presets import load_preset
from track4d_ref.programs import CAMERA_PROGRAMS, ROTATIONS, TRANSLATIONS
from track4d_ref.simulator import simulate_clip, simulate_clips, write_clips
from track4d_ref.storage import InputError
from track4d_ref.tracks import object_points, track_points

torch.set_num_threads(1)
TINY = load_preset('tiny', ('frames=6',))
DOMAINS = ('open', 'driving', 'indoor', 'tossed', 'heldout')


def random_clip(index: int):
    "Clip `index` of a series with non-square pictures, rolled cameras and every domain."
    rng = np.random.default_rng(index)
    height, width = (int(side) for side in rng.choice([48, 56, 72, 90], 2, replace=False))
    return simulate_clip(17, TINY, index, domain=DOMAINS[index % 5], height=height, width=width,
                         roll_rad=float(rng.uniform(-0.5, 0.5)), smooth=False)


def inside_share(clip) -> tuple[int, int]:
    "Pixels of all instances, and how many of them unproject into their object's box (2 mm of tolerance)."
    view, within, total = clip.view, 0, 0
    uv = pixel_centers(view.height, view.width)
    for item in clip.objects:
        for frame in range(clip.frames_count):
            mask = view.instances[frame] == item.id
            xyz = unproject(view.K, view.w2c[frame], uv[mask], view.depth_m[frame][mask].astype(float))
            local = transform(invert_pose(item.world_from_object[frame]), xyz)
            within += int((np.abs(local) <= item.size_m / 2 + 0.002).all(1).sum())
            total += int(mask.sum())
    return within, total


def warp_error(clip) -> float:
    """Median |depth after warping − depth seen| / depth of background pixels, first to last frame; NaN if none stay.

    Between pixel centres the depth seen is interpolated as 1/z, which is linear in the picture on a plane."""
    view, last = clip.view, clip.frames_count - 1
    still = (view.instances[0] == 0) & np.isfinite(view.depth_m[0])
    uv = pixel_centers(view.height, view.width)[still]
    there, depth = project(view.K, view.w2c[last], unproject(view.K, view.w2c[0], uv,
                                                             view.depth_m[0][still].astype(float)))
    column, row = np.floor(there - 0.5).astype(int).T
    seen = (depth > 0.1) & (column >= 0) & (column < view.width - 1) & (row >= 0) & (row < view.height - 1)
    row, column, depth, (right, down) = row[seen], column[seen], depth[seen], (there[seen] - 0.5).T % 1
    corners = [(row + i, column + j) for i in (0, 1) for j in (0, 1)]
    kept = np.all([(view.instances[last][place] == 0) & np.isfinite(view.depth_m[last][place])
                   for place in corners], 0)
    weights = (1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right
    with np.errstate(divide='ignore'):             # beside the sky, which is not kept
        found = 1 / sum(weight / view.depth_m[last][place] for weight, place in zip(weights, corners))
    return float(np.median((np.abs(found - depth) / depth)[kept])) if kept.sum() > 20 else float('nan')


def visibility_agreement(clip) -> np.ndarray:
    """Points of all objects' first frame, followed to the last and compared with a plain depth test at the nearest
    pixel. Counts (3,): points where both say the same or an edge runs through the pixel next to it and the track is
    the more lenient; points hidden by the track but seen by the test; all points."""
    view, last, counts = clip.view, clip.frames_count - 1, np.zeros(3, int)
    uv, size = pixel_centers(view.height, view.width), np.array([view.width, view.height])
    for item in clip.objects:
        mask = view.instances[0] == item.id
        xyz = unproject(view.K, view.w2c[0], uv[mask], view.depth_m[0][mask].astype(float))
        points = transform(invert_pose(item.world_from_object[0]), xyz)
        track = track_points(clip, object_points(clip, item.id, points))
        assert track.visible[0].all()
        place, depth, visible = np.floor(track.uv_px[last]).astype(int), track.depth_m[last], track.visible[last]
        inside = (depth > 0) & ((place >= 0) & (place < size)).all(1)
        patch = np.stack([view.depth_m[last][tuple((place + (i, j)).clip(0, size - 1).T[::-1])]
                          for i in (-1, 0, 1) for j in (-1, 0, 1)])
        seen = inside & (depth * 0.99 <= patch[4])
        edge = patch.max(0) > 1.01 * patch.min(0)
        counts += ((visible == seen) | (edge & visible)).sum(), (seen & ~visible).sum(), len(points)
    return counts


def check_truth(count: int) -> None:
    within = total = 0
    errors, judged = [], np.zeros(3, int)
    for index in range(count):
        clip = random_clip(index)
        check_clip(clip)
        assert len({item.caption for item in clip.objects}) == len(clip.objects)
        a, b = inside_share(clip)
        assert a >= 0.98 * b, clip.id
        within, total = within + a, total + b
        judged += visibility_agreement(clip)
        errors.append(warp_error(clip))
    errors = np.array(errors)
    print(f'{count} clips: {within / total:.5%} of {total} object pixels inside their box; '
          f'background warp error median {np.nanmedian(errors):.3%}, worst clip {np.nanmax(errors):.3%}; '
          f'visibility agrees with a depth test for {judged[0] / judged[2]:.3%} of {judged[2]} points, '
          f'{judged[1]} seen ones are called hidden')
    assert judged[0] >= 0.995 * judged[2] and judged[1] <= 0.001 * judged[2]
    assert within >= 0.995 * total
    assert np.isfinite(errors).mean() > 0.8 and np.nanmax(errors) < 0.01


def test_truth_agrees_with_itself(): check_truth(50)


@pytest.mark.slow
def test_truth_agrees_with_itself_on_500_clips(): check_truth(500)


@pytest.mark.parametrize('frames,height,width,domain', [(1, 48, 64, 'open'), (2, 120, 40, 'indoor'),
                                                        (1, 16, 240, 'driving'), (3, 33, 51, 'heldout')])
def test_odd_sizes_and_single_frames_are_true_as_well(frames, height, width, domain, tmp_path):
    preset = dataclasses.replace(TINY, frames=frames)
    programs = dict(camera_program='static', object_programs=('static',)) if frames == 1 else {}
    clip = simulate_clip(31, preset, 0, domain=domain, height=height, width=width, roll_rad=-0.3, min_visible=0.0,
                         smooth=False, **programs)
    check_clip(clip)
    a, b = inside_share(clip)
    assert clip.view.frames.shape == (frames, height, width, 3) and a >= 0.99 * b
    save_clip(clip, tmp_path / 'clip')
    assert (load_clip(tmp_path / 'clip').view.depth_m == clip.view.depth_m).all()


def test_stereo_disparity_is_focal_times_baseline_over_depth():
    for index, domain in enumerate(DOMAINS):
        clip = simulate_clip(3, TINY, index, domain=domain, rig='stereo', baseline_m=0.2, height=60,
                             width=100)
        left, right = clip.views
        uv = pixel_centers(60, 100)
        finite = np.isfinite(left.depth_m[2])
        xyz = unproject(left.K, left.w2c[2], uv[finite], left.depth_m[2][finite].astype(float))
        there, depth = project(right.K, right.w2c[2], xyz)
        assert np.allclose(uv[finite][:, 0] - there[:, 0], left.K[0, 0] * 0.2 / left.depth_m[2][finite],
                           atol=1e-6)
        assert np.allclose(there[:, 1], uv[finite][:, 1], atol=1e-6) and np.allclose(depth,
            left.depth_m[2][finite], atol=1e-5)
        column, row = np.floor(there).astype(int).T
        seen = (column >= 0) & (column < 100)
        found = right.depth_m[2][row[seen], column[seen]]
        assert np.median(np.abs(found - depth[seen]) / depth[seen]) < 0.01


@pytest.mark.parametrize('views', [2, 7])
def test_rings_see_the_same_world(views):
    clip = simulate_clip(5, TINY, 0, domain='open', rig='ring', views=views, camera_program='right',
                         height=64, width=90)
    check_clip(clip)
    assert len(clip.views) == views
    centres = np.stack([invert_pose(view.w2c)[:, :3, 3] for view in clip.views])
    assert (np.linalg.norm(centres[:, -1] - centres[:, 0], axis=-1) > 0.5).all()
    assert np.allclose(centres[..., 2], centres[:1, :, 2])
    for view in clip.views:
        a, b = inside_share(dataclasses.replace(clip, views=(view,)))
        assert b > 0 and a >= 0.995 * b


def test_clips_depend_on_seed_and_index_only():
    series = list(simulate_clips(3, 7, TINY))
    again = simulate_clip(7, TINY, 2)
    for key in ('frames', 'depth_m', 'instances', 'w2c', 'K'):
        assert getattr(series[2].view, key).tobytes() == getattr(again.view, key).tobytes()
    assert again.meta == series[2].meta
    assert not np.array_equal(series[0].view.frames, series[1].view.frames)
    assert not np.array_equal(simulate_clip(8, TINY, 2).view.frames, again.view.frames)
    assert all(clip.meta['domain'] != 'heldout' for clip in simulate_clips(12, 1, TINY, smooth=False))


def contents(folder) -> dict:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*')
            if path.is_file()}


def test_written_series_do_not_depend_on_workers_or_interruption(tmp_path):
    one = write_clips(tmp_path / 'one', 4, 0, TINY, workers=1)
    two = write_clips(tmp_path / 'two', 4, 0, TINY, workers=2)
    assert contents(one.parent) == contents(two.parent) and len(contents(one.parent)) > 8
    manifest = json.loads(one.read_text())
    assert [line['path'] for line in manifest['clips']] == [f'clip_{index:06d}' for index in range(4)]
    assert load_clip(one.parent / 'clip_000003').meta['index'] == 3
    shutil.rmtree(two.parent / 'clip_000002')
    (two.parent / 'manifest.json').unlink()
    kept = (two.parent / 'clip_000001' / 'view0.npz').stat().st_mtime_ns
    write_clips(two.parent, 4, 0, TINY)
    assert contents(one.parent) == contents(two.parent)
    assert (two.parent / 'clip_000001' / 'view0.npz').stat().st_mtime_ns == kept
    with pytest.raises(InputError, match='another seed'): write_clips(two.parent, 4, 1, TINY)


SERIES = """
import sys
from track4d_ref.presets import load_preset
from track4d_ref.simulator import write_clips
if __name__ == '__main__':
    write_clips(sys.argv[1], 12, 0, load_preset('tiny', ('frames=6',)), workers=2)
"""


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on this system')
def test_a_killed_run_leaves_no_worker_and_its_restart_gives_the_same_folder(tmp_path):
    script, killed = tmp_path / 'series.py', tmp_path / 'killed'
    script.write_text(SERIES)
    process = subprocess.Popen([sys.executable, str(script), str(killed)], start_new_session=True,
                               stderr=subprocess.DEVNULL)
    while not list(killed.glob('clip_*')): time.sleep(0.05)
    process.kill()
    process.wait()
    for _ in range(200):                                # the workers notice that their parent is gone
        try: os.killpg(process.pid, 0)
        except ProcessLookupError: break
        time.sleep(0.05)
    else: pytest.fail('workers outlive the killed run')
    assert not (killed / 'manifest.json').exists()
    (killed / '.clip_000011.partial-abc').mkdir()       # what a kill in the middle of writing leaves
    (killed / '.manifest.json.partial-xyz.json').write_text('{')
    write_clips(killed, 12, 0, TINY)
    write_clips(tmp_path / 'whole', 12, 0, TINY, workers=2)
    assert contents(killed) == contents(tmp_path / 'whole')
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in (tmp_path / 'whole').iterdir())


def relative_motion(clip) -> tuple[np.ndarray, np.ndarray]:
    """Translation in the first camera's axes and (pan, tilt, roll) in degrees, from the first to the last
    frame."""
    first, last = clip.view.w2c[0], clip.view.w2c[-1]
    rotation = first[:3, :3] @ last[:3, :3].T
    angles = np.arctan2(rotation[0, 2],
                        rotation[2, 2]), -np.arcsin(rotation[1, 2]), np.arctan2(rotation[1, 0],
                            rotation[1, 1])
    return first[:3, :3] @ (invert_pose(last)[:3, 3] - invert_pose(first)[:3, 3]), np.degrees(angles)


@pytest.mark.parametrize('program', CAMERA_PROGRAMS)
def test_requested_camera_motion_shows(program):
    for index in range(2):
        clip = simulate_clip(11, TINY, index, domain='open', camera_program=program, height=56, width=80,
                             roll_rad=0.2)
        assert clip.meta['camera_program'] == program
        shift, angles = relative_motion(clip)
        if program in TRANSLATIONS: assert shift @ TRANSLATIONS[program] > 0.6 and np.abs(angles).max() < 1e-6
        elif program in ROTATIONS: assert angles @ ROTATIONS[program] > 11 and np.abs(shift).max() < 1e-9
        elif program == 'orbit_right': assert shift[0] > 0.8 and angles[0] < -15
        elif program == 'orbit_left': assert shift[0] < -0.8 and angles[0] > 15
        elif program == 'follow': assert np.linalg.norm(shift) > 0.6
        elif program == 'static': assert np.abs(shift).max() < 1e-9 and np.abs(angles).max() < 1e-6
        else: assert 0 < np.linalg.norm(shift) < 0.1


@pytest.mark.parametrize('program', ['static', 'straight', 'curved', 'accelerating', 'turning_left',
                                     'turning_right', 'reversing',
                                     'spinning_left', 'spinning_right', 'tossed'])
def test_requested_object_motion_shows(program):
    clip = simulate_clip(13, TINY, 0, object_programs=(program, 'static'), height=56, width=80)
    assert clip.meta['object_programs'] == {'1': program, '2': 'static'}
    pose = clip.object(1).world_from_object
    path = np.linalg.norm(np.diff(pose[:, :3, 3], axis=0), axis=1).sum()
    yaw = np.degrees(np.unwrap(np.arctan2(pose[:, 1, 0], pose[:, 0, 0]))[[0, -1]])
    assert np.ptp(clip.object(2).world_from_object, axis=0).max() == 0
    if program in ('static', 'spinning_left', 'spinning_right'): assert path < 1e-9
    else: assert path > 0.6
    if program.startswith('turning'): assert clip.object(1).agent
    if program.endswith('_left'): assert yaw[1] - yaw[0] > 50
    if program.endswith('_right'): assert yaw[1] - yaw[0] < -50
    if clip.object(1).agent and program != 'reversing': assert (np.diff(pose[:, :3, 3],
        axis=0)[0] @ pose[0, :3, 0]) >= 0
    if program == 'tossed': assert np.ptp(pose[:, 2, 3]) > 0.2


@pytest.mark.parametrize('requests,word', [
    (dict(domain='moon'), 'domain'), (dict(colour='red'), 'colour'), (dict(camera_program='forward+fly'),
                                                                      'fly'),
    (dict(objects=99), 'objects'), (dict(objects=3, object_programs=('static',)),
                                    'one per object'), (dict(rig='ring', views=9), 'views'),
    (dict(height=4), 'height'), (dict(object_programs=('jump',)), 'jump'), (dict(physics='magic'), 'physics'),
    (dict(domain='tossed', object_programs=('turning_left',)), 'no scene')])
def test_impossible_requests_are_one_clear_sentence(requests, word):
    with pytest.raises(InputError, match=word) as error: simulate_clip(0, TINY, **requests)
    assert '\n' not in str(error.value)


def test_tossed_with_mujoco():
    pytest.importorskip('mujoco', reason='the extra `physics` is not installed')
    clip = simulate_clip(2, TINY, domain='tossed', object_programs=('tossed',), physics='mujoco')
    heights = clip.object(1).centers_m[:, 2]
    assert heights.min() > 0.1 and np.ptp(heights) > 0.2
    a, b = inside_share(clip)
    assert a >= 0.995 * b


def test_missing_mujoco_is_said(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'mujoco', None)
    with pytest.raises(InputError, match='physics'):
        simulate_clip(2, TINY, domain='tossed', object_programs=('tossed',), physics='mujoco')
