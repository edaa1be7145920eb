"""What holds for the project as a whole: the notebooks are the source, and they keep to the house rules."""
import ast
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / 'nbs').glob('*.ipynb'))
CHAPTERS = [path for path in NOTEBOOKS if path.stem != 'index']
MODULES = sorted(path for path in (ROOT / 'track4d_ref').glob('*.py') if not path.name.startswith('_'))
name_of = lambda path: path.stem


def cells(path: Path, kind: str | None = None) -> list:
    found = nbformat.read(path, as_version=4).cells
    return [cell for cell in found if kind in (None, cell.cell_type)]


def exported_module(path: Path) -> str | None:
    match = re.search(r'^#\|\s*default_exp\s+(\w+)', '\n'.join(cell.source for cell in cells(path, 'code')), re.M)
    return match and match[1]


def is_exported(cell) -> bool:
    return re.match(r'#\|\s*exporti?\b', cell.source) is not None


def tracked_files() -> list[Path]:
    if not (ROOT / '.git').exists(): pytest.skip('not a git checkout')
    listing = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listing.split('\0') if name and (ROOT / name).is_file()]


# --- the notebooks are the source -------------------------------------------------------------------------------------

@pytest.mark.parametrize('path', NOTEBOOKS, ids=name_of)
def test_text_twin_matches_notebook(path):
    import jupytext
    pairs = lambda file: [(cell.cell_type, cell.source.strip()) for cell in jupytext.read(file).cells]
    assert pairs(path) == pairs(ROOT / 'nbs_text' / f'{path.stem}.py')


def test_no_twin_without_notebook():
    assert {path.stem for path in (ROOT / 'nbs_text').glob('*.py')} == {path.stem for path in NOTEBOOKS}


def test_package_equals_fresh_export(tmp_path):
    exporter = Path(sys.executable).parent / 'nbdev-export'
    if not exporter.exists(): pytest.skip('nbdev is not installed in this environment')
    copy = tmp_path / 'project'
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns('.git', '.venv', 'runs', 'data_samples', 'results', '*.egg-info', '__pycache__'))
    for module in (copy / 'track4d_ref').glob('*.py'):
        if module.name != '__init__.py': module.unlink()
    environment = {key: value for key, value in os.environ.items() if key != 'IN_TEST'}
    subprocess.run([str(exporter)], cwd=copy, env=environment, check=True, capture_output=True)
    fresh = {path.name: path.read_text() for path in (copy / 'track4d_ref').glob('*.py')}
    here = {path.name: path.read_text() for path in (ROOT / 'track4d_ref').glob('*.py')}
    assert fresh.keys() == here.keys()
    assert [name for name in here if here[name] != fresh[name]] == []


def test_imports_only_go_backwards():
    order = {exported_module(path): index for index, path in enumerate(NOTEBOOKS) if exported_module(path)}
    forward = []
    for path in NOTEBOOKS:
        module = exported_module(path)
        source = '\n'.join(cell.source for cell in cells(path, 'code') if is_exported(cell))
        for other in re.findall(r'(?:from|import)\s+track4d_ref\.(\w+)', source):
            if other in order and order[other] >= order[module]: forward.append(f'{module} imports {other}')
    assert order and forward == []


# --- house rules ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_module_and_functions_are_short(path):
    text = path.read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 250
    assert [line for line in text.splitlines() if len(line) > 240] == []
    long = [f'{node.name}: {node.end_lineno - node.lineno + 1}' for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 30]
    assert long == []


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith('_')]
    assert ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize('path', CHAPTERS, ids=name_of)
