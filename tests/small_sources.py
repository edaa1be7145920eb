"Small folders in the layout of every data set, for tests that damage them."
import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from track4d_ref.cameras import intrinsics, invert_pose, look_at, project

UP = (0.0, 0, 1)
ORBIT = np.stack([look_at((3 * np.cos(a), 3 * np.sin(a), 1.5), (0, 0, 0.4), UP) for a in np.linspace(0, 0.5, 4)])


def lines(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(rows) + '\n')


def write_kitti(root: Path) -> Path:
    calibration = [f'P{i}: 700 0 600 {44.8 if i == 2 else 0} 0 710 170 0 0 0 1 0' for i in range(4)]
    calibration += ['R0_rect: 1 0 0 0 1 0 0 0 1', 'Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 -0.27', 'Tr_imu_to_velo: 1 0 0 -0.8 0 1 0 0.3 0 0 1 -0.8']
    lines(root / 'calib/0000.txt', calibration)
    lines(root / 'label_02/0000.txt', [f'{t} {k} Car 0 0 -1.5 10 20 90 80 1.5 1.6 4.0 {2 - 4 * k} 1.6 {20 - t} 0.3' for t in range(4) for k in range(2)])
    lines(root / 'oxts/0000.txt', [f'49.0 {8.4 + 1e-5 * t:.7f} 110 0.01 0 0.3 ' + '0 ' * 24 for t in range(4)])
    return root


def write_vkitti(root: Path) -> Path:
    folder = root / 'Scene01/clone'
    head = ('frame cameraID trackID alpha width height length world_space_X world_space_Y world_space_Z rotation_world_space_y '
            'rotation_world_space_x rotation_world_space_z camera_space_X camera_space_Y camera_space_Z rotation_camera_space_y '
            'rotation_camera_space_x rotation_camera_space_z')
    lines(folder / 'pose.txt', [head] + [f'{t} 0 5 0.1 1.8 1.4 4.2 2 1.5 {20 + t} -1.57 0 0 2 1.5 20 -1.57 0 0' for t in range(4)])
    lines(folder / 'extrinsic.txt', ['frame cameraID r1,1 r1,2 r1,3 t1 r2,1 r2,2 r2,3 t2 r3,1 r3,2 r3,3 t3 0 0 0 1']
          + [f'{t} 0 1 0 0 0 0 1 0 0 0 0 1 {-2 * t} 0 0 0 1' for t in range(4)])
    lines(folder / 'intrinsic.txt', ['frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]'] + [f'{t} 0 725 720 620.5 187' for t in range(4)])
    lines(folder / 'info.txt', ['trackID label model color', '5 Van Hatchback Blue'])
    return root


def write_shift(root: Path) -> Path:
    box = {'location': [1, 0.8, 20], 'orientation': [0, 0.4, 0], 'dimension': [1.5, 1.9, 3.9]}
    frames = [{'videoName': 'ab', 'frameIndex': 10 * t, 'attributes': {'town': '04'}, 'intrinsics': {'focal': [640, 640], 'center': [640, 400]},
               'extrinsics': {'location': [10 + t, 4, 1.6], 'rotation': [0, 0, 90]},
               'labels': [{'id': '3', 'category': 'car', 'attributes': {'type': 'vehicle.mini'}, 'box3d': box}]} for t in range(2)]
    lines(root / 'front/det_3d.json', [json.dumps({'frames': frames}, indent=1)])
    return root


def write_adt(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / 'frames.npz', K=np.array([[9.0, 0, 3.5], [0, 8, 2.5], [0, 0, 1]]), rgb=np.zeros((2, 6, 8, 3), np.uint8),
             depth_mm=np.full((2, 6, 8), 2000, np.uint16), seg=np.full((2, 6, 8), 12, np.uint64), T_world_cam=np.stack([np.eye(4)] * 2),
             ts=np.array([10 ** 9, 10 ** 9 + 33 * 10 ** 6]))
    record = {'name': 'WoodenBox_2', 'category': 'box', 'motion': 'dynamic', 'box_xminmax_yminmax_zminmax': [-.2, .2, 0, .6, -.4, .4],
              'poses_ts_txyz_qwxyz': [[10 ** 9 + t * 33 * 10 ** 6, 0.1 * t, 0, 2, 1, 0, 0, 0] for t in range(3)]}
    lines(root / 'objects.json', [json.dumps({'12': record}, indent=1)])
    return root


