"""Rewards: listed totals of the released code, formulas of the paper, every hole, hostile strings."""
import json
import math
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from track4d_ref.rewards import (WEIGHTS, block, bracketed, decimal_vector, keep_chains, literal_vector, st_reward,
                                 st_rewards)
from track4d_ref.storage import InputError

SOLUTION = {'answer': 'B', 'camera_center': [[0, 0, 0], [0.3, 0, 0.4]], 'object_center': [[1, 0, 2], [1, 0, 3]]}
CAMERA_ONLY = {**SOLUTION, 'object_center': [None, None]}
NOTHING = {'answer': 'B', 'camera_center': None, 'object_center': []}

def trace(camera=('[0, 0, 0]', '[0.3, 0, 0.4]'), thing=('[1, 0, 2]', '[1, 0, 3]'), letter='B', tag='thinking'):
    states = '\n'.join(f'Camera Center: {c}\nObject Center: {o}' for c, o in zip(camera, thing))
    return f'<{tag}>{states}</{tag}>\n<answer>{letter}</answer>'

CODE_TABLE = [                                              # total of the released code, camera part, object part
    (trace(), 1.0, .1, .1), (trace(letter='C'), .4, .1, .1), (trace(letter='b'), .4, .1, .1),
    (trace(camera=('[0,0,0]', '[0,0,0]')), .9 + .1 * math.exp(-.25), .1 * math.exp(-.25), .1),
    (trace(thing=('[2,0,2]', '[2,0,3]')), .9 + .1 * math.exp(-1), .1, .1 * math.exp(-1)),
    (trace(letter='B. 2.4'), .4, .1, .1), (trace(letter=' B\n'), 1.0, .1, .1), (trace(tag='think'), .88, .1, .1),
    ('B', .6, 0, 0), ('<thinking></thinking><answer>B</answer>', .72, 0, 0), ('', 0, 0, 0),
    ('Camera Center: [0,0,0] ' + trace(), .9, 0, .1), (trace(thing=('[1, 0]', '[1, 0]')), .9, .1, 0),
    (trace(thing=('null', 'null')), .82, .1, 0), (trace(camera=('[0x0, 0_0, 0]', '[+0.3, False, 4e-1,]')), 1.0, .1, .1),
    (trace(camera=('[00, 0, 0]', '[0.3, 0, .4]')), 1.0, .1, .1), (trace(camera=('[03, 0, 0]', '[.3, 0, .4]')), .9, 0, .1),
    (trace(camera=('[1-1, 0, 0]', '[.3, 0, .4]')), .9, 0, .1), (trace(camera=('[0, 0, 0]', '["a", 0, 0]')), .9, 0, .1),
    (trace(camera=('[0, 0,\n 0]', '[.3, 0, .4]')), .9, 0, .1), (trace(camera=('[1e999, 0, 0]', '[.3, 0, .4]')), .9, 0, .1),
    (trace(camera=('[NULL]', '[0, 0, 0] Camera Center: [.3, 0, .4]')), 1.0, .1, .1),
]

@pytest.mark.parametrize('completion, total, camera, thing', CODE_TABLE)
def test_code_table(completion, total, camera, thing):
    reward = st_reward(completion, [SOLUTION], 'code')
    assert reward.total == pytest.approx(total, abs=1e-9)
    assert (reward.camera, reward.object) == pytest.approx((camera, thing), abs=1e-9)

data = os.environ.get('TRACK4D_DATA')
golden = Path(data).parent / 'goldens' / 'st_reward_golden_public.json' if data else Path('missing')

@pytest.mark.skipif(not golden.is_file(), reason='TRACK4D_DATA is not set or has no goldens beside it')
def test_listed_cases_of_the_released_code():
    for case in json.loads(golden.read_text()):
        reward = st_reward(case['completion'], case['solution'], 'code')
        parts = [reward.format, reward.accuracy, reward.camera, reward.object, reward.total]
        assert parts == pytest.approx([case[k] for k in ('format', 'acc', 'camera', 'object', 'total')], abs=1e-9), case['name']

