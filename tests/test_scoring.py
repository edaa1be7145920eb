"""Scoring: the exact match as a table of strings, intervals against known values, invariances of the table."""
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from track4d_ref.scoring import (accuracy_table, blind_prior, chance_level, clustered_interval, exact_match_vsi, mcnemar,
                                 normalise_text, render_html, render_markdown, rescore, score_rows, score_vsi,
                                 seeds_interval, t_quantile, wilson)
from track4d_ref.storage import InputError

MATCHES = [('B', 'B', True), ('b', 'B', True), ('B.', 'B', True), ('B....', 'B', True), ('B. left', 'B', True),
           ('B left', 'B', True), ('B\t', 'B', True), ('B\n', 'B', True), ('Yes. It does', 'yes', True), ('3', 3, True),
           ('0', 0, True), ('3.0', 3, False), ('B,', 'B', False), ('B: left', 'B', False), (' B', 'B', False),
           ('(B)', 'B', False), ('The answer is B', 'B', False), ('B\nleft', 'B', False), ('B.\n', 'B', False),
           ('', 'B', False), ('.', 'B', False), ('C', 'B', False), ('left', 'left.', False)]

@pytest.mark.parametrize('answer, truth, right', MATCHES)
def test_exact_match_table(answer, truth, right):
    assert exact_match_vsi(answer, truth) is right

def row(number, answer='A', truth='A', kind='depth', category='spatial', clip=None, choices=('x', 'y', 'z')):
    return dict(id=str(number), clip=clip or f'clip{number % 5}', type=kind, category=category, choices=choices,
                truth=truth, answer=answer)

verdicts = st.lists(st.tuples(st.sampled_from('ABC'), st.sampled_from('ABC'), st.sampled_from(['depth', 'direction']),
                              st.integers(0, 4)), min_size=1, max_size=60)

def rows_from(drawn):
    return [row(i, answer, truth, kind, {'depth': 'spatial', 'direction': 'object'}[kind], f'clip{clip}')
            for i, (answer, truth, kind, clip) in enumerate(drawn)]

@settings(max_examples=60, deadline=None)
@given(verdicts, st.randoms(use_true_random=False))
def test_table_ignores_order_and_stays_in_bounds(drawn, shuffler):
    rows = score_rows(rows_from(drawn))
    table = accuracy_table(rows, prior=blind_prior(rows))
    shuffled = rows[:]
    shuffler.shuffle(shuffled)
    assert accuracy_table(shuffled, prior=blind_prior(shuffled)) == table
    for line in table.lines:
        assert 0 <= line.low <= line.accuracy <= line.high <= 1 and 0 <= line.chance <= 1 and 0 <= line.blind <= 1

@settings(max_examples=60, deadline=None)
@given(verdicts)
def test_truth_scores_one_and_overall_is_item_weighted(drawn):
    rows = rows_from(drawn)
    perfect = accuracy_table(score_rows([{**r, 'answer': r['truth']} for r in rows]))
    assert all(line.accuracy == 1 and line.high == 1 and line.low < 1 for line in perfect.lines)
    table = accuracy_table(score_rows(rows))
    items = [line for line in table.lines if line.level == 'item']
    assert table.lines[-1].correct == sum(line.correct for line in items)
    assert table.lines[-1].total == sum(line.total for line in items) == len(rows)

def test_shuffled_answers_fall_to_chance():
    rng = random.Random(4)
    truths = [rng.choice('ABC') for _ in range(6000)]
    answers = truths[:]
    rng.shuffle(answers)
    rows = score_rows([row(i, a, t) for i, (a, t) in enumerate(zip(answers, truths))])
    line = accuracy_table(rows).lines[-1]
    assert line.low < line.chance < line.high and line.chance == pytest.approx(1 / 3) and line.accuracy < 0.37

def test_wilson_known_values_and_ends():
    assert wilson(60, 100) == pytest.approx((0.5020026, 0.6905987), abs=1e-6)
    assert wilson(825, 1371) == pytest.approx((0.576, 0.627), abs=6e-4)          # MLLM-4D's released letters
    assert wilson(242, 445) == pytest.approx((0.497, 0.590), abs=6e-4)
    assert wilson(0, 9)[0] == 0 and wilson(9, 9)[1] == 1 and wilson(0, 0) == (0, 1)
    with pytest.raises(InputError): wilson(5, 3)

@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.data())
def test_wilson_contains_the_share_and_mirrors(total, data):
    correct = data.draw(st.integers(0, total))
    low, high = wilson(correct, total)
    assert 0 <= low <= correct / total + 1e-12 and correct / total - 1e-12 <= high <= 1
    assert wilson(total - correct, total) == pytest.approx((1 - high, 1 - low))
    assert high - low > wilson(4 * correct, 4 * total)[1] - wilson(4 * correct, 4 * total)[0]

