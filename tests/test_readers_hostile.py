"Truncated, reordered, NaN-laden, missing and hostile files: a clear sentence or a sound clip, never anything else."
import random
import re
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from small_sources import WRITERS
from track4d_ref.clips import Clip, check_clip, load_clip
from track4d_ref.readers import SOURCES, convert_source, source_clips
from track4d_ref.storage import InputError

MUTATIONS_PER_SOURCE = 40


def truncate(data: bytes, dice: random.Random) -> bytes: return data[:dice.randrange(len(data))]
def empty(data: bytes, dice: random.Random) -> bytes: return b''
def junk(data: bytes, dice: random.Random) -> bytes: return dice.randbytes(300)
def flip_bytes(data: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(dice.randint(1, 8)): damaged[dice.randrange(len(data))] = dice.randrange(256)
    return bytes(damaged)
def cut_out(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + data[start + dice.randint(1, 60):]
def drop_line(data: bytes, dice: random.Random) -> bytes:
    rows = data.split(b'\n')
    del rows[dice.randrange(len(rows))]
    return b'\n'.join(rows)
def repeat_line(data: bytes, dice: random.Random) -> bytes:
    rows = data.split(b'\n')
    return b'\n'.join(rows + [rows[dice.randrange(len(rows))]] * 3)
def shuffle_lines(data: bytes, dice: random.Random) -> bytes:
    rows = data.split(b'\n')
    dice.shuffle(rows)
    return b'\n'.join(rows)
def swap_cells(data: bytes, dice: random.Random) -> bytes:
    cells = re.split(rb'([ ,\n]+)', data)
    one, two = dice.randrange(len(cells)), dice.randrange(len(cells))
    cells[one], cells[two] = cells[two], cells[one]
    return b''.join(cells)
def odd_number(data: bytes, dice: random.Random) -> bytes:
    found = list(re.finditer(rb'-?\d+(\.\d+)?', data))
    if not found: return b'nan'
    chosen = dice.choice(found)
    value = dice.choice([b'NaN', b'nan', b'inf', b'-Infinity', b'1e400', b'-1', b'0', b'99999999999999999999', b'1e30', b'"x"', b'null', b'[]', b'1_0', b'0x10'])
    return data[:chosen.start()] + value + data[chosen.end():]
def null_bytes(data: bytes, dice: random.Random) -> bytes: return data[:len(data) // 2] + b'\0' * 40 + data[len(data) // 2:]
def deep_nesting(data: bytes, dice: random.Random) -> bytes: return b'[' * 100_000
def escape(data: bytes, dice: random.Random) -> bytes: return re.sub(rb'[a-z]+/\d|"\d+"', b'../../../etc/passwd', data) or b'../../x'


MUTATIONS = [truncate, empty, junk, flip_bytes, cut_out, drop_line, repeat_line, shuffle_lines, swap_cells, odd_number, odd_number, odd_number,
             null_bytes, deep_nesting, escape]


def damage(folder: Path, dice: random.Random) -> str:
    "Damage or remove one file of a folder; says what was done."
    path = dice.choice(sorted(path for path in folder.rglob('*') if path.is_file()))
    kind = dice.choice([*MUTATIONS, 'remove', 'folder instead'])
    if callable(kind): path.write_bytes(kind(path.read_bytes(), dice))
    else:
        path.unlink()
        if kind != 'remove': path.mkdir()
    return f'{getattr(kind, "__name__", kind)} {path.relative_to(folder)}'


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
    for number in range(MUTATIONS_PER_SOURCE):
        dice = random.Random(f'{source}-{number}')
        folder = WRITERS[source](tmp_path / str(number))
        done, start = damage(folder, dice), time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('error', RuntimeWarning)
                for clip in read_all(source, folder):
                    check_clip(clip)
                    assert clip.frames_count < 1000 and all(np.abs(item.centers_m).max() < 1e12 for item in clip.objects), done
        except InputError as error:
            refused += 1
            assert '\n' not in str(error) and len(str(error)) > 20, done
        except Exception as error: pytest.fail(f'{done}: {type(error).__name__}: {error}')
        assert time.monotonic() - start < 20, done
    print(f'{source}: {MUTATIONS_PER_SOURCE} mutations, {refused} refused with a sentence, the rest gave sound clips')
    assert refused >= MUTATIONS_PER_SOURCE // 4


def test_enough_mutations():
    total = MUTATIONS_PER_SOURCE * len(WRITERS)
    print(f'{total} mutations over {len(WRITERS)} layouts of {len(SOURCES)} sources')
    assert total >= 200 and {name.split()[0] for name in WRITERS} == set(SOURCES)


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


def test_unknown_source_lists_all(tmp_path):
    with pytest.raises(InputError, match='kitti.*own'): convert_source('nuscenes', tmp_path, tmp_path / 'out')
