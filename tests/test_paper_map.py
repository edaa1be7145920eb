"""The map from the papers to the code: every function can be imported, every test exists, every paper is covered."""
import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / 'PAPER_MAP.md').read_text(encoding='utf-8')
PAPERS = {title: body for title, body in re.findall(r'^## ([^\n]+)\n(.*?)(?=^## |\Z)', TEXT, re.M | re.S)}
ROWS = [[cell.strip() for cell in line.strip('|').split(' | ')] for body in PAPERS.values()
        for line in body.splitlines() if line.startswith('| ') and not line.startswith('| in the paper')]


def links(cell: str) -> list[tuple[str, str]]:
    return re.findall(r'\[`([\w.]+)`\]\(([^)]+)\)', cell)


def test_every_row_has_four_cells_and_says_what_is_missing():
    assert len(ROWS) > 80 and all(len(row) == 4 for row in ROWS), [row for row in ROWS if len(row) != 4]
    for what, functions, tests, remark in ROWS:
        assert what and (links(functions) or remark), what
        assert (links(tests) or not links(functions)), f'{what}: a function without a test'


@pytest.mark.parametrize('name, target', sorted({link for row in ROWS for link in links(row[1])}))
def test_functions_can_be_imported_from_the_linked_notebook(name, target):
    module, attribute = name.split('.')
    assert callable(getattr(importlib.import_module(f'track4d_ref.{module}'), attribute))
    text = (ROOT / 'nbs_text' / f'{Path(target).stem}.py').read_text(encoding='utf-8')
    assert (ROOT / target).exists() and re.search(rf'^#\|\s*default_exp {module}$', text, re.M)


@pytest.mark.parametrize('name, target', sorted({link for row in ROWS for link in links(row[2])}))
def test_tests_exist(name, target):
    tree = ast.parse((ROOT / target).read_text(encoding='utf-8'))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert len(found) == 1
    asserts = [node for node in ast.walk(found[0]) if isinstance(node, ast.Assert) or
               isinstance(node, ast.Attribute) and node.attr in ('raises', 'assert_allclose', 'assert_close', 'gradcheck')]
    calls = {node.func.id for node in ast.walk(found[0]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    helpers = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in calls]
    assert asserts or any(isinstance(node, ast.Assert) for helper in helpers for node in ast.walk(helper)), f'{name} asserts nothing'


def test_all_three_papers_and_their_numbered_items_are_there():
    assert list(PAPERS) == ['4DP-QA', 'LMM-Track4D', 'MLLM-4D', 'VLM4D (the external benchmark)']
    items = {'4DP-QA': ('Eq. 1', 'Eq. 2', 'Table 1', 'Table 2', 'Table 3', 'Table 4', 'Figure 2', 'Figure 4', 'geometry encoder'),
             'LMM-Track4D': ('RTGE', 'TRK', 'OSK-RA', 'losses', 'Traj-Acc', 'history', 'Track4D-Bench', 'ablations'),
             'MLLM-4D': (*(f'relation {number}' for number in range(1, 5)), 'seven templates', 'Algorithm 1', 'R_Fmt', 'R_Cam',
                         'GRPO', 'ST-CoT', 'Table 1', 'Table 2', 'ladder', 'Figure 5')}
    for paper, wanted in items.items():
        assert [item for item in wanted if item not in PAPERS[paper]] == []
    for kind in range(1, 14): assert re.search(rf'Types? [^|]*\b{kind}\b', PAPERS['4DP-QA']), f'question type {kind}'
