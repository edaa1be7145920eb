# %% [markdown]
# # Storage
# > Files that are whole or absent, stay inside their folder, and never run code.

# %%
#| default_exp storage

# %% [markdown]
# * **What** the few functions through which every other notebook touches the disk
# * **Why** a killed job must leave nothing half-written, and a file from a stranger must not run code or escape its folder
# * **Paper** none; everything here is **[ours]**
# * **Needs** numpy
# * **Time** 5 seconds
# * **Before this** nothing

# %%
#| export
import contextlib
import io
import json
import os
import shutil
import stat
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import numpy as np

# %%
import matplotlib.pyplot as plt


# %% [markdown]
# ## One kind of error for a user's mistake
#
# A person who mistypes a path should read one sentence, not a stack trace. Every function in the package that looks at
# something a user gave raises `InputError`; the command line prints its sentence and ends with a non-zero exit code.
# Anything else that is raised is a bug of ours.

# %%
#| export
class InputError(ValueError):
    """A mistake in what the user gave: one sentence that names the file, the field and the fix."""
    def __init__(self, sentence: str = ''):
        super().__init__(' '.join(str(sentence).split('\n')))        # the name of a file may hold a line break


# %%
def sentence_of(function, *arguments) -> str:
    try: function(*arguments)
    except InputError as error: return str(error)
    return 'no error'


# %% [markdown]
# ## Whole or absent
#
# The naive way to save is to open the target and write. Kill that in the middle and the next run finds a file that looks
# finished. The cure is old: write to a neighbour with another name, then rename. A rename inside one folder is a single
# step of the file system, so a reader sees the old file or the new one and never a mixture.

# %%
#| export
def _partial_name(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f'.{path.name}.partial-', suffix=path.suffix, dir=path.parent)
    os.close(handle)
    return Path(name)

@contextlib.contextmanager
def atomic_path(path: Path | str):
    "Yield a temporary sibling of `path`; it is renamed over `path` if the block ends well and removed if not."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_name(path)
    try:
        yield partial
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# %% [markdown]
# Folders need one more step, because a rename cannot replace a folder that has something in it: the old one is moved
# aside first and deleted last.

# %%
#| export
@contextlib.contextmanager
def atomic_folder(path: Path | str):
    "The same for a folder: yields an empty temporary folder that takes the place of `path` at the end."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f'.{path.name}.partial-', dir=path.parent))
    try:
        yield partial
        os.chmod(partial, 0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f'.{path.name}.partial-', dir=path.parent))
            os.replace(path, old / path.name)
            os.replace(partial, path)
            shutil.rmtree(old)
        else:
            os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# %% [markdown]
# Here is a job that dies half-way, once with the naive way and once with ours. The bar shows how many bytes a reader
# finds afterwards under the final name.

# %%
def write_and_die(target):
    with open(target, 'w') as file:
        file.write('x' * 600)
        file.flush()
        raise KeyboardInterrupt

def bytes_after(folder: Path, atomic: bool) -> int:
    target = folder / 'result.json'
    target.write_text('y' * 1000)
    with contextlib.suppress(KeyboardInterrupt):
        if not atomic: write_and_die(target)
        with atomic_path(target) as partial: write_and_die(partial)
    return len(target.read_text()) if 'y' in target.read_text() else 0

with tempfile.TemporaryDirectory() as folder:
    survived = {name: bytes_after(Path(folder), name == 'atomic') for name in ('naive', 'atomic')}
    leftovers = [p.name for p in Path(folder).iterdir()]

# %%
figure, axis = plt.subplots(figsize=(5, 1.6), dpi=90)
axis.barh(list(survived), list(survived.values()), color=['#D55E00', '#0072B2'])
axis.set(xlabel='bytes of the previous result that survive the crash', xlim=(0, 1050))
plt.show()

# %%
assert survived == {'naive': 0, 'atomic': 1000}
assert leftovers == ['result.json']

# %% [markdown]
# ## Ordinary files only
#
# A path from a stranger may be a folder, a named pipe (reading waits for ever), a link to `/dev/zero` (it never ends), or a
# *sparse* file that says it has twenty gigabytes and occupies none. So before anything is read, the path must be an ordinary
# file of sane size. An npz is a zip, and a zip of zeros shrinks a thousandfold: what counts there is the size *unpacked*.

# %%
#| export
MAX_BYTES = 2 * 1024 ** 3            # of one text, JSON or mesh
MAX_ARRAY_BYTES = 8 * 1024 ** 3      # of one npz, unpacked