@pytest.mark.parametrize('error_m', [0, 0.1, 0.25, 0.5, 1, 2, 7.5])
def test_paper_formula(error_m):
    reward = st_reward(trace(camera=(f'[{error_m}, 0, 0]', '[.3, 0, .4]'), thing=('[1, 0, 2]', f'[1, {-error_m}, 3]')), SOLUTION)
    assert reward.camera == reward.object == pytest.approx(0.15 * math.exp(-error_m / 2))
    assert reward.total == pytest.approx(0.7 + 0.3 * math.exp(-error_m / 2))

def test_paper_weights():
    assert st_reward(trace(), SOLUTION).total == pytest.approx(1.0)
    assert st_reward(trace(letter='C'), SOLUTION).total == pytest.approx(0.5)
    assert st_reward(trace(tag='think'), SOLUTION).format == pytest.approx(0.1)
    assert st_reward('<answer>B</answer>', SOLUTION).total == pytest.approx(0.5)
    assert st_reward(trace(), SOLUTION, spatial=False).total == pytest.approx(0.7)

HOLES = [                                                   # completion, solution, part, paid by code, paid by paper
    ('B', SOLUTION, 'accuracy', .6, .5), ('<answer>B</answer><thinking></thinking>', SOLUTION, 'format', .12, 0),
    ('<thinking></thinking><answer>C</answer>', SOLUTION, 'format', .12, .1),
    ('Object Center: [?] Camera Center: [?]', SOLUTION, 'format', .08, .1), ('', CAMERA_ONLY, 'object', .1, 0),
    ('', NOTHING, 'camera', .1, 0), ('Object Center: [?]', CAMERA_ONLY, 'object', .1, 0),
    ('Object Center: null', CAMERA_ONLY, 'object', .1, .15), ('Object Center: [null, null, null]', CAMERA_ONLY, 'object', .1, .15),
    ('Object Center: [0, 0, 0]', CAMERA_ONLY, 'object', 0, 0), ('Object Center: null Object Center: [1, 2, 3]', CAMERA_ONLY, 'object', 0, 0),
    ('Camera Center: [False, 0, 0] Camera Center: [.3, 0, .4]', SOLUTION, 'camera', .1, 0),
    ('Camera Center: [(0), 0, 0] Camera Center: [.3, 0, .4]', SOLUTION, 'camera', .1, 0),
]

@pytest.mark.parametrize('completion, solution, part, code, paper', HOLES)
def test_holes(completion, solution, part, code, paper):
    assert getattr(st_reward(completion, solution, 'code'), part) == pytest.approx(code)
    assert getattr(st_reward(completion, solution, 'paper'), part) == pytest.approx(paper)

@pytest.mark.parametrize('solution', [SOLUTION, CAMERA_ONLY, NOTHING, {**NOTHING, 'answer': ''}])
@pytest.mark.parametrize('silence', ['', ' ', '\n\n', '...', 'I do not know'])
def test_silence_is_never_paid_by_default(silence, solution):
    assert st_reward(silence, solution) == st_reward('', SOLUTION) and st_reward(silence, solution).total == 0

pieces = st.sampled_from(['<thinking>', '</thinking>', '<answer>', '</answer>', 'B', 'Camera Center:', 'Object Center:', ' ', '\n', '[',
                          ']', '(' * 50, ')', '{', '1e999', '-', 'nan', 'null', '0x1F', '9' * 80, ',', '[0, 0, 0]', '"', '\\', '\x00',
                          '１', '［', 'j', 'True', '#', '__import__("os")', '∞', 'Camera Center: [', 'Object Center: [1, 0, 2]'])

@settings(max_examples=400, deadline=None)
@given(st.lists(pieces | st.text(max_size=5), max_size=50).map(''.join), st.sampled_from([SOLUTION, CAMERA_ONLY, NOTHING]))
def test_parts_stay_within_their_weights(completion, solution):
    for preset, weights in WEIGHTS.items():
        reward = st_reward(completion, solution, preset)
        assert all(0 <= getattr(reward, part) <= weight for part, weight in weights.items())
        assert 0 <= reward.total <= 1 + 1e-12