def test_notebook_budgets(path):
    code = [cell for cell in cells(path, 'code') if cell.source.strip() and not cell.source.startswith('#| default_exp')]
    lines = [len(cell.source.splitlines()) for cell in code]
    words = sum(len(re.findall(r'\w+', cell.source)) for cell in cells(path, 'markdown'))
    pictures = [output['data']['image/png'] for cell in code for output in cell.outputs if 'image/png' in output.get('data', {})]
    assert len(pictures) >= 3
    assert max(len(picture) * 3 // 4 for picture in pictures) <= 150_000
    assert max(lines) <= 90 and statistics.median(lines) <= 20
    assert words >= sum(lines)


@pytest.mark.parametrize('path', CHAPTERS, ids=name_of)
def test_every_section_asserts(path):
    sections, title = {}, ''
    for cell in cells(path):
        if cell.cell_type == 'markdown' and (found := re.search(r'^## (.+)', cell.source, re.M)): title = found[1]
        if cell.cell_type == 'code' and title: sections.setdefault(title, []).append(cell.source)
    without = [title for title, sources in sections.items() if not re.search(r'\bassert\b', '\n'.join(sources))]
    assert sections and len(without) <= len(sections) // 2, without


@pytest.mark.parametrize('path', CHAPTERS, ids=name_of)
def test_notebook_frame(path):
    sources = [cell.source for cell in cells(path, 'markdown')]
    assert re.match(r'# .+\n> .+', sources[0])
    header = next(source for source in sources if '**What**' in source)
    assert all(f'**{word}**' in header for word in ('Why', 'Paper', 'Needs', 'Time', 'Before this'))
    ending = '\n'.join(sources[-2:])
    assert '## What we proved' in ending and '## Try it' in ending


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name_of)
def test_saved_outputs_are_clean(path):
    for cell in cells(path, 'code'):
        assert cell.execution_count is None
        assert [output.ename for output in cell.outputs if output.output_type == 'error'] == []
        texts = [output.get('text') or output.get('data', {}).get('text/plain', '') for output in cell.outputs]
        assert not any(re.search(r'/(tmp|home|root|Users)/', text) for text in texts), 'a folder of one machine'
        assert not any(output.get('name') == 'stderr' for output in cell.outputs), 'warnings or bars of progress'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name_of)
def test_notebook_opens_without_a_question(path):
    """JupyterLab asks which kernel to take where none is named; bars of progress leave nothing to see in a saved notebook."""
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.get('kernelspec', {}).get('name') == 'python3' and 'jupytext' not in notebook.metadata
    shown = [output.data for cell in notebook.cells if cell.cell_type == 'code' for output in cell.outputs if 'data' in output]
    assert all('image/png' in data for data in shown if 'application/vnd.jupyter.widget-view+json' in data)


# --- the front page ---------------------------------------------------------------------------------------------------

def readme_blocks() -> list[str]:
    return re.findall(r'```bash\n(.*?)```', (ROOT / 'README.md').read_text(), re.S)


def readme_commands() -> list[str]:
    lines = [line.split(' #')[0].strip() for block in readme_blocks() for line in block.splitlines()]
    return [line for line in lines if line]


def test_readme_commands_exist():
    help_text = lambda *words: subprocess.run([sys.executable, '-m', 'track4d_ref.cli', *words, '--help'], capture_output=True, text=True)
    targets = set(re.findall(r'^(\w[\w-]*):', (ROOT / 'Makefile').read_text(), re.M))
    checked = 0
    for command in readme_commands():
        words = command.removeprefix('.venv/bin/').split()
        if words[0] == 'make': assert words[1] in targets, command
        if words[0] == 'track4d':
            path = [word for word in words[1:3] if re.fullmatch(r'[a-z0-9][a-z0-9-]*', word)]
            shown = help_text(*path)
            shown = shown if shown.returncode == 0 else help_text(*path[:1])
            assert shown.returncode == 0, command
            for option in re.findall(r'--[\w-]+', command): assert option in shown.stdout, command
        checked += words[0] in ('make', 'track4d')
    assert checked >= 3


def test_links_lead_somewhere():
    for page in (ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'PAPER_MAP.md', ROOT / 'CHANGELOG.md', ROOT / 'LOG.md'):
        for target in re.findall(r'\]\(([^)#]+)\)', page.read_text()):
            if not target.startswith('http'): assert (page.parent / target).exists(), f'{page.name}: {target}'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name_of)
def test_links_in_notebooks_lead_somewhere(path):
    text = '\n'.join(re.sub(r'\$[^$]*\$|`[^`]*`', '', cell.source) for cell in cells(path, 'markdown'))
    targets = [target for target in re.findall(r'\]\(([^)#\s]+)\)', text) if not target.startswith(('http', 'mailto', 'attachment'))]
    assert [target for target in targets if not (path.parent / target).exists()] == []
    stems = {each.stem for each in NOTEBOOKS}
    named = {name for cell in cells(path, 'markdown') for name in re.findall(r'`(\d\d[a-z]?_[a-z_0-9]+)`', cell.source)}
    assert [name for name in named if name not in stems] == []


