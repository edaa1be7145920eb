"""Rewrite what is generated from other files: the tables of README.md, and results/index.html if a result has changed."""
import configparser
import json
import re
from pathlib import Path

import nbformat
import numpy as np

ROOT = Path(__file__).parent.parent
PARTS = {'00': 'Start', '01': 'I The world', '08': 'II The questions', '13': 'III The model', '20': 'IV Learning', '25': 'V The proof'}

DOORS = (('laptop, CPU: first look', 'jupyter lab nbs/00_tour.ipynb', 'door_tour_notebook', '26 of 26 camera movements right'),
         ('laptop, CPU: the main job', 'make demo', 'door_demo', 'camera movement above 90 %, blind twin near 30 %'),
         ('free cloud GPU', 'track4d tour --preset small', 'door_cloud', ''),
         ('one card, 24 GB', 'track4d train sft --preset rtx24', 'door_rtx24', ''))


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


NOT_MEASURED = 'not measured'


def door_table() -> str:
    """What each door costs and shows, from results/door_*.json; where nobody has measured, it says so."""
    rows = ['| door | command | minutes | memory | number to expect |', '|---|---|--:|--:|---|']
    for name, command, file, number in DOORS:
        path = ROOT / 'results' / f'{file}.json'
        stored = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
        minutes = f'{stored["wall_s"] / 60:.1f}' if stored else NOT_MEASURED
        memory = f'{stored["peak_gib"]:.1f} GiB' if stored else NOT_MEASURED
        rows.append(f'| {name} | `{command}` | {minutes} | {memory} | {number if stored else NOT_MEASURED} |')
    return '\n'.join(rows)


def badges() -> str:
    """Cloud-notebook badges of the tour and the app's notebook; a sentence as long as the repository has no public address."""
    address = re.search(r'^Repository = "https://github.com/([\w.-]+/[\w.-]+)"', (ROOT / 'pyproject.toml').read_text(encoding='utf-8'), re.M)
    if not address: return '*Badges that open notebooks in the cloud appear here as soon as `pyproject.toml` names the public address (`[project.urls] Repository`).*'
    link = 'https://colab.research.google.com/github/{0}/blob/main/nbs/{1}.ipynb'
    image = 'https://colab.research.google.com/assets/colab-badge.svg'
    return ' '.join(f'[![{name} in a cloud notebook]({image})]({link.format(address[1], name)})' for name in ('00_tour', '28d_looking'))


