"WildTrack and APIDIS: centimetres, grid cells, Rodrigues vectors, times with commas."
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from track4d_ref.cameras import camera_center, intrinsics, look_at, project
from track4d_ref.clips import check_clip
from track4d_ref.apidis import apidis_name_time_s, apidis_time_s, read_apidis, read_apidis_index
from track4d_ref.wildtrack import grid_place_m, position_place_m, read_wildtrack, rodrigues_pose, walking_headings, wildtrack_cameras
from track4d_ref.raw import read_picture
from track4d_ref.storage import InputError

DATA = Path(os.environ.get('TRACK4D_DATA', 'absent'))
wildtrack = pytest.mark.skipif(not (DATA / 'wildtrack').is_dir(), reason='TRACK4D_DATA has no wildtrack')


def write_wildtrack(root, people=None, xml=None):
    for name in ('annotations_positions', 'calibrations/intrinsic_zero', 'calibrations/extrinsic'): (root / name).mkdir(parents=True)
    for t in range(3):
        entries = [{'personID': 4, 'positionID': 100 + 480 * (200 + 30 * t)}] if people is None else people
        (root / f'annotations_positions/{5 * t:08d}.json').write_text(json.dumps(entries))
    for name in ('CVLab1', 'CVLab2', 'CVLab3', 'CVLab4', 'IDIAP1', 'IDIAP2', 'IDIAP3'):
        (root / f'calibrations/intrinsic_zero/intr_{name}.xml').write_text(
            '<?xml version="1.0"?><opencv_storage><camera_matrix type_id="opencv-matrix"><rows>3</rows><cols>3</cols>'
            '<data>1700. 0. 930. 0. 1710. 440. 0. 0. 1.</data></camera_matrix></opencv_storage>')
        (root / f'calibrations/extrinsic/extr_{name}.xml').write_text(
            xml or '<opencv_storage><rvec>0. 0. 1.5707963</rvec><tvec>100. -250. 300.</tvec></opencv_storage>')
    return root


def test_xml_calibration_and_annotated_people(tmp_path):
    clip = read_wildtrack(write_wildtrack(tmp_path), cameras=(0, 3))
    check_clip(clip)
    assert [view.name for view in clip.views] == ['CVLab1', 'CVLab4'] and clip.view.K[1, 1] == 1710
    assert np.allclose(clip.view.w2c[0, :3, 3], (1, -2.5, 3)) and np.allclose(clip.view.w2c[0, 1, 0], 1)     # centimetres → metres
    walker = clip.objects[0]
    assert np.allclose(walker.centers_m[:, :2], [(-3 + 2.5, -9 + 5 + 0.75 * t) for t in range(3)])            # x = ID % 480
    assert np.allclose(walker.world_from_object[1, :3, 0], (0, 1, 0), atol=1e-9) and np.allclose(clip.times_s, (0, 0.5, 1))
    assert clip.meta['identities'] == 'annotated'


def test_x_is_the_fast_index():
    assert np.allclose(position_place_m(np.array([479, 480 * 1439])), [(-3 + 2.5 * 4.79, -9), (-3, -9 + 2.5 * 14.39)])


@pytest.mark.parametrize('people', [
    {}, [3], [{'personID': 1}], [{'personID': 1, 'positionID': -5}], [{'personID': 1, 'positionID': 10 ** 9}],
    [{'personID': 1.5, 'positionID': 3}], [{'personID': 'a', 'positionID': 3}], [{'personID': 1, 'positionID': 3}] * 2])
def test_broken_annotations(tmp_path, people):
    with pytest.raises(InputError, match='json'): read_wildtrack(write_wildtrack(tmp_path, people))


@pytest.mark.parametrize('xml', [
    '<a>', '<a></a>', '<a><rvec>1 2</rvec><tvec>1 2 3</tvec></a>', '<a><rvec>1 2 nan</rvec><tvec>1 2 3</tvec></a>',
    '<!DOCTYPE a [<!ENTITY b "cc">]><a>&b;</a>', 'text', '<a><rvec/><tvec/></a>'])
def test_broken_calibration(tmp_path, xml):
    with pytest.raises(InputError, match='extr_CVLab1.xml'): read_wildtrack(write_wildtrack(tmp_path, xml=xml))


def test_apidis_times_index_and_floor(tmp_path):
    assert apidis_time_s('1,207,759,620.046000s', 'x') == 1207759620.046
    assert apidis_name_time_s('camera2_20080409T184700Z') == 1207759620         # local time, two hours ahead of UTC
    for text in ('', 'abc', '1;2', '1.2.3', '-5'):
        with pytest.raises(InputError): apidis_time_s(text, 'x')
    index = b'\0' * 12 + b''.join(struct.pack('<IIQII', 100, 40_000 * t, 999, t, 0) for t in range(4))
    (tmp_path / 'a.idx').write_bytes(index)
    assert np.allclose(read_apidis_index(tmp_path / 'a.idx'), 100 + 0.04 * np.arange(4))
    for broken in (index[:-1], index[:12], b'', index[:36] * 2):
        (tmp_path / 'a.idx').write_bytes(broken)
        with pytest.raises(InputError, match='a.idx'): read_apidis_index(tmp_path / 'a.idx')