def test_commands_named_in_texts_exist():
    from typer.main import get_command
    from track4d_ref.cli import app
    tree = get_command(app)
    pages = [(path.name, '\n'.join(cell.source for cell in cells(path, 'markdown'))) for path in NOTEBOOKS]
    pages += [(name, (ROOT / name).read_text()) for name in ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'PAPER_MAP.md')]
    unknown, checked = [], 0
    for page, text in pages:
        for words in re.findall(r'`track4d ((?:[a-z0-9-]+ ?)+)', text):
            first, *rest = words.split()
            command, checked = tree.commands.get(first), checked + 1
            if command is None: unknown.append(f'{page}: track4d {words}')
            elif hasattr(command, 'commands') and rest and rest[0] not in command.commands: unknown.append(f'{page}: track4d {words}')
    assert checked > 20 and unknown == []


FOREIGN_FILES = {'extrinsic.txt', 'rgb.txt', 'depth.txt', 'groundtruth.txt', 'utils.py', 'results/NAME_PRESET.json'}   # of data sets, of others


def texts() -> dict[str, str]:
    """What a person reads: the pages, and the prose of the notebooks."""
    pages = {name: (ROOT / name).read_text() for name in ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'PAPER_MAP.md', 'LOG.md')}
    return pages | {path.name: '\n'.join(cell.source for cell in cells(path, 'markdown')) for path in NOTEBOOKS}


def missing_names(text: str) -> list[str]:
    """Files, modules and functions that a text names in `code` and that are not there."""
    files = re.findall(r'`((?:track4d_ref|tests|tools|benchmarks|results|nbs|nbs_text|docs|data_samples)/[\w./*-]+)`', text)
    files += re.findall(r'`([\w-]+\.(?:py|ini|toml|md|txt|ipynb))`', text)
    wrong = [name for name in files if name not in FOREIGN_FILES and not [*ROOT.glob(name.rstrip('/')), *ROOT.glob(f'*/{name}')]]
    wrong += [f'track4d_ref.{name}' for name in re.findall(r'`[^`\n]*\btrack4d_ref\.(\w+)', text) if not (ROOT / 'track4d_ref' / f'{name}.py').exists()]
    for module, name in re.findall(r'`(\w+)\.(\w+)`', text):
        file = ROOT / 'track4d_ref' / f'{module}.py'
        if name != 'jsonl' and file.exists() and not re.search(rf'\b{name}\b', file.read_text()): wrong.append(f'{module}.{name}')
    return wrong


def test_files_modules_and_functions_named_in_texts_exist():
    assert {page: wrong for page, text in texts().items() if (wrong := missing_names(text))} == {}
    assert missing_names('`tests/test_gone.py`, `nbs/99_gone.ipynb`, `gone.py`, `track4d_ref.gone`, `cameras.gone`, `cameras.project`') \
        == ['tests/test_gone.py', 'nbs/99_gone.ipynb', 'gone.py', 'track4d_ref.gone', 'cameras.gone']


def test_anchors_and_web_addresses():
    for page, text in texts().items():
        slugs = {re.sub(r'[^\w -]', '', title.lower()).strip().replace(' ', '-') for title in re.findall(r'^#+ (.+)', text, re.M)}
        assert [anchor for anchor in re.findall(r'\]\(#([^)]+)\)', text) if anchor not in slugs] == [], page
        assert [link for link in re.findall(r'\]\((http[^)\s]+)\)', text) if not re.fullmatch(r'https://[\w.-]+\.\w+(/\S*)?', link)] == [], page


def test_readme_map_names_every_notebook():
    text = (ROOT / 'README.md').read_text()
    assert [path.stem for path in CHAPTERS if path.stem not in text] == []


def test_no_paths_of_one_machine():
    pattern = re.compile(r'(?<![\w.])/(?:home|root|Users|work)/[\w.-]+')
    found = []
    for path in tracked_files():
        if path.suffix in {'.py', '.ipynb', '.md', '.toml', '.ini', '.json', '.yml', '.txt'} or path.name in {'Makefile', 'run'}:
            found += [f'{path.relative_to(ROOT)}: {hit}' for hit in pattern.findall(path.read_text(errors='replace'))[:2]]
    assert found == []


def test_tracked_files_are_small():
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked_files()}
    assert max(sizes.values()) < 20_000_000
    assert sum(size for name, size in sizes.items() if name.startswith('data_samples/')) < 60_000_000
