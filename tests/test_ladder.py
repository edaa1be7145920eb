"""Curation measured, lessons and rungs of MLLM-4D's ladder: kept steps, shared towers, tests over seeds."""
import dataclasses
import itertools

import numpy as np
import pytest
import torch

from track4d_ref.curation import (CANDIDATES, GEOMETRIES, SOURCES, added, agreement, curated_set, curation_cells, filter_rows,
                                  measured_points)
from track4d_ref.grpo import GrpoSettings
from track4d_ref.ladder import (PARENTS, Ladder, ladder_cells, reward_cells, run_grpo_reward, run_ladder, sign_flip_p, t_test_p)
from track4d_ref.ladder_lessons import (SIZES, SUBTASKS, LadderPlan, TowerStates, bench, bench_questions, brief, chain_examples, chain_tasks, direct,
                                        sft_examples, teach, words_of)
from track4d_ref.presets import load_preset
from track4d_ref.relations import KINDS
from track4d_ref.rewards import st_reward
from track4d_ref.simulator import simulate_clips
from track4d_ref.storage import InputError
from track4d_ref.tokens import train_tokenizer
from track4d_ref.vision import load_tower
from track4d_ref.vlm import build_vlm

TINY = load_preset('tiny')

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('ladder')

@pytest.fixture(scope='module')
def few(folder): return curated_set(folder / 'set', TINY, 41, 10)


# --- curation -----------------------------------------------------------------------------------------------------------

def test_agreement_counts_every_geometry_alike():
    clip = next(simulate_clips(1, 8, TINY, rig='stereo', baseline_m=0.3, height=84, width=112))
    table = agreement(clip, 3)
    assert set(table) == set(KINDS) and all(set(row) == set(GEOMETRIES) for row in table.values())
    for row in table.values(): assert len({total for _, total in row.values()}) == 1 and all(0 <= right <= total for right, total in row.values())
    assert all(right == total for right, total in table['camera_direction'].values())       # poses are exact everywhere
    assert agreement(clip, 3) == table
    with pytest.raises(InputError, match='does not exist'): measured_points(clip, 'sonar', np.random.default_rng(0))


def test_added():
    assert added([{'a': [1, 2]}, {'a': [3, 4], 'b': [5]}]) == {'a': [4, 6], 'b': [5]} and added([]) == {}


def test_a_set_does_not_depend_on_how_much_of_it_is_asked_for(few, folder, tmp_path):
    again = curated_set(tmp_path, TINY, 41, 3)
    assert again.lines == few.lines[:3] and np.array_equal(again.frames, few.frames[:3]) and len(few) == 10
    assert all(set(lines) == set(SOURCES) for lines in few.lines)


def test_one_eye_changes_metres_and_stereo_keeps_poses():
    clip = next(simulate_clips(1, 8, TINY, camera_program='forward'))
    reach = {geometry: np.linalg.norm(np.subtract(*measured_points(clip, geometry, np.random.default_rng(4)).centers_m[[0, -1]]))
             for geometry in ('0 px', '0.25 px', 'one eye')}
    assert reach['0 px'] == reach['0.25 px'] > 0 and abs(reach['one eye'] / reach['0 px'] - 1) > 0.02


def test_filter_rows_by_hand():
    line = lambda *letters: dict(type='camera_direction', solution=dict(answer='A', camera_center=[[0, 0, 0]] * 2, object_center=[None, None]),
                                 traces=[f'<thinking>Camera Center: [0, 0, 0] Object Center: null Camera Center: [0, 0, 0] Object Center: null</thinking>'
                                         f'<answer>{letter}</answer>' for letter in letters])
    rows = filter_rows([line('A', 'B', 'B'), line('B', 'B', 'C')])
    count, kept, threshold, every, best, right, right_kept = rows['camera_direction']
    assert (count, kept) == (2, 1) and threshold == pytest.approx(0.75) and best == pytest.approx(1) and right_kept == 1
    assert right == pytest.approx(1 / 6, abs=1e-3) and every == pytest.approx(0.5 + 0.5 / 6, abs=1e-3)
    agreed = {kind: {geometry: [1, 2] for geometry in GEOMETRIES} for kind in KINDS}
    cells = curation_cells(dict(agreement=agreed, filter=rows))
    assert len({len(cell) for cell in cells}) == 1 and cells[2][-2:] == ('1 of 2', '17 → 100 %')


# --- lessons ------------------------------------------------------------------------------------------------------------

def test_lessons_chains_and_tasks(few):
    lessons, tasks = sft_examples(few, 'mono', TINY), chain_tasks(few, 'stereo', TINY)
    for example, lines in zip(lessons, few.lines):
        assert [d[1]['content'] for d in example.dialogues] == [line['label'] for line in lines['mono']]
    kept = [d[1]['content'] for example in chain_examples(few, TINY) for d in example.dialogues]
    traces = {text: line['solution'] for lines in few.lines for line in lines['stereo'] for text in line['traces']}
    assert 0 < len(kept) < len(tasks) == sum(len(lines['stereo']) for lines in few.lines) and CANDIDATES == 3
    whole = [d[1]['content'] for example in chain_examples(few, TINY, whole=True) for d in example.dialogues]
    assert kept == [brief(text) for text in whole] and max(map(len, kept)) < min(map(len, whole))
    rewards = {text: st_reward(text, truth).total for text, truth in traces.items()}
    assert np.mean([rewards[text] for text in whole]) > np.mean(list(rewards.values()))
    assert [st_reward(text, traces[long]).total for text, long in zip(kept, whole)] == [rewards[long] for long in whole]


