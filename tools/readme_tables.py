"""Rewrite what is generated from other files: the tables of README.md, and results/index.html if a result has changed."""
import configparser
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).parent.parent
PARTS = {'00': 'Start', '01': 'I The world', '08': 'II The questions', '13': 'III The model', '20': 'IV Learning', '25': 'V The proof'}


def notebook_map() -> str:
    rows = ['| | notebook | module | one idea |', '|---|---|---|---|']
    for path in sorted((ROOT / 'nbs').glob('[0-9]*.ipynb')):
        cells = nbformat.read(path, as_version=4).cells
        summary = re.search(r'^> (.+)', cells[0].source, re.M)[1]
        module = re.search(r'#\|\s*default_exp\s+(\w+)', '\n'.join(cell.source for cell in cells))
        part = PARTS.pop(path.stem[:2], '')
        rows.append(f'| {f"**{part}**" if part else ""} | [{path.stem}](nbs/{path.name}) | {f"`{module[1]}`" if module else "–"} | {summary} |')
    return '\n'.join(rows)


def preset_table() -> str:
    settings = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=('#',))
    settings.read(ROOT / 'settings.ini')
    sections = [name for name in settings.sections() if not name.startswith('thresholds')]
    rows = ['| key | ' + ' | '.join(sections) + ' |', '|---|' + '--:|' * len(sections)]
    rows += [f'| {key} | ' + ' | '.join(settings[name].get(key, '') for name in sections) + ' |' for key in settings['tiny']]
    return '\n'.join(rows)


def renew(text: str, name: str, table: str) -> str:
    pattern = re.compile(rf'(<!-- {name} -->\n).*?(<!-- end of {name} -->)', re.S)
    if not pattern.search(text): raise SystemExit(f'README.md: the marks of the table {name!r} are missing')
    return pattern.sub(lambda found: f'{found[1]}{table}\n{found[2]}', text)


def renewed_readme() -> str:
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    return renew(renew(text, 'map', notebook_map()), 'presets', preset_table())


def renew_results_page() -> None:
    from track4d_ref.reproduce import EXPERIMENTS
    from track4d_ref.results_page import results_hash, results_page
    page = ROOT / 'results' / 'index.html'
    if page.exists() and results_hash(ROOT / 'results') in page.read_text(encoding='utf-8'): return
    renderers = {name: experiment.render for name, experiment in EXPERIMENTS.items()}
    page.write_text(results_page(ROOT / 'results', renderers), encoding='utf-8')


if __name__ == '__main__':
    renew_results_page()
    (ROOT / 'README.md').write_text(renewed_readme(), encoding='utf-8')
