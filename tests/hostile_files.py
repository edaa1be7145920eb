"Ways to damage a file or a folder: bytes, text, JSON, npz, pictures, zip archives, links and pipes. All from a seed."
import io
import json
import os
import random
import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

# --- any bytes --------------------------------------------------------------------------------------------------------


def truncate(data: bytes, dice: random.Random) -> bytes: return data[:dice.randrange(len(data))]
def empty(data: bytes, dice: random.Random) -> bytes: return b''
def junk(data: bytes, dice: random.Random) -> bytes: return dice.randbytes(300)
def zeros(data: bytes, dice: random.Random) -> bytes: return bytes(len(data))
def blank(data: bytes, dice: random.Random) -> bytes: return b' \n\t\n' * 5


def flip_bytes(data: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(dice.randint(1, 8)): damaged[dice.randrange(len(data))] = dice.randrange(256)
    return bytes(damaged)


def cut_out(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + data[start + dice.randint(1, 60):]


def null_bytes(data: bytes, dice: random.Random) -> bytes: return data[:len(data) // 2] + b'\0' * 40 + data[len(data) // 2:]
def twice(data: bytes, dice: random.Random) -> bytes: return data + data


ANY = [truncate, empty, junk, zeros, blank, flip_bytes, cut_out, null_bytes, twice]

# --- text -------------------------------------------------------------------------------------------------------------


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


def reverse_lines(data: bytes, dice: random.Random) -> bytes: return b'\n'.join(data.split(b'\n')[::-1])


def swap_cells(data: bytes, dice: random.Random) -> bytes:
    cells = re.split(rb'([ ,\n]+)', data)
    one, two = dice.randrange(len(cells)), dice.randrange(len(cells))
    cells[one], cells[two] = cells[two], cells[one]
    return b''.join(cells)


def drop_column(data: bytes, dice: random.Random) -> bytes:
    separator, place = (b',' if b',' in data else b' '), dice.randrange(12)
    rows = [row.split(separator) for row in data.split(b'\n')]
    return b'\n'.join(separator.join(row[:place] + row[place + 1:]) for row in rows)


ODD = [b'NaN', b'nan', b'inf', b'-Infinity', b'1e400', b'-1', b'0', b'99999999999999999999', b'1e30', b'1e-300', b'"x"', b'null', b'[]', b'{}',
       b'true', b'1_0', b'0x10', b'1,5', b'--1', '−1'.encode(), '٣'.encode(), b'9' * 6000, b'', b'-0.0', b'1e308', b'9223372036854775808', b'0.5']


def odd_number(data: bytes, dice: random.Random) -> bytes:
    found = list(re.finditer(rb'-?\d+(\.\d+)?', data))
    if not found: return b'nan'
    chosen = dice.choice(found)
    return data[:chosen.start()] + dice.choice(ODD) + data[chosen.end():]


def all_numbers(data: bytes, dice: random.Random) -> bytes: return re.sub(rb'-?\d+\.?\d*', dice.choice(ODD), data)
def deep_nesting(data: bytes, dice: random.Random) -> bytes: return dice.choice([b'[', b'{"a":', b'<a>']) * 100_000
def escape(data: bytes, dice: random.Random) -> bytes: return re.sub(rb'[a-z]+/\d|"\d+"', b'../../../etc/passwd', data) or b'../../x'
def byte_order_mark(data: bytes, dice: random.Random) -> bytes: return b'\xef\xbb\xbf' + data
def windows_lines(data: bytes, dice: random.Random) -> bytes: return data.replace(b'\n', b'\r\n')
def wide_letters(data: bytes, dice: random.Random) -> bytes: return data.decode('utf-8', 'replace').encode(dice.choice(['utf-16', 'utf-32', 'utf-16-le']))
def latin_letter(data: bytes, dice: random.Random) -> bytes: return data.replace(b'a', b'\xe4', 1) + b'\xe9'
def tabs(data: bytes, dice: random.Random) -> bytes: return data.replace(b' ', b'\t')
def long_line(data: bytes, dice: random.Random) -> bytes: return data + b'7 ' * 200_000
def many_lines(data: bytes, dice: random.Random) -> bytes: return data + (data[-60:] or b'0 ') * 20_000
def entities(data: bytes, dice: random.Random) -> bytes:
    return b'<!DOCTYPE a [<!ENTITY b "' + b'z' * 99 + b'">' + b''.join(b'<!ENTITY c%d "&b;&b;&b;">' % i for i in range(9)) + b']>' + data


TEXT = [drop_line, repeat_line, shuffle_lines, reverse_lines, swap_cells, drop_column, odd_number, odd_number, odd_number, odd_number, all_numbers,
        deep_nesting, escape, byte_order_mark, windows_lines, wide_letters, latin_letter, tabs, long_line, many_lines, entities]

# --- JSON: damage that is still JSON ------------------------------------------------------------------------------------


def _places(value, found: list) -> list:
    "Every (container, key) of a JSON value."
    if isinstance(value, dict | list):
        for key in (value if isinstance(value, dict) else range(len(value))):
            found.append((value, key))
            _places(value[key], found)
    return found


STRANGE = [None, True, 'x', '', '../../../x', [], {}, [[]], -1, 0, 1e300, -1e300, 10 ** 25, float('nan'), float('inf'), 0.5, {'a': 1}, [None], '\0', '9' * 40, 'é' * 3000]


def json_value(data: bytes, dice: random.Random) -> bytes:
    value = json.loads(data)
    container, key = dice.choice(_places(value, [])[:400])
    container[key] = dice.choice(STRANGE)
    return json.dumps(value).encode()


def json_drop(data: bytes, dice: random.Random) -> bytes:
    value = json.loads(data)
    container, key = dice.choice(_places(value, [])[:400])
    del container[key]
    return json.dumps(value).encode()


def json_reorder(data: bytes, dice: random.Random) -> bytes:
    value = json.loads(data)
    lists = [container[key] for container, key in _places(value, []) if isinstance(container[key], list) and len(container[key]) > 1]
    if lists: dice.shuffle(dice.choice(lists))
    return json.dumps(value).encode()


def json_twice(data: bytes, dice: random.Random) -> bytes: return data.rstrip()[:-1] + b',' + data.lstrip()[1:]
def json_other_root(data: bytes, dice: random.Random) -> bytes: return dice.choice([b'[]', b'{}', b'null', b'3', b'"a"', b'[[]]', b'[null]', b'[1,2]', b'{"frames": 1}', b'NaN'])
def json_long_number(data: bytes, dice: random.Random) -> bytes: return re.sub(rb'\d+', b'1' * 5000, data, count=1)


JSON = [json_value, json_value, json_value, json_value, json_drop, json_drop, json_reorder, json_twice, json_other_root, json_long_number]

# --- npz: damage that is still npz --------------------------------------------------------------------------------------


def _repacked(data: bytes, dice: random.Random, change) -> bytes:
    "The npz with one array changed by change(array) → array, or removed where it returns None."
    arrays = dict(np.load(io.BytesIO(data)))
    name = dice.choice(sorted(arrays))
    arrays[name] = change(arrays[name])
    buffer = io.BytesIO()
    np.savez(buffer, **{key: value for key, value in arrays.items() if value is not None})
    return buffer.getvalue()


def _strange_type(array: np.ndarray, dice: random.Random) -> np.ndarray:
    kind = dice.choice(['object', 'complex', 'text', 'bytes', 'bool', 'half', 'int8', 'uint64', 'float', 'date', 'record'])
    if kind == 'object': return np.array([None, 'x', 3], dtype=object)
    if kind == 'record': return np.zeros(3, dtype=[('a', 'f8'), ('b', 'i4')])
    wanted = {'complex': np.complex128, 'text': 'U8', 'bytes': 'S8', 'bool': bool, 'half': np.float16, 'int8': np.int8, 'uint64': np.uint64,
              'float': np.float64, 'date': 'M8[s]'}[kind]
    with np.errstate(all='ignore'):
        try: return array.astype(wanted)
        except (ValueError, TypeError): return np.zeros(array.shape, np.float64)


def _strange_shape(array: np.ndarray, dice: random.Random) -> np.ndarray:
    return dice.choice([lambda a: a[None], lambda a: a.reshape(-1), lambda a: a[:0] if a.ndim else a[None][:0], lambda a: a.T, lambda a: np.repeat(a[None], 2, 0),
                        lambda a: a[..., None], lambda a: a[1:] if a.ndim and len(a) > 1 else a, lambda a: np.zeros(()), lambda a: np.concatenate([a, a]) if a.ndim else a,
                        lambda a: np.zeros((0, 0, 0))])(array)


def _strange_values(array: np.ndarray, dice: random.Random) -> np.ndarray:
    if array.dtype.kind in 'US' or not array.size: return array[:0] if array.ndim else array
    array = array.copy()
    flat = array.reshape(-1)
    with np.errstate(all='ignore'):
        if array.dtype.kind == 'f': flat[dice.randrange(flat.size)] = dice.choice([np.nan, np.inf, -np.inf, 1e300, -1, 0, 1e-300])
        elif array.dtype.kind in 'iu': flat[dice.randrange(flat.size)] = dice.choice([np.iinfo(array.dtype).max, np.iinfo(array.dtype).min, 0, 1])
        elif array.dtype.kind == 'b': flat[:] = False
    return array


def npz_remove(data: bytes, dice: random.Random) -> bytes: return _repacked(data, dice, lambda array: None)
def npz_type(data: bytes, dice: random.Random) -> bytes: return _repacked(data, dice, lambda array: _strange_type(array, dice))
def npz_shape(data: bytes, dice: random.Random) -> bytes: return _repacked(data, dice, lambda array: _strange_shape(array, dice))
def npz_values(data: bytes, dice: random.Random) -> bytes: return _repacked(data, dice, lambda array: _strange_values(array, dice))
def npz_scaled(data: bytes, dice: random.Random) -> bytes:
    factor = dice.choice([-1.0, 0.0, 1e-9, 1e9, 1e200])
    with np.errstate(all='ignore'): return _repacked(data, dice, lambda array: array * factor if array.dtype.kind in 'iuf' else array)
def npz_reversed(data: bytes, dice: random.Random) -> bytes: return _repacked(data, dice, lambda array: array[::-1] if array.ndim else array)


def npz_false_header(data: bytes, dice: random.Random) -> bytes:
    "An npz whose first array says that it holds terabytes."
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 3), }" % dice.choice([10 ** 11, 10 ** 18, 2 ** 62, -4])
    header += b' ' * (-(len(header) + 11) % 64) + b'\n'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr(names[0], b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header + b'\0' * 80)
        for name in names[1:]: archive.writestr(name, zipfile.ZipFile(io.BytesIO(data)).read(name))
    return buffer.getvalue()


def npz_is_other(data: bytes, dice: random.Random) -> bytes:
    "A bare npy, a pickle, a zip of something else, an encrypted-looking zip."
    buffer = io.BytesIO()
    kind = dice.randrange(4)
    if kind == 0: np.save(buffer, np.arange(5))
    elif kind == 1: return b'\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.'
    elif kind == 2:
        with zipfile.ZipFile(buffer, 'w') as archive: archive.writestr('../../../frames.npy', b'hello')
    else:
        damaged = bytearray(data)
        for place in [match.start() for match in re.finditer(b'PK\x01\x02', data)]: damaged[place + 8] |= 1
        return bytes(damaged)
    return buffer.getvalue()


NPZ = [npz_remove, npz_type, npz_type, npz_shape, npz_shape, npz_values, npz_values, npz_scaled, npz_reversed, npz_false_header, npz_is_other]

# --- pictures: damage that is still a picture -----------------------------------------------------------------------------


def other_picture(data: bytes, dice: random.Random) -> bytes:
    "The same picture in another mode, size or format."
    picture, buffer = Image.open(io.BytesIO(data)), io.BytesIO()
    kind = dice.choice(['RGB', 'RGBA', 'L', 'P', '1', 'CMYK', 'small', 'wide', 'turned', 'GIF', 'TIFF', 'float', 'NaN', 'negative'])
    if kind in ('float', 'NaN', 'negative'):
        values = np.full(picture.size[::-1], {'float': 1.5, 'NaN': np.nan, 'negative': -3}[kind], np.float32)
        Image.fromarray(values).save(buffer, 'TIFF')
    elif kind in ('small', 'wide', 'turned'):
        picture.convert('RGB').resize({'small': (1, 1), 'wide': (picture.width + 1, picture.height), 'turned': picture.size[::-1]}[kind]).save(buffer, 'PNG')
    elif kind in ('GIF', 'TIFF'): picture.convert('RGB').save(buffer, kind)
    else: picture.convert('RGB').convert(kind).save(buffer, 'TIFF' if kind == 'CMYK' else 'PNG')
    return buffer.getvalue()


def huge_picture(data: bytes, dice: random.Random) -> bytes:
    "A small PNG that claims to be enormous."
    buffer = io.BytesIO()
    Image.new('L', (8, 8)).save(buffer, 'PNG')
    content = bytearray(buffer.getvalue())
    content[16:24] = (60_000).to_bytes(4, 'big') * 2
    return bytes(content)


PICTURE = [other_picture, other_picture, other_picture, huge_picture]

# --- the file system --------------------------------------------------------------------------------------------------


def remove(path: Path, dice: random.Random) -> None: path.unlink()
def folder_instead(path: Path, dice: random.Random) -> None: path.unlink(); path.mkdir()
def pipe(path: Path, dice: random.Random) -> None: path.unlink(); os.mkfifo(path)
def endless_link(path: Path, dice: random.Random) -> None: path.unlink(); path.symlink_to('/dev/zero')
def dangling_link(path: Path, dice: random.Random) -> None: path.unlink(); path.symlink_to('nowhere')
def looping_link(path: Path, dice: random.Random) -> None: path.unlink(); path.symlink_to(path.name)
def outside_link(path: Path, dice: random.Random) -> None: path.unlink(); path.symlink_to('/etc/hostname')
def sparse(path: Path, dice: random.Random) -> None:
    with path.open('r+b') as file: file.truncate(20 * 1024 ** 3)
def other_name(path: Path, dice: random.Random) -> None: path.rename(path.with_name(dice.choice(['x' * 200 + path.suffix, f'a b{path.suffix}', f'\n{path.name}', f'ü{path.name}', path.name.upper()])))
def beside(path: Path, dice: random.Random) -> None: path.with_name(f'{dice.choice(["copy of ", "-", "999999999999", ".", "١"])}{path.name}').write_bytes(path.read_bytes())
def folder_loop(path: Path, dice: random.Random) -> None: (path.parent / 'loop').symlink_to(path.parent, target_is_directory=True)


SYSTEM = [remove, remove, folder_instead, pipe, endless_link, dangling_link, looping_link, outside_link, sparse, other_name, beside, folder_loop]
BY_SUFFIX = {'.json': JSON + TEXT, '.npz': NPZ, '.png': PICTURE, '.jpg': PICTURE, '.tiff': PICTURE, '.glb': []}


def damage(folder: Path, dice: random.Random) -> str:
    "Damage or replace one file of a folder; says what was done."
    path = dice.choice(sorted(path for path in folder.rglob('*') if path.is_file()))
    kind = dice.choice([dice.choice(ANY), dice.choice(BY_SUFFIX.get(path.suffix, TEXT) or ANY), dice.choice(BY_SUFFIX.get(path.suffix, TEXT) or ANY),
                        dice.choice(SYSTEM)])
    if kind in SYSTEM: kind(path, dice)
    else: path.write_bytes(kind(path.read_bytes(), dice))
    return f'{kind.__name__} {path.relative_to(folder)}'
