# %% [markdown]
# # Run cards
# > What a number needs to be believed: command, preset, seed, data, code, libraries, machine, time.

# %%
#| default_exp runcard

# %% [markdown]
# * **What** one dict that stands beside every result
# * **Why** most evaluations that do not reproduce differ in something nobody wrote down
# * **Paper** none; the list of fields is **[ours]**
# * **Needs** `presets`, `storage`
# * **Time** 5 seconds
# * **Before this** `00b_presets`

# %%
#| export
import dataclasses
import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import track4d_ref
from track4d_ref.presets import Preset

# %%
import json
import tempfile

import matplotlib.pyplot as plt

from track4d_ref.presets import load_preset


# %% [markdown]
# ## Which data, which code
#
# Names change and files with the same name differ, so both are identified by their content. Hashing walks folders in
# sorted order and includes the relative names, so that moving the whole folder changes nothing and swapping two files does.

# %%
#| export
def _update(digest, path: Path, name: str) -> None:
    digest.update(f'{name}\0{path.stat().st_size}\0'.encode())
    with open(path, 'rb') as source:
        while block := source.read(1 << 20): digest.update(block)

def data_hash(paths: Iterable[Path | str]) -> str:
    "First 16 digits of a SHA-256 over files and folders: names within each path, sizes and contents."
    digest = hashlib.sha256()
    for path in map(Path, paths):
        files = sorted(path.rglob('*')) if path.is_dir() else [path]
        for file in files:
            if file.is_file(): _update(digest, file, file.relative_to(path).as_posix() if path.is_dir() else file.name)
    return digest.hexdigest()[:16]

def code_version() -> dict[str, str | None]:
    "Version and content hash of this package, and the commit of the clone it lies in (None elsewhere)."
    package = Path(track4d_ref.__file__).parent
    modules = sorted(package.glob('*.py'))
    digest = hashlib.sha256()
    for module in modules: _update(digest, module, module.name)
    return dict(version=track4d_ref.__version__, hash=digest.hexdigest()[:16], commit=_commit(package.parent))

def _commit(folder: Path) -> str | None:
    if not (folder / '.git').exists(): return None
    try: done = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired): return None
    return done.stdout.strip() or None


# %%
folder = Path(tempfile.mkdtemp())
(folder / 'a').mkdir(); (folder / 'a/one.txt').write_text('1'); (folder / 'a/two.txt').write_text('2')
before = data_hash([folder / 'a'])
(folder / 'a').rename(folder / 'b')
moved = data_hash([folder / 'b'])
(folder / 'b/one.txt').write_text('2'); (folder / 'b/two.txt').write_text('1')
print(before, moved, data_hash([folder / 'b']))

# %%
assert before == moved != data_hash([folder / 'b'])
assert code_version() == code_version() and len(code_version()['hash']) == 16

# %% [markdown]
# ## Which machine
#
# Processor kind, cores, memory and the accelerator explain a time; names of hosts, users and folders explain nothing and
# do not belong into a published file. Libraries are those which can change a number.

# %%
#| export
LIBRARIES = ('torch', 'transformers', 'tokenizers', 'numpy', 'av', 'pillow', 'peft', 'bitsandbytes')

def library_versions() -> dict[str, str]:
    "Versions of the libraries that can change a number, those installed."
    found = {}
    for name in LIBRARIES:
        try: found[name] = metadata.version(name)
        except metadata.PackageNotFoundError: continue
    return found

def machine() -> dict:
    "Operating system, processor, cores, threads of torch, memory and accelerator; nothing that names a host or a person."
    import torch
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') if hasattr(os, 'sysconf') else 0
    return dict(system=platform.system(), processor=platform.machine(), cores=os.cpu_count(), torch_threads=torch.get_num_threads(),
                memory_gib=round(memory / 2**30, 1), gpu=gpu, python=platform.python_version())


# %% [markdown]
# ## The card
#
# `started` is the value of `time.perf_counter()` when the work began; the card adds up the rest.

# %%
#| export
@dataclasses.dataclass(frozen=True)
class RunCard:
    "What a result needs to be believed."
    command: str
    preset: dict
    seed: int
    data_hash: str
    code: dict
    libraries: dict
    machine: dict
    wall_s: float | None
    extra: dict

def run_card(command: str, preset: Preset | dict, seed: int, data: Iterable[Path | str] = (), started: float | None = None, **extra) -> dict:
    "A JSON-able run card; `data` are files or folders to be hashed, `extra` whatever else the result depends on."
    values = preset if isinstance(preset, dict) else dataclasses.asdict(preset)
    wall_s = None if started is None else round(time.perf_counter() - started, 2)
    return dataclasses.asdict(RunCard(command, dict(values), int(seed), data_hash(data), code_version(), library_versions(), machine(), wall_s, extra))


# %%
started = time.perf_counter()
card = run_card('track4d example --preset tiny', load_preset('tiny'), 0, [folder], started, parser='exact_match_vsi')
print(json.dumps({key: value for key, value in card.items() if key != 'preset'}, indent=1))

# %%
figure, axis = plt.subplots(figsize=(6, 2.2), dpi=90)
axis.axis('off')
rows = [[key, str(value)[:62]] for key, value in card.items() if key not in ('preset', 'machine', 'libraries')]
table = axis.table(rows, colWidths=[0.15, 0.85], cellLoc='left', loc='center'); table.auto_set_font_size(False); table.set_fontsize(8)
axis.set_title('the part of the card that changes from run to run', fontsize=9); plt.show()

# %%
assert json.loads(json.dumps(card)) == card and card['wall_s'] >= 0 and card['extra'] == dict(parser='exact_match_vsi')
assert str(Path.home()) not in json.dumps(card) and platform.node() not in json.dumps(card)

# %% [markdown]
# How large is the preset's share? It names every number of the run, which is why the card repeats it instead of pointing
# at a file that may have changed since.

# %%
sizes = {key: len(json.dumps(value)) for key, value in card.items()}
figure, axis = plt.subplots(figsize=(6, 2), dpi=90)
axis.barh(list(sizes), list(sizes.values()), color='#0072B2'); axis.invert_yaxis(); axis.set(xlabel='bytes in the card'); axis.tick_params(labelsize=8)
plt.tight_layout(); plt.show()

# %%
figure, axis = plt.subplots(figsize=(5, 2), dpi=90)
versions = card['libraries']
axis.axis('off'); axis.set_title('libraries that can change a number', fontsize=9)
table = axis.table([list(item) for item in versions.items()], colWidths=[0.4, 0.4], cellLoc='left', loc='center'); table.auto_set_font_size(False); table.set_fontsize(8)
plt.show()

# %%
assert sum(sizes.values()) < 4000 and {'torch', 'numpy'} <= set(versions)

# %% [markdown]
# ## What we proved
#
# * Data is identified by content: moving it changes nothing, exchanging two files does.
# * The card is plain JSON and names neither host nor user nor folder.
#
# ## Try it
#
# 1. Run the same command twice and compare the two cards. Which fields may differ?
# 2. Hash a folder of 10 GB. What would you record to make that faster, and what would you lose?
#
# <details><summary>Solutions</summary>
#
# 1. Times, and with another checkout the commit. Seed, preset, data hash, versions and results must be equal; if the
#    results differ with equal cards, something is not seeded.
# 2. Sizes, modification times and the hash of the first and last megabyte of each file. You would lose the proof that
#    nothing in the middle was changed; say on the card which hash it is.
#
# </details>