def brief(error: Exception) -> str:
    "The first words of another library's message, on one line."
    return ' '.join(str(error).split())[:80]

def ordinary_file(path: Path | str, most_bytes: int = MAX_ARRAY_BYTES) -> Path:
    "The path, if it is an ordinary file of at most `most_bytes`; InputError otherwise."
    path = Path(path)
    try: status = path.stat()
    except (FileNotFoundError, NotADirectoryError): raise InputError(f'{path}: no such file; check the path') from None
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: cannot be read ({brief(error)}); check the path') from None
    if stat.S_ISDIR(status.st_mode): raise InputError(f'{path}: is a folder; name the file inside it')
    if not stat.S_ISREG(status.st_mode): raise InputError(f'{path}: is no ordinary file; copy its content to one')
    if status.st_size > most_bytes:
        raise InputError(f'{path}: {status.st_size} bytes exceed {most_bytes}; split the file')
    return path

def read_bytes(path: Path | str, most_bytes: int = MAX_BYTES) -> bytes:
    "All bytes of an ordinary file of sane size; InputError otherwise."
    try: return ordinary_file(path, most_bytes).read_bytes()
    except (OSError, MemoryError) as error:
        raise InputError(f'{path}: cannot be read ({brief(error)}); check the file') from None


# %%
with tempfile.TemporaryDirectory() as folder:
    place = Path(folder)
    os.mkfifo(place / 'pipe')
    (place / 'endless').symlink_to('/dev/zero')
    with open(place / 'sparse', 'wb') as file: file.truncate(30 * 1024 ** 3)
    refused = [sentence_of(read_bytes, place / name) for name in ('pipe', 'endless', 'sparse', '.', 'absent')]
for sentence in refused: print(sentence.split('/')[-1])

# %%
assert 'no ordinary file' in refused[0] and 'no ordinary file' in refused[1] and 'split' in refused[2]
assert 'is a folder' in refused[3] and 'no such file' in refused[4]


# %% [markdown]
# ## JSON and arrays
#
# Texts and numbers go into JSON, arrays into numpy's `npz`. Both are plain data. Python's pickle is not: loading it may
# run whatever its author liked, so `allow_pickle` stays off. Numbers that JSON does not know (`NaN`, infinity) are
# refused when writing, because other programs could not read them back.

# %%
#| export
def write_json(path: Path | str, value) -> None:
    "Write `value` as indented JSON with sorted keys, atomically; NaN and infinity are refused with a ValueError."
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as partial: partial.write_text(text + '\n', encoding='utf-8')

def read_json(path: Path | str):
    "The value of a JSON file; a missing or broken one raises InputError."
    content = read_bytes(path)
    try: return json.loads(content.decode('utf-8-sig'))
    except (ValueError, RecursionError) as error:      # also a number of more than 4,300 digits
        raise InputError(f'{path}: not valid JSON ({brief(error)}); write the file again') from None


# %% [markdown]
# `numpy.savez` stamps no time of day into its zip, so equal arrays give equal bytes. That is what lets a test say "the
# same seed gives the same files". We fix the compression and the order of the names for the same reason.

# %%
#| export
def write_arrays(path: Path | str, **arrays: np.ndarray) -> None:
    "Write named arrays to a compressed npz, atomically; equal arrays give equal bytes."
    with atomic_path(path) as partial, zipfile.ZipFile(partial, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f'{name}.npy'), buffer.getvalue(), zipfile.ZIP_DEFLATED)

def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    "All arrays of an npz file; a missing, truncated or pickled one raises InputError."
    path = ordinary_file(path)
    try:
        with zipfile.ZipFile(path) as archive: size = sum(item.file_size for item in archive.infolist())
        if size > MAX_ARRAY_BYTES: raise ValueError(f'{size} bytes of arrays exceed {MAX_ARRAY_BYTES}')
        with np.load(path, allow_pickle=False) as archive: return {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, KeyError, AttributeError, MemoryError,
            OverflowError, SyntaxError, NotImplementedError, RuntimeError, zipfile.zlib.error) as error:
        raise InputError(f'{path}: not a readable npz ({brief(error)}); copy or make the file again') from None


# %%
rng = np.random.default_rng(0)
example = {'depth_m': rng.uniform(1, 9, (5, 7)).astype('float32'), 'ids': np.arange(12).reshape(3, 4)}
with tempfile.TemporaryDirectory() as folder:
    first, second = Path(folder) / 'a.npz', Path(folder) / 'b.npz'
    write_arrays(first, **example); write_arrays(second, **example)
    same_bytes = first.read_bytes() == second.read_bytes()
    back = read_arrays(first)