def test_apidis_player_stands_where_the_box_ends(tmp_path):
    K, w2c = intrinsics(1000.0, 990.0, 800.0, 590.0), look_at((10, -8, 6), (14, 6, 0), (0, 0, 1), roll_rad=0.05)
    np.savez(tmp_path / 'cameras.npz', K=K[None], w2c=w2c[None])
    def write(y_offset=0.0, time='1,000.5s'):
        foot = project(K, w2c, np.array([[13.0, 5.0, 0]]))[0][0]
        (tmp_path / 'a.objects.xml').write_text(
            f'<o><track type="player" player-team="B"><position time="{time}"><x>{foot[0] - 15}</x><y>{foot[1] - 80 + y_offset}</y><w>30</w><h>80</h></position></track></o>')
        return tmp_path / 'a.objects.xml'
    clip = read_apidis(write(), tmp_path / 'cameras.npz')
    check_clip(clip)
    assert np.allclose(clip.objects[0].centers_m[0, :2], (13, 5), atol=1e-9) and clip.objects[0].caption == 'player of team B'
    with pytest.raises(InputError, match='calibration'): read_apidis(write())
    with pytest.raises(InputError, match='horizon'): read_apidis(write(-2000), tmp_path / 'cameras.npz')
    with pytest.raises(InputError, match='not a time'): read_apidis(write(time='noon'), tmp_path / 'cameras.npz')


@wildtrack
def test_painted_dots_meet_the_projected_grid():
    "Greenish dots on camera 1's picture, every 40 cells; only camera 1's calibration fits."
    picture = read_picture(DATA / 'wildtrack/cvlab1_frame0_with_grid_dots.png').astype(int)
    dot = (picture[..., 1] > picture[..., 0] + 60) & (picture[..., 1] > picture[..., 2] + 60)
    medians = []
    gx, gy = np.meshgrid(np.arange(0, 480, 40), np.arange(0, 1440, 40))
    ground = np.append(grid_place_m(gx.ravel(), gy.ravel()), np.zeros((gx.size, 1)), 1)
    for name, K, w2c in wildtrack_cameras(DATA / 'wildtrack'):
        uv_px, depth_m = project(K, w2c, ground)
        seen = (depth_m > 0) & (uv_px > 12).all(-1) & (uv_px < (1908, 1068)).all(-1)
        gaps = []
        for u, v in uv_px[seen]:
            rows, columns = np.nonzero(dot[int(v) - 12:int(v) + 12, int(u) - 12:int(u) + 12])
            if len(rows) >= 3: gaps.append(np.hypot(columns.mean() - 12 + 0.5 + int(u) - u, rows.mean() - 12 + 0.5 + int(v) - v))
        medians.append((np.median(gaps) if len(gaps) else np.inf, len(gaps) / max(seen.sum(), 1)))
        print(f'{name}: {len(gaps)} of {seen.sum()} grid points meet a dot within 12 px, median {medians[-1][0]:.2f} px')
    assert medians[0][0] <= 1.5 and medians[0][1] > 0.8 and all(share < 0.5 * medians[0][1] for _, share in medians[1:])


@wildtrack
def test_square_cameras_and_pseudo_tracks():
    clip = read_wildtrack(DATA / 'wildtrack')
    check_clip(clip)
    expected = [(9.10, -5.84, 2.89), (-1.14, 23.78, 1.99), (9.01, 17.71, 2.65), (9.00, -5.85, 2.77), (-3.99, 9.38, 1.68), (-1.63, -10.64, 2.25),
                (11.76, 1.87, 3.40)]
    assert np.allclose([camera_center(view.w2c[0]) for view in clip.views], expected, atol=0.006)
    people = sum(thing.present.sum() for thing in clip.objects)
    steps_m = np.concatenate([np.linalg.norm(np.diff(thing.centers_m, axis=0), axis=1)[thing.present[1:] & thing.present[:-1]] for thing in clip.objects])
    print(f'{people} positions in {clip.frames_count} frames, {len(clip.objects)} pseudo-tracks, median step {np.median(steps_m) * 100:.0f} cm')
    assert people == 9518 and clip.frames_count == 400 and 0.3 < np.median(steps_m) < 0.5 and 'linked' in clip.meta['identities']
    assert np.allclose(rodrigues_pose(np.zeros(3), np.ones(3)), np.block([[np.eye(3), np.full((3, 1), 0.01)], [0, 0, 0, 1]]))


def test_a_person_who_shifts_on_the_spot_keeps_the_heading():
    rng = np.random.default_rng(0)
    standing = rng.choice((-0.025, 0, 0.025, 0.1), (12, 2))                    # the grid's cells, and a shuffle of the feet
    assert np.ptp(walking_headings(standing)) == 0
    walk = np.stack([np.arange(6) * 0.7, np.zeros(6)], -1)
    turning = np.concatenate([walk, walk[-1] + np.stack([np.zeros(6), np.arange(1, 7) * 0.7], -1)])
    assert np.allclose(walking_headings(turning)[[0, 3, 9, 11]], (0, 0, np.pi / 2, np.pi / 2))
    assert np.allclose(walking_headings(np.concatenate([walk, walk[-1] + standing])) , 0, atol=0.2)