def test_bench_is_balanced_and_apart_from_training(few, folder):
    data, asked = bench(folder / 'set', TINY, 42, 2)
    rows = bench_questions((data, asked))
    assert len(rows) == 12 and all([row[2] for row in rows].count(name) == 2 for name in SUBTASKS.values())
    seen = {frames.tobytes() for frames in few.frames}
    assert not seen & {data.frames[index].tobytes() for index, _ in asked}
    for _, line in asked: assert line['choices']['ABCD'.index(line['answer'])] == line['label'] and len(set(line['choices'])) == 4


@pytest.fixture(scope='module')
def student(few):
    preset = dataclasses.replace(TINY, **SIZES | dict(text_layers=1))
    tokenizer = train_tokenizer(words_of(sft_examples(few, 'stereo', TINY) + chain_examples(few, TINY)), 700)
    model = build_vlm(preset, tokenizer)
    load_tower(model)
    return model, tokenizer


def test_teaching_keeps_the_tower_and_repeats(student, few):
    import copy
    model, tokenizer = student
    one, two = copy.deepcopy(model), copy.deepcopy(model)
    states, lessons = TowerStates(), sft_examples(few, 'stereo', TINY)
    first = teach(one, tokenizer, lessons, states, 4, 3, 2e-3, 5)
    second = teach(two, tokenizer, lessons, TowerStates(), 4, 3, 2e-3, 5)
    assert first == second and all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    same = lambda name: torch.equal(dict(model.named_parameters())[name], dict(one.named_parameters())[name])
    assert all(same(name) for name, _ in model.named_parameters() if '.visual.blocks.' in name or 'patch_embed' in name)
    assert not all(same(name) for name, _ in model.named_parameters() if 'merger' in name)


def test_direct_answers_are_the_likeliest_texts(student, folder):
    model, tokenizer = student
    asked = bench(folder / 'set', TINY, 42, 1)
    verdicts = direct(model, tokenizer, asked, TINY)
    assert len(verdicts) == 6 and set(verdicts) <= set('01') and verdicts == direct(model, tokenizer, asked, TINY)
    turned = [(index, line | dict(choices=line['choices'][::-1], answer='ABCD'[3 - 'ABCD'.index(line['answer'])])) for index, line in asked[1]]
    assert direct(model, tokenizer, (asked[0], turned), TINY) == verdicts            # the order of the options does not matter


# --- rungs --------------------------------------------------------------------------------------------------------------

SHORT = LadderPlan(clips=6, base_clips=4, base_steps=2, sft_steps=2, cold_steps=2, batch=2, cold_batch=2, bench=1, transfer=1, words=6, samples=1, seeds=2,
                   grpo=GrpoSettings(group=2, words=6, prompts_per_step=1, steps=2))

@pytest.fixture(scope='module')
def climbed(tmp_path_factory):
    where = tmp_path_factory.mktemp('short')
    return where, run_ladder(TINY, where / 'ladder', 0, SHORT)


def test_every_rung_is_made_once_and_kept(climbed, monkeypatch):
    where, result = climbed
    assert set(result['models']) == set(PARENTS) and all(len(rows) == 2 for rows in result['models'].values())
    assert len(result['models']['base'][0]['bench']) == 6 == len(result['questions']['bench'])
    monkeypatch.setattr(Ladder, 'climb', lambda *_: pytest.fail('a kept rung was made again'))
    assert run_ladder(TINY, where / 'ladder', 0, SHORT) == result
    with pytest.raises(InputError, match='another plan'): run_ladder(TINY, where / 'ladder', 0, dataclasses.replace(SHORT, sft_steps=3))


def test_table_of_the_ladder(climbed):
    cells = ladder_cells(climbed[1])
    assert [line[0] for line in cells[1:]][0] == 'base' and len(cells) == 7 and len({len(line) for line in cells}) == 1
    assert cells[1][-2:] == ('35.3', '52.1') and cells[4][-2:] == ('', '') and cells[-1][-2:] == ('72.7', '63.1')


def test_runs_of_grpo_share_a_cold_start_and_draw_their_own_numbers(climbed):
    where, _ = climbed
    result = run_grpo_reward(TINY, where / 'grpo_reward', 0, SHORT, runs=2)
    assert [run['seed'] for run in result['runs']] == [100, 101] and result['runs'][0]['curve'] != result['runs'][1]['curve']
    assert all(len(run['curve']['reward']) == 2 and run['before'].keys() == run['after'].keys() for run in result['runs'])
    assert run_grpo_reward(TINY, where / 'grpo_reward', 0, SHORT, runs=2) == result
    assert len({len(line) for line in reward_cells(result)}) == 1 and reward_cells(result)[1][4].endswith('of 2')
    ladder = Ladder(TINY, where / 'rungs', SHORT)
    assert ladder.parent('grpo_st', 101) == ('cold', 0) and ladder.parent('grpo', 1) == ('cold', 1) and ladder.parent('mono', 1) == ('base', 0)


@pytest.mark.parametrize('gains', [[0.1, 0.2, 0.15], [0.1, -0.2, 0.05, 0.3], [-0.1, -0.2]])
def test_p_values(gains):
    flips = [np.mean([g * s for g, s in zip(gains, signs)]) for signs in itertools.product((1, -1), repeat=len(gains))]
    assert sign_flip_p(gains) == np.mean(np.array(flips) >= np.mean(gains) - 1e-12)
    scipy = pytest.importorskip('scipy.stats')
    assert t_test_p(gains) == pytest.approx(scipy.ttest_1samp(gains, 0, alternative='greater').pvalue, abs=1e-6)


def test_p_of_a_clear_gain():
    assert sign_flip_p([0.1] * 7) == 1 / 128 and sign_flip_p([0.0] * 4) == 1.0 and t_test_p([0.1]) == 1.0
