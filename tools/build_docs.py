"""Build the documentation site: every notebook as saved, and one API page for each module.

Use: python tools/build_docs.py [OUT]        (default runs/docs; opens without a server)
A link between pages that leads nowhere stops the build.
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def toctree(caption: str, names: list[str]) -> str:
    "A block of navigation with a caption."
    return '\n'.join(['```{toctree}', f':caption: {caption}', ':maxdepth: 1', ':titlesonly:', '', *names, '```', ''])


def parts(readme: str) -> dict[str, list[str]]:
    "Notebook names by part of the course, in the order of the README's map."
    found, part = {}, 'Notebooks'
    for line in re.search(r'<!-- map -->(.*?)<!-- end of map -->', readme, re.S)[1].splitlines():
        row = re.match(r'\|\s*(?:\*\*(.+?)\*\*)?\s*\|\s*\[(\w+)\]\(nbs/', line)
        if not row: continue
        part = row[1] or part
        found.setdefault(part, []).append(row[2])
    return found


def front_page(readme: str) -> str:
    "The README, its links led to the pages of the site, with the navigation behind it."
    text = readme.replace('](nbs/index.ipynb)', '](course.ipynb)').replace('](nbs/', '](').replace('](data_samples/true_motion.gif)', '](true_motion.gif)').replace('](docs/', '](')
    text = re.sub(r'<!-- (map|presets) -->.*?<!-- end of \1 -->', '*The list stands at the side.*', text, count=1, flags=re.S)
    text = re.sub(r'\[([^]]+)\]\((?!http|#)[\w./]+\.(?:md|html|ini|json)\)|\[([^]]+)\]\(LICENSE\)',
                  lambda link: link[1] or link[2], text)
    modules = sorted(path.stem for path in (ROOT / 'track4d_ref').glob('*.py') if not path.name.startswith('_'))
    blocks = [toctree('Course', ['Where to begin <course>'])] + [toctree(part, names) for part, names in parts(readme).items()]
    return '\n'.join([text, '', *blocks, toctree('Modules', [f'api/{name}' for name in modules])])


def stage(source: Path) -> None:
    "Lay the pages of the site out in a fresh folder."
    shutil.rmtree(source, ignore_errors=True)
    (source / 'api').mkdir(parents=True)
    for path in (ROOT / 'nbs').glob('*.ipynb'):
        if path.stem != 'index': shutil.copy(path, source)
    for picture in (ROOT / 'data_samples/true_motion.gif', *(ROOT / 'docs').glob('*.png')): shutil.copy(picture, source)
    for path in (ROOT / 'track4d_ref').glob('*.py'):
        if path.name.startswith('_'): continue
        page = f'# {path.stem}\n\n```{{eval-rst}}\n.. automodule:: track4d_ref.{path.stem}\n   :members:\n```\n'
        (source / 'api' / f'{path.stem}.md').write_text(page)
    shutil.copy(ROOT / 'nbs/index.ipynb', source / 'course.ipynb')
    readme = (ROOT / 'README.md').read_text()
    (source / 'index.md').write_text(front_page(readme))


def main(out: Path) -> int:
    "Stage, build strictly, say where the site is."
    source = out.parent / f'{out.name}_pages'
    stage(source)
    command = [sys.executable, '-m', 'sphinx', '-b', 'html', '-q', '-W', '--keep-going', '-j', '2', '-c', str(ROOT / 'docs'),
               str(source), str(out)]
    code = subprocess.run(command, cwd=ROOT).returncode
    if code == 0: print(f'Site: {out / "index.html"}')
    return code


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / 'runs/docs'))