def results_table() -> str:
    """One line for each shipped result whose finding is one number."""
    read = lambda name: json.loads((ROOT / 'results' / f'{name}.json').read_text(encoding='utf-8'))
    tour = read('tour_tiny')['extra']['findings']
    seen, kitti = tour['camera_movement'], tour['kitti']
    rows = ['| finding | number | seed | file |', '|---|---|--:|---|']
    line = lambda finding, number, name, seed: rows.append(f'| {finding} | {number} | {seed} | [{name}](results/{name}.json) |')
    line('camera movement after 120 steps (two CPU minutes), held-out clips', f'{seen["accuracy"]:.1f} % (blind {seen["blind"]:.1f} %)', 'tour_tiny', 0)
    line('KITTI 0001: standing objects, visual against true motion', f'{kitti["median_visual_px"]:.0f} px against {kitti["median_true_motion_px"]:.1f} px', 'tour_tiny', 0)
    table2 = read('table2_tiny')['result']
    chance = np.mean([1 / options for *_, options in table2['questions']['bench']])
    share = lambda model: f'{100 * np.mean([digit == "1" for seed in table2["models"][model] for digit in seed["bench"]]):.1f} %'
    line('4DP-QA-Bench-tiny, eleven types: base; after 800 steps on 4D questions, and its words alone; the same blind, and its words; chance',
         f'{share("base")}; {share("full")}, {share("full, by its words")}; {share("blind")}, {share("blind, by its words")}; {100 * chance:.1f} %', 'table2_tiny', 0)
    if (ROOT / 'results/rounds_tiny.json').exists():
        from track4d_ref.rounds import steps_of
        rounds = read('rounds_tiny')['result']
        last = steps_of(rounds)[-1]
        score = lambda model, kind='': 100 * np.mean([digit == '1' for (_, name, *_), digit in zip(rounds['questions']['bench'], rounds['models'][model][0]['bench']) if kind in name])
        line(f'the shipped model after a second round, {last} in all, and its words alone; camera movement; with its video hidden',
             f'{score(last):.1f} %, {score(f"{last}, by its words"):.1f} %; {score(last, "camera_movement"):.1f} %; {score("last, video hidden"):.1f} %', 'rounds_tiny', 0)
    if (ROOT / 'results/grpo_reward_tiny.json').exists():
        from track4d_ref.ladder import reward_cells
        total = next(row for row in reward_cells(read('grpo_reward_tiny')['result']) if row[0] == 'total')
        line('GRPO with the ST-reward, mean reward on held-out prompts: cold start; after 100 steps; runs that gained, p (sign-flip)', f'{total[1]}; {total[2]}; {total[4]}, {total[5]}', 'grpo_reward_tiny', 0)
    drawn = read('benchmark_simulator')['extra']
    speed = {row['name']: row['clips_per_s'] for row in drawn['rows']}
    line('simulator, 8 frames of 112 × 112 on two cores: one sample per pixel; with smoothing, the default',
         f'{speed["track4d_ref, no antialiasing"]:.0f} clips/s, {drawn["ratios"]["track4d_ref, no antialiasing"]["wall"]:.1f}× the fastest other; {speed["track4d_ref"]:.0f}, {drawn["ratios"]["track4d_ref"]["wall"]:.1f}×', 'benchmark_simulator', 0)
    for path in sorted((ROOT / 'results').glob('benchmark_grpo_*.json')):
        stored = read(path.stem)
        line(f'GRPO with a shared video prefix, {path.stem.removeprefix("benchmark_grpo_").replace("_", " ")}',
             f'{stored["times_faster"]:.1f}× faster, {stored["memory_ratio"]:.1f}× less memory', path.stem, stored['card']['seed'])
    for name, what in (('benchmark_packing_tiny_trained', 'tiny'), ('benchmark_packing_3b_slice_1_frozen', 'a slice of the 3B')):
        packed, apart = (max(read(name)['curve'], key=lambda point: point['questions'])[way] for way in ('packed', 'separate'))
        line(f'packing, 24 questions per clip, {what}', f'{packed["pairs_per_s"] / apart["pairs_per_s"]:.1f}× TRL\'s SFTTrainer', name, read(name)['card']['seed'])
    speed = read('questions_speed')['result']
    line('400,000 questions from ready clips on two cores', f'{speed["minutes_for_400k_parallel"]:.1f} minutes', 'questions_speed', 0)
    if (ROOT / 'results/track4d_tiny.json').exists():
        real = read('track4d_tiny')['result']['sets']
        metres = lambda name: '{:.2f} m ({:.2f} to {:.2f})'.format(*real[name]['all']['ade_m'])
        line('LMM-Track4D on unseen scenes, mean distance', f'{metres("full, self history")}; beaten: GRU head {metres("gru")}, trajectories as text {metres("trajectories as text")}, constant velocity from its own first two states {metres("constant velocity, own first two")}; '
             f'not beaten: constant velocity from two true states {metres("constant velocity, true first two")}', 'track4d_tiny', 0)
    if (ROOT / 'results/track4d_parts_tiny.json').exists():
        lost, texts = read('track4d_parts_tiny')['result']['hiding']['shipped'], read('track4d_parts_tiny')['result']['bench']['trajectories as text']
        told = lambda values: '{:.2f} m ({:.2f} to {:.2f})'.format(*values)
        line('the shipped one of its seeds, states that no camera shows; states of the same turns that one shows', f'{told(lost["hidden"]["ade_m"])}; {told(lost["seen, same turns"]["ade_m"])}', 'track4d_parts_tiny', 0)
        line('trajectories as text minus the shipped model, mean distance of what could be read', told(texts['ade_m difference']), 'track4d_parts_tiny', 1)
    return '\n'.join(rows)


def renew(text: str, name: str, table: str) -> str:
    pattern = re.compile(rf'(<!-- {name} -->\n).*?(<!-- end of {name} -->)', re.S)
    if not pattern.search(text): raise SystemExit(f'README.md: the marks of the table {name!r} are missing')
    return pattern.sub(lambda found: f'{found[1]}{table}\n{found[2]}', text)


def renewed_readme() -> str:
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    for name, table in (('badges', badges), ('doors', door_table), ('map', notebook_map), ('results', results_table), ('presets', preset_table)):
        text = renew(text, name, table())
    return text


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