def test_twelve_thousand_hostile_strings_in_bounded_time():
    import random
    rng, start = random.Random(11), time.process_time()
    atoms = ['Camera Center: [', 'Object Center:', '[', ']', '(' * 30, '1e9', '9' * 300, ',', '\n', '\ud800', '\u202e', '１', '<answer>',
             '</answer>', '<thinking>', '</thinking>', 'null', '0', '.', '-', "'", '"', '\x00', '{', '}', ':', 'inf', '**', 'B']
    for i in range(12_000):
        text = ''.join(rng.choices(atoms, k=rng.randrange(80)))
        assert 0 <= st_reward(text, (SOLUTION, CAMERA_ONLY, NOTHING)[i % 3], ('paper', 'code')[i % 2]).total <= 1
    print(f'{time.process_time() - start:.1f} s')
    assert time.process_time() - start < 30

@pytest.mark.parametrize('piece', ['<thinking>', '<answer>', 'Camera Center:', 'Camera Center: [', 'Object Center: [0,0,0]\n', '[', '(', '-',
                                   'Camera Center: [' + '1' * 990 + ']', 'Camera Center: [' + '(' * 990 + ']', '\n', 'Camera Center:  '])
@pytest.mark.parametrize('preset', WEIGHTS)
def test_megabytes(piece, preset):
    start = time.process_time()
    assert 0 <= st_reward(piece * (2_000_000 // len(piece)), NOTHING, preset).total <= 1
    assert time.process_time() - start < 10

@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(['<answer>', '</answer>', 'Camera Center:', ' ', '\n', '[', ']', '1', 'x']), max_size=14).map(''.join))
def test_one_pass_equals_the_obvious_expressions(text):
    assert bracketed(text, 'camera') == re.findall(r'Camera Center:\s*(\[.*?\])', text)
    found = re.search('<answer>.*?</answer>', text, re.DOTALL)
    assert block(text, 'answer') == (found.span() if found else None)

NUMBERS = [('[1, 2, 3]', True, True), ('[1.,.5,-2E-1]', True, True), ('[ +1 , 2,3 ]', True, True), ('[1, 2]', False, True),
           ('[1, 2, 3, 4]', False, True), ('[1,2,3,]', False, True), ('[1 2 3]', False, False), ('[nan, 0, 0]', False, False),
           ('[1e400, 0, 0]', False, True), ('[0x1, 0, 0]', False, True), ('[1_0, 0, 0]', False, True), ('[１, 0, 0]', False, False),
           ('[1, 2, x]', False, False), ('[]', False, True), ('[1, 2, 3] ', False, True), ('[' + '9' * 2000 + ', 0, 0]', False, False),
           ('[().__class__, 0, 0]', False, False), ('[1, 2, 3]+[4]', False, False), ('[None, 0, 0]', False, True)]

@pytest.mark.parametrize('text, decimal, literal', NUMBERS)
def test_number_readers(text, decimal, literal):
    assert (decimal_vector(text) is not None, literal_vector(text) is not None) == (decimal, literal)

def test_batch_and_errors():
    assert st_rewards([trace(), ''], [SOLUTION, [SOLUTION]]) == [pytest.approx(1.0), 0.0]
    with pytest.raises(ValueError): st_rewards(['B'], [])
    with pytest.raises(InputError, match='preset'): st_reward('B', SOLUTION, 'papers')
    with pytest.raises(InputError, match='answer'): st_reward('B', {'answer': 1})
    with pytest.raises(InputError, match='camera_center'): st_reward('B', {'answer': 'B', 'camera_center': [[math.inf, 0, 0]]})
    with pytest.raises(InputError, match='object_center'): st_reward('B', {'answer': 'B', 'object_center': [[1, '2', 3]]})

def test_keep_chains_by_scenario_mean_of_the_best():
    rewards = {'a': ('near', [.2, .9, .1]), 'b': ('near', [.5, .4]), 'c': ('far', [.3]), 'd': ('far', [.1, .1]), 'e': ('none', [0, 0])}
    assert keep_chains(rewards) == {'a': 1, 'c': 0}
