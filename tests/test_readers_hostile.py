"Truncated, reordered, NaN-laden, missing and hostile files: a clear sentence or a sound clip, never anything else."
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import hostile_files
from hostile_files import damage
from small_sources import WRITERS
from track4d_ref.clips import Clip, check_clip, load_clip
from track4d_ref.kitti import read_oxts_poses
from track4d_ref.readers import SOURCES, convert_source, source_clips
from track4d_ref.shards import find_clips
from track4d_ref.storage import InputError

MUTATIONS_PER_SOURCE = int(os.environ.get('TRACK4D_MUTATIONS', 60))


def read_all(source: str, folder: Path) -> list[Clip]:
    return [read() for _, read in source_clips(source.split()[0], folder)]


@pytest.mark.parametrize('source', WRITERS)
def test_small_folder_is_read(tmp_path, source):
    clips = read_all(source, WRITERS[source](tmp_path / 'data'))
    assert clips and all(clip.frames_count >= 2 for clip in clips)
    for clip in clips: check_clip(clip)


@pytest.mark.parametrize('source', WRITERS)
def test_damaged_files_give_one_sentence_or_a_sound_clip(tmp_path, source):
    refused = 0
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail('a reader hangs'))
    for number in range(MUTATIONS_PER_SOURCE):
        dice = random.Random(f'{source}-{number}')
        folder = WRITERS[source](tmp_path / str(number))
        signal.alarm(60)
        done, start = damage(folder, dice), time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('error', RuntimeWarning)
                for clip in read_all(source, folder):
                    check_clip(clip)
                    assert clip.frames_count < 1000 and all(np.abs(item.centers_m).max() < 1e12 for item in clip.objects), done
        except InputError as error:
            refused += 1
            assert '\n' not in str(error) and 20 < len(str(error)) < 700, done
        except Exception as error: pytest.fail(f'{done}: {type(error).__name__}: {error}')
        finally: signal.alarm(0)
        assert time.monotonic() - start < 30, done
    print(f'{source}: {MUTATIONS_PER_SOURCE} mutations, {refused} refused with a sentence, the rest gave sound clips')
    assert refused >= MUTATIONS_PER_SOURCE // 4


def test_enough_mutations():
    total = MUTATIONS_PER_SOURCE * len(WRITERS)
    print(f'{total} mutations over {len(WRITERS)} layouts of {len(SOURCES)} sources')
    kinds = {kind for group in (hostile_files.ANY, hostile_files.TEXT, hostile_files.JSON, hostile_files.NPZ, hostile_files.PICTURE, hostile_files.SYSTEM) for kind in group}
    print(f'{len(kinds)} kinds of damage')
    assert total >= 200 and len(kinds) >= 40 and {name.split()[0] for name in WRITERS} == set(SOURCES)


@pytest.mark.parametrize('source', SOURCES)
def test_missing_and_empty_folders(tmp_path, source):
    with pytest.raises(InputError, match='no such folder'): read_all(source, tmp_path / 'absent')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError): read_all(source, tmp_path / 'empty')


def test_conversion_resumes_and_reports(tmp_path):
    root = WRITERS['kitti'](tmp_path / 'kitti')
    for folder, suffix in (('label_02', 'txt'), ('calib', 'txt'), ('oxts', 'txt')):
        (root / f'{folder}/0001.{suffix}').write_text((root / f'{folder}/0000.{suffix}').read_text())
    (root / 'calib/0001.txt').write_text('nothing')
    report = convert_source('kitti', root, tmp_path / 'out', frames=2, size=(60, 100))
    assert report['written'] == ['kitti_0000_000000', 'kitti_0000_000002'] and len(report['skipped']) == 1
    assert 'calib' in report['skipped'][0]['why'] and report['skipped'][0]['name'].startswith('kitti_0001')
    before = {path: path.read_bytes() for path in (tmp_path / 'out').rglob('*.npz')}
    again = convert_source('kitti', root, tmp_path / 'out', frames=2, size=(60, 100))
    assert again['kept'] == report['written'] and not again['written'] and before == {path: path.read_bytes() for path in before}
    clip = load_clip(tmp_path / 'out/kitti_0000_000002')
    assert (clip.view.height, clip.view.width) == (60, 100) and clip.frames_count == 2 and clip.licence.startswith('CC')
    assert not [path for path in (tmp_path / 'out').iterdir() if 'partial' in path.name]