# %%
figure, axes = plt.subplots(1, 2, figsize=(6, 2.2), dpi=90)
for axis, array, title in zip(axes, (example['depth_m'], back['depth_m']), ('written', 'read back')):
    axis.imshow(array, cmap='viridis', vmin=1, vmax=9); axis.set_title(title); axis.axis('off')
plt.show()

# %%
assert same_bytes and all((back[name] == example[name]).all() for name in example)

# %% [markdown]
# Broken files are told apart by their sentence. A truncated archive is the commonest one, after an interrupted copy.

# %%
with tempfile.TemporaryDirectory() as folder:
    broken = Path(folder) / 'broken.npz'
    write_arrays(broken, **example)
    broken.write_bytes(broken.read_bytes()[:100])
    told = sentence_of(read_arrays, broken)
print(told.split('/')[-1])

# %%
assert 'broken.npz: not a readable npz' in told
assert 'no such file' in sentence_of(read_json, 'absent.json')


# %% [markdown]
# ## Paths from data stay inside their root
#
# A record names its clip by a relative path. If that path says `../../home/somebody`, a careless program follows it. Ours
# resolves links and dots first and then checks that the result still lies below the root.

# %%
#| export
def inside(root: Path | str, relative: Path | str) -> Path:
    "The resolved path root/relative; InputError if it is absolute or would leave `root`."
    root = Path(root).resolve()
    try: path = (root / relative).resolve()
    except (ValueError, OSError, RuntimeError):
        raise InputError(f'{str(relative)[:80]!r} is not a usable path; give one relative to {root}') from None
    if Path(relative).is_absolute() or not path.is_relative_to(root):
        raise InputError(f'{str(relative)[:80]!r} leaves its folder {root}; give a path below it')
    return path


# %%
attempts = ['clips/a', 'clips/../b', '../secret', '/etc/passwd', 'x\0y', 'clips/../../c']
verdicts = ['inside' if sentence_of(inside, 'data', attempt) == 'no error' else 'refused' for attempt in attempts]

# %%
figure, axis = plt.subplots(figsize=(5, 1.8), dpi=90)
axis.axis('off')
cells = [[repr(attempt), verdict] for attempt, verdict in zip(attempts, verdicts)]
table = axis.table(cells, colLabels=['path in a record', 'verdict'], loc='center', cellLoc='left')
for row, verdict in enumerate(verdicts):
    table[row + 1, 1].set_facecolor('#CDE7F5' if verdict == 'inside' else '#F8D9C8')
plt.show()

# %%
assert verdicts == ['inside', 'inside', 'refused', 'refused', 'refused', 'refused']


# %% [markdown]
# ## Files that ship with the project
#
# `settings.ini` and `data_samples/` lie beside the package in a clone. After a plain `pip install` only the settings travel
# along, in the environment's `share` folder. One function knows both places.

# %%
#| export
def project_path(name: str) -> Path:
    "A file or folder that ships with the project: beside the package in a clone, or in the installed `share` folder."
    import track4d_ref
    places = [Path(track4d_ref.__file__).parent.parent, Path(sysconfig.get_path('data')) / 'share' / 'track4d_ref']
    for place in places:
        if (place / name).exists(): return place / name
    raise InputError(f'{name} does not ship with this installation; clone the repository and work inside it')


# %%
assert project_path('settings.ini').read_text().startswith('# The scale presets')
assert 'does not ship' in sentence_of(project_path, 'no_such_sample')

# %% [markdown]
# ## What we proved
#
# * A write that dies leaves the old file as it was, and nothing beside it.
# * Equal arrays give equal bytes.
# * Broken files and escaping paths are refused with a sentence.
#
# ## Try it
#
# 1. Kill `atomic_folder` between its two renames. What does a reader find, and how would you recover?
# 2. Add a symbolic link inside `data` that points outside. Does `inside` notice?
#
# <details><summary>Solutions</summary>
#
# 1. The reader finds either no folder or the old one under its temporary name, never a half-written one. Recovery is
#    the second rename: the complete new folder lies beside it. That is why the old one is only deleted afterwards.
# 2. It does: `inside` resolves the path first, links included, and compares what is left with the resolved root. Try
#    `os.symlink('/etc', data / 'out')` and read the sentence.
#
# </details>