def test_mcnemar_exact_against_hand_computed_tails():
    def pair(first_only, second_only):
        return mcnemar([True] * first_only + [False] * second_only + [True], [False] * first_only + [True] * second_only + [True])
    assert pair(1, 0).p == 1 and pair(5, 0).p == 0.0625 and pair(8, 1).p == pytest.approx(2 * 10 / 512)
    assert pair(154, 175).p == pytest.approx(0.27, abs=0.005)                     # MLLM-4D, SFT against RFT, real
    assert pair(2, 7) == type(pair(2, 7))(2, 7, pair(7, 2).p) and pair(0, 0).p == 1
    assert 0 <= pair(0, 1800).p < 1e-300
    with pytest.raises(InputError, match='same rows'): mcnemar([True], [])

def test_t_quantiles_of_the_printed_tables():
    for freedom, tabled in {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 7: 2.3646, 10: 2.2281, 30: 2.0423}.items():
        assert t_quantile(0.95, freedom) == pytest.approx(tabled, abs=6e-5)
    assert t_quantile(0.99, 6) == pytest.approx(3.7074, abs=6e-5)

def test_seeds_interval():
    centre, low, high = seeds_interval([1.0, 2.0, 6.0])
    assert centre == 3 and high - centre == pytest.approx(4.3027 * math.sqrt(7) / math.sqrt(3), abs=1e-3)
    assert centre - low == pytest.approx(high - centre)
    with pytest.raises(InputError, match='two seeds'): seeds_interval([0.5])

def test_clustered_interval_widens_with_agreement_inside_a_clip():
    together = [dict(clip=i // 6, correct=i // 6 % 2 == 0) for i in range(120)]
    apart = [dict(clip=i // 6, correct=i % 2 == 0) for i in range(120)]
    width = lambda rows: clustered_interval(rows)[1] - clustered_interval(rows)[0]
    assert width(together) == pytest.approx(wilson(10, 20)[1] - wilson(10, 20)[0], abs=0.02)     # 20 clips, not 120
    assert width(apart) == pytest.approx(wilson(60, 120)[1] - wilson(60, 120)[0])                # never narrower
    assert width([dict(clip=1, correct=True)] * 50) > 0.5 and clustered_interval([]) == (0, 1)

def test_chance_and_parsing():
    assert chance_level(row(1)) == pytest.approx(1 / 3) and chance_level(row(1, truth='No', choices=())) == 0.5
    assert chance_level(row(1, truth='2.4 m', choices=())) == 0
    assert score_vsi(row(1, 'D')) == dict(correct=False, parsed=False)
    assert score_vsi(row(1, 'c.')) == dict(correct=False, parsed=True)

def test_blind_prior_learns_texts_not_letters():
    train = [row(i, truth='A', choices=('left', 'up', 'right')) for i in range(9)]
    train += [row(i, truth='C', choices=('up', 'right', 'left ')) for i in range(9)]
    prior = blind_prior(train)
    assert prior.answer(row(0, choices=('right', 'Left.', 'up'))) == 'B'
    assert prior.answer(row(0, choices=('1', '2', '3'))) == 'A' and prior.answer(row(0, kind='other')) == ''
    yes_no = blind_prior([row(i, truth='No' if i < 7 else 'Yes', choices=()) for i in range(12)])
    assert yes_no.answer(row(0, choices=())) == 'No'

def test_normalise_text_keeps_synonyms_apart():
    assert normalise_text(' To the  Right. ') == 'to the right' and normalise_text(0) == '0'
    assert len({normalise_text(t) for t in ('anti-clockwise', 'anticlockwise', 'counter-clockwise')}) == 3

def test_rescore_names_exactly_the_moved_rows():
    rows = score_rows([row(i, 'A' if i % 3 else '(A)') for i in range(10)])
    assert rescore(rows) == (rows, [])
    kinder = lambda r: dict(correct=r['truth'] in r['answer'], parsed=True)
    assert rescore(rows, kinder)[1] == ['0', '3', '6', '9']

def test_renderings_escape():
    cells = [('', 'x'), ('<b>|', '1')]
    assert '&lt;b&gt;' in render_html(cells) and '\\|' in render_markdown(cells)

@pytest.mark.parametrize('broken, word', [(dict(id='q7', truth='A'), 'answer'), (dict(id='q7', answer='A'), 'truth')])
def test_missing_fields_name_the_row(broken, word):
    with pytest.raises(InputError, match=f"row q7: field '{word}'"): score_rows([broken])
    with pytest.raises(InputError): accuracy_table([])