def write_many(folder: Path, count: int) -> Path:
    "Some clips of a video that take a moment to write."
    for number in range(count):
        WRITERS['own'](folder / f'{number:02d}')
    return folder


def test_a_killed_conversion_goes_on_to_the_same_result(tmp_path):
    source, out = write_many(tmp_path / 'videos', 12), tmp_path / 'out'
    command = [sys.executable, '-m', 'track4d_ref.cli', 'data', 'convert', 'own', source, '--out', out, '--size', '40x64', '--json']
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(6000):
        if len(list(out.glob('own*'))) >= 3 or running.poll() is not None: break
        time.sleep(0.01)
    running.kill()
    running.wait()
    begun = {path.name for path in out.glob('own*')}
    (out / '.own_videos_11_video.partial-left').mkdir()                    # what a kill in the middle of a clip leaves
    (out / '.own_videos_11_video.partial-left/clip.json').write_text('{}')
    assert begun == set(find_clips(out)) and len(begun) < 12 and json.loads((out / 'conversion.json').read_text()).keys() == {'settings'}
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert set(report['kept']) == begun and len(report['kept']) + len(report['written']) == 12 and not report['skipped']
    convert_source('own', source, tmp_path / 'straight', size=(40, 64))
    files = lambda root: {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file() and path.name != 'conversion.json'}
    assert files(out) == files(tmp_path / 'straight')


def test_other_settings_are_refused_and_long_videos_are_cut(tmp_path):
    source = WRITERS['own'](tmp_path / 'video')
    report = convert_source('own', source, tmp_path / 'out', frames=2)
    assert report['written'] == ['own_video_video_000000', 'own_video_video_000002'] and report['without'] == {'masks': 2, 'objects': 2}
    assert load_clip(tmp_path / 'out/own_video_video_000002').times_s.tolist() == [0.2, 0.3]
    assert convert_source('own', source, tmp_path / 'out', frames=2)['kept'] == report['written']
    with pytest.raises(InputError, match='begun with'): convert_source('own', source, tmp_path / 'out', frames=2, fps=5)
    with pytest.raises(InputError, match='no .*npz'): convert_source('own', tmp_path / 'out', tmp_path / 'again')    # clips are no videos
    (tmp_path / 'file').write_text('x')
    with pytest.raises(InputError, match='cannot be made'): convert_source('own', source, tmp_path / 'file')


def test_names_become_folders_inside_out(tmp_path):
    root = WRITERS['shift'](tmp_path / 'shift')
    text = (root / 'front/det_3d.json').read_text()
    for name in ('../../outside', '/etc', 'a/b', 'line\nbreak', 'ü' * 300, '.hidden', ''):
        (root / 'front/det_3d.json').write_text(json.dumps({'frames': [{**frame, 'videoName': name} for frame in json.loads(text)['frames']]}))
        out = tmp_path / 'out'
        report = convert_source('shift', root, out)
        assert len(report['written']) + len(report['skipped']) + len(report['kept']) == 1, name
        assert all((out / made).parent == out and made.startswith('shift_') for made in report['written'])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'shift']


def test_shuffled_gps_is_no_drive(tmp_path):
    east_degrees = lambda metres: metres / 6378137 * 180 / 3.141592653589793
    rows = [f'0 {east_degrees(1.2 * t):.12f} 80 0 0 0 0 12 ' + '0 ' * 22 for t in range(9)]
    (tmp_path / 'good.txt').write_text('\n'.join(rows))
    assert len(read_oxts_poses(tmp_path / 'good.txt')) == 9
    (tmp_path / 'bad.txt').write_text('\n'.join(rows[:2] + rows[6:] + rows[2:6]))
    with pytest.raises(InputError, match='row 3.*order of time'): read_oxts_poses(tmp_path / 'bad.txt')


def test_unknown_source_lists_all(tmp_path):
    with pytest.raises(InputError, match='kitti.*own'): convert_source('nuscenes', tmp_path, tmp_path / 'out')
