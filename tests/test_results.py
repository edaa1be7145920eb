"""The stored results: run cards in all of them, the page made from them, the exhibits of the papers."""
import json
import re
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from track4d_ref.experiments import Experiment, write_result
from track4d_ref.paper_figures import EXHIBITS, beside_chart, beside_pairs, belongs, numbers_in
from track4d_ref.presets import load_preset
from track4d_ref.published import FILES, mixture_table, published_table
from track4d_ref.reproduce import EXPERIMENTS
from track4d_ref.results_page import (CARD_FIELDS, leaves, missing_fields, read_results, result_block, results_hash, results_page,
                                      row_tables, write_exhibits)
from track4d_ref.storage import InputError, write_json

ROOT = Path(__file__).parent.parent
FILES_OF_RESULTS = sorted((ROOT / 'results').glob('*.json'))
RENDERERS = {name: experiment.render for name, experiment in EXPERIMENTS.items()}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close('all')


@pytest.mark.parametrize('path', FILES_OF_RESULTS, ids=lambda path: path.stem)
def test_every_result_has_a_run_card(path):
    stored = json.loads(path.read_text())
    assert missing_fields(stored) == []
    card = stored.get('card', stored)
    assert re.match(r'(track4d|python benchmarks|benchmarks)', card['command']) and isinstance(card['seed'], int)
    assert re.fullmatch(r'[0-9a-f]{16}', card['data_hash']) and re.fullmatch(r'[0-9a-f]{16}', card['code']['hash'])
    assert card['libraries'].get('torch') and card['machine'].get('cores') and isinstance(card['preset'], dict)


def test_a_result_without_a_card_is_refused(tmp_path):
    write_json(tmp_path / 'rumour.json', {'accuracy': 97})
    with pytest.raises(InputError, match='rumour.json: its run card lacks command'): read_results(tmp_path)
    (tmp_path / 'rumour.json').write_text('[1]')
    with pytest.raises(InputError, match='rumour.json'): read_results(tmp_path)
    with pytest.raises(InputError, match='no such folder'): read_results(tmp_path / 'nowhere')
    for field in CARD_FIELDS: assert missing_fields({key: 'x' for key in CARD_FIELDS if key != field}) == [field]


@pytest.mark.parametrize('exhibit', EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_every_exhibit_draws(exhibit):
    figure = exhibit.draw([])
    drawn = [artist for axis in figure.axes for artist in (*axis.lines, *axis.patches, *axis.collections)]
    assert len(drawn) >= 2 and exhibit.paper in FILES and len(exhibit.scale) > 10


def test_the_page_is_a_function_of_the_files(tmp_path):
    started = time.process_time()
    files = write_exhibits(tmp_path, 'all', None, RENDERERS)
    assert time.process_time() - started < 120                               # "redraws everything in under two minutes"
    assert {exhibit.name for exhibit in EXHIBITS} <= {path.stem for path in files} and files[-1].name == 'index.html'
    page = files[-1].read_text(encoding='utf-8')
    assert page == results_page(None, RENDERERS) and page.count('<details>') >= len(FILES_OF_RESULTS)
    assert 'src="http' not in page and 'href="http' not in page and '<script' not in page and results_hash() in page
    targets, ids = set(re.findall(r'href="#([^"]+)"', page)), re.findall(r'\bid="([^"]+)"', page)
    assert targets <= set(ids) and len(ids) == len(set(ids))
    assert 'could not be rendered' not in page


def test_the_shipped_page_is_fresh():
    page = (ROOT / 'results' / 'index.html').read_text(encoding='utf-8')
    assert f'content="{results_hash()}"' in page, 'make it anew: track4d figures --only page --out results'


def experiment(source):
    cells = lambda result: [('type', 'a (ours)', 'a (paper)'), *((k, f'{v:.1f}', '50.0') for k, v in result.items())]
    return Experiment('made_up', source, 'nothing was measured', lambda *_: {}, cells)


@pytest.mark.parametrize('source, exhibit', [('LMM-Track4D, history of late turns', 'track4d_history'), ('MLLM-4D, ablation', 'mllm4d_ladder')])
def test_a_new_result_finds_its_exhibit(tmp_path, source, exhibit):
    one = experiment(source)
    write_result(tmp_path, one, load_preset('tiny'), 3, {'<b>depth': 41.7})
    page = results_page(tmp_path, {'made_up': one.render})
    places = [page.index(f'id="{each.name}"') for each in EXHIBITS]
    where = [each.name for each in EXHIBITS].index(exhibit)
    assert places[where] < page.index('41.7') and (where + 1 == len(places) or page.index('41.7') < places[where + 1])
    assert '<b>depth' not in page and '&lt;b&gt;depth' in page
    result, = read_results(tmp_path)
    stale = result_block(result, {'made_up': lambda result: result['gone']})
    assert 'could not be rendered' in stale and '41.7' in stale and result_block(result, {}).count('41.7') == 1


def test_no_exhibit_claims_anothers_result():
    assert not any(belongs(exhibit, {'source': source}) for exhibit in EXHIBITS
                   for source in ('4DP-QA, Table 20', 'Table 2', '', 'simulator', 'MLLM-4D, Figure 50'))


@pytest.mark.parametrize('cell, numbers', [('81.3 (79.0–83.5)', [81.3, 79.0, 83.5]), ('+1.5 (-0.3 to +3.2)', [1.5, -.3, 3.2]), ('–', []),
                                           ('1,371', [1371]), ('−2.5', [-2.5]), ('97.3 %', [97.3]), ('62.2-66.1', [62.2, 66.1])])
def test_numbers_in_cells(cell, numbers):
    assert numbers_in(cell) == numbers


def test_pairs_need_both_columns():
    assert beside_chart([('a', 'b (ours)'), ('x', '1')]) is None
    assert beside_pairs([('a', 'b (ours)', 'b (paper)'), ('x', '–', '3'), ('y', '2', '3')]) == {'b': [('y', [2.0], 3.0)]}


def test_any_nesting_of_numbers_is_laid_out():
    odd = {'a': [[1, 2], {'b': None}], 'c': {}, 'd': [], 'rows': [{'x': 1}, {'y': 'z'}], 'deep': {'er': [{'k': {'v': 1.5}}]}}
    tables, rest = row_tables(odd)
    assert tables == {'rows': [('x', 'y'), ('1', '–'), ('–', 'z')]}
    assert ('deep · er · 1 · k · v', '1.5') in leaves(rest) and ('a · 1', '1 – 2') in leaves(rest)


def test_published_numbers_add_up():
    for paper, key, columns in (('4DP-QA', 'table3', ('real', 'synthetic', 'overall')), ('MLLM-4D', 'table2', ('real', 'synthetic', 'overall')),
                                ('4DP-QA', 'table4', ('VLM4D real', 'VLM4D synthetic', 'VLM4D overall')), ('VLM4D', 'cot', ('real', 'synthetic', 'overall'))):
        a, b, c = (published_table(paper, key).column(name) for name in columns)
        assert all(abs((1371 * a[row] + 445 * b[row]) / 1816 - c[row]) < .11 for row in c)
    table1 = published_table('MLLM-4D', 'table1').rows
    assert all(abs(sum(values[:6]) / 6 - values[6]) < .08 for values in table1.values()) and len(table1) == 17
    assert {max(values, key=values.get) for values in mixture_table('VLM4D overall').values()} == {'(III)'}
    with pytest.raises(InputError, match='no column'): published_table('4DP-QA', 'table2').column('colour')