OBJECT_HEAD = 'object_uid,timestamp[ns],t_wo_x[m],t_wo_y[m],t_wo_z[m],q_wo_w,q_wo_x,q_wo_y,q_wo_z'


def write_adt_original(root: Path) -> Path:
    names = ['tracking_timestamp_us', *(f't{a}_world_device' for a in 'xyz'), *(f'q{a}_world_device' for a in 'xyzw')]
    lines(root / 'aria_trajectory.csv', [','.join(names)] + [f'{10 ** 6 + 33_000 * t},0,1.6,{0.1 * t},0,0.6,0,0.8' for t in range(3)])
    lines(root / 'scene_objects.csv', [OBJECT_HEAD, '12,-1,1,2,3,1,0,0,0'] + [f'13,{10 ** 9 + 33_000_000 * t},{0.1 * t},2,3,1,0,0,0' for t in range(3)])
    extents = [f'p_local_obj_{axis}{end}[m]' for axis in 'xyz' for end in ('min', 'max')]
    lines(root / '3d_bounding_box.csv', ['object_uid,timestamp[ns],' + ','.join(extents)] + [f'{uid},-1,-1,1,0,2,-1,1' for uid in (12, 13)])
    lines(root / 'instances.json', [json.dumps({uid: {'instance_name': 'Chair_1', 'category': 'chair'} for uid in ('12', '13')}, indent=1)])
    return root


def write_glb(path: Path) -> None:
    blob = np.array([[-30.0, 0, -50], [30, 0, -50], [30, 20, 50]], '<f4').tobytes()
    header = {'nodes': [{'mesh': 0, 'scale': [0.001] * 3}], 'meshes': [{'primitives': [{'attributes': {'POSITION': 0}}]}],
              'accessors': [{'bufferView': 0, 'count': 3}], 'bufferViews': [{'byteLength': len(blob)}]}
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack('<4sIIII', b'glTF', 2, 28 + len(text) + len(blob), len(text), 0x4E4F534A) + text
                     + struct.pack('<II', len(blob), 0x004E4942) + blob)


def write_hot3d(root: Path) -> Path:
    recording, stamps = root / 'Quest3/P0', [10 ** 12 + t * 33_333_333 for t in range(3)]
    write_glb(root / 'object_library/12.glb')
    lines(root / 'object_library/instance.json', [json.dumps({'12': {'instance_name': 'mouse'}})])
    lines(recording / 'headset_trajectory.csv', [OBJECT_HEAD] + [f'9,{t},0,0.6,0,0.8,0.6,0,0' for t in stamps])
    lines(recording / 'dynamic_objects.csv', [OBJECT_HEAD] + [f'{uid},{t},0.1,0,0,1,0,0,0' for t in stamps for uid in (12, 13)])
    camera = {'projectionParams': [500.0, 500, 640, 512] + [0.01] * 12, 'stream_id': '1201-1',
              'T_Device_Camera': {'quaternion_wxyz': [1, 0, 0, 0], 'translation_xyz': [0, 0, 0]}}
    lines(recording / 'camera_models.json', [json.dumps([camera], indent=1)])
    return root


def write_kubric(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    scene = {'metadata': {'resolution': [16, 12], 'num_frames': 2, 'frame_rate': 12},
             'camera': {'focal_length': 35.0, 'sensor_width': 32.0, 'positions': [[0, 0, 5]] * 2, 'quaternions': [[1, 0, 0, 0]] * 2},
             'instances': [{'category': 'cube', 'color_label': 'red', 'bboxes_3d': [(signs * (0.5, 0.4, 0.3) + (0.2 * t, 0, 0)).tolist() for t in range(2)]}]}
    lines(root / 'metadata.json', [json.dumps(scene, indent=1)])
    for t in range(2):
        Image.fromarray(np.full((12, 16), 5, np.float32)).save(root / f'depth_{t:05d}.tiff')
        Image.fromarray(np.ones((12, 16), np.uint8)).save(root / f'segmentation_{t:05d}.png')
        Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(root / f'rgba_{t:05d}.png')
    return root


def write_wildtrack(root: Path) -> Path:
    for t in range(3): lines(root / f'annotations_positions/{5 * t:08d}.json', [json.dumps([{'personID': 4, 'positionID': 100 + 480 * (200 + 30 * t)}])])
    calibration = {'names': [f'C{i}' for i in range(7)], 'K': [[[1700.0, 0, 930], [0, 1710, 440], [0, 0, 1]]] * 7, 'rvec': [[1.2, 0.3, -0.2]] * 7,
                   'tvec_cm': [[100.0, -250, 900]] * 7}
    lines(root / 'calibration.json', [json.dumps(calibration, indent=1)])
    return root


def write_apidis(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    K, w2c = intrinsics(1000.0, 990.0, 800.0, 590.0), look_at((10, -8, 6), (14, 6, 0), UP)
    np.savez(root / 'calibration.npz', K=K[None], w2c=w2c[None])
    foot = project(K, w2c, np.array([[13.0, 5.0, 0]]))[0][0]
    rows = [f'<position time="1,00{t}.5s"><x>{foot[0] - 15 + t}</x><y>{foot[1] - 80}</y><w>30</w><h>80</h></position>' for t in range(3)]
    lines(root / 'camera1.objects.xml', ['<o>', '<track type="player" player-team="B">', *rows, '</track>', '</o>'])
    return root


def write_stereo4d(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / 'walk.npz', camera2world=invert_pose(ORBIT)[:, :3], timestamps=np.arange(4) * 33_333, track_lengths=np.array([4, 3]),
             track_indices=np.array([0, 1, 2, 3, 0, 1, 3]), track_coordinates=np.arange(21.0).reshape(7, 3))
    return root


def write_tapvid3d(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.new('RGB', (32, 24), (9, 90, 120)).save(buffer, 'JPEG')
    np.savez(root / 'clip.npz', tracks_XYZ=np.ones((4, 2, 3)) * (0.1, 0.2, 3), visibility=np.ones((4, 2), bool), fx_fy_cx_cy=np.array([30.0, 31, 17, 11]),
             images_jpeg_bytes=np.array([buffer.getvalue()] * 4))
    return root


def write_sevenscenes(root: Path) -> Path:
    for t, w2c in enumerate(ORBIT):
        lines(root / f'frame-{t:06d}.pose.txt', [' '.join(f'{value:.9f}' for value in row) for row in invert_pose(w2c)])
        Image.fromarray(np.full((24, 32), 1500, np.uint16)).save(root / f'frame-{t:06d}.depth.png')
        Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(root / f'frame-{t:06d}.color.png')
    lines(root / 'camera-intrinsics.txt', ['30 0 17', '0 31 11', '0 0 1'])
    return root


def write_tum(root: Path) -> Path:
    lines(root / 'groundtruth.txt', ['# stamp'] + [f'{1.5 + 0.1 * t:.1f} {t} 0 1 0 0 0.6 0.8' for t in range(4)])
    lines(root / 'rgb.txt', [f'{1.5 + 0.1 * t:.1f} rgb/{t}.png' for t in range(4)])
    lines(root / 'depth.txt', [f'{1.5 + 0.1 * t:.1f} depth/{t}.png' for t in range(4)])
    for name in ('rgb', 'depth'): (root / name).mkdir(exist_ok=True)
    for t in range(4):
        Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(root / f'rgb/{t}.png')
        Image.fromarray(np.full((24, 32), 9000, np.uint16)).save(root / f'depth/{t}.png')
    return root


def write_own(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / 'video.npz', frames=np.full((4, 24, 32, 3), 90, np.uint8), K=np.array([[30.0, 0, 17], [0, 31, 11], [0, 0, 1]]), w2c=ORBIT, fps=10.0,
             depth_m=np.full((4, 24, 32), 3, np.float32))
    return root


WRITERS = {'kitti': write_kitti, 'vkitti': write_vkitti, 'shift': write_shift, 'adt': write_adt, 'adt original': write_adt_original,
           'hot3d': write_hot3d, 'kubric': write_kubric, 'wildtrack': write_wildtrack, 'apidis': write_apidis, 'stereo4d': write_stereo4d,
           'tapvid3d': write_tapvid3d, '7scenes': write_sevenscenes, 'tum': write_tum, 'own': write_own}
