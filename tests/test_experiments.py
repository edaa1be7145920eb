"""Tables of the papers as objects: kept steps, result files, tests between models."""
import json

import pytest

from track4d_ref.experiments import GUESSING, guess_cells, paired_difference, published_row, read_result, result_file, step, write_result
from track4d_ref.presets import load_preset
from track4d_ref.reproduce import EXPERIMENTS, chosen_experiments, result_text
from track4d_ref.scoring import seeds_interval
from track4d_ref.storage import InputError


def rows(verdicts, clip_size=2):
    return [dict(id=str(k), clip=str(k // clip_size), correct=verdict) for k, verdict in enumerate(verdicts)]


def test_step_runs_once_and_refuses_another_key(tmp_path):
    calls = []
    make = lambda: calls.append(1) or {'value': 7}
    assert step(tmp_path, 'one', {'seed': 1}, make) == step(tmp_path, 'one', {'seed': 1}, make) == {'value': 7}
    assert calls == [1]
    with pytest.raises(InputError, match='another seed'): step(tmp_path, 'one', {'seed': 2}, make)


def test_interrupted_step_leaves_nothing(tmp_path):
    def broken(): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): step(tmp_path, 'one', {}, broken)
    assert list(tmp_path.iterdir()) == []


def test_result_round_trip_and_wrong_files(tmp_path):
    preset, result = load_preset('tiny'), {'depth': [50.0, 3]}
    write_result(tmp_path, GUESSING, preset, 5, result)
    stored = read_result(tmp_path, 'guessing', 'tiny')
    assert stored['result'] == result and stored['card']['seed'] == 5
    assert 'Scale:' in result_text(GUESSING, stored) and '50.0' in result_text(GUESSING, stored)
    for text in ('[]', '{}', '{"experiment": "other", "result": 1}', 'no json'):
        result_file(tmp_path, 'guessing', 'tiny').write_text(text)
        with pytest.raises(InputError): read_result(tmp_path, 'guessing', 'tiny')
    with pytest.raises(InputError, match='no stored result'): read_result(tmp_path, 'guessing', 'small')


@pytest.mark.parametrize('name', ['table', 'TABLE2', '../guessing', ''])
def test_unknown_experiments_are_named(name):
    with pytest.raises(InputError, match='does not exist'): chosen_experiments([name])


def test_all_means_all(): assert chosen_experiments(['all']) == list(EXPERIMENTS.values())


def test_every_experiment_says_what_scale_changes():
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name and len(experiment.scale.split()) >= 4 and not experiment.scale.endswith('.')


def test_paired_difference_by_hand():
    first, second = rows([True, False, False, False]), rows([True, True, True, False])
    found = paired_difference([first], [second])
    assert found.points == 50 and found.questions == 4 and found.seeds == 1 and found.low <= 50 <= found.high
    assert paired_difference([second], [first]).points == -50
    same = paired_difference([first, second], [first, second])
    assert (same.points, same.low, same.high, same.resolved) == (0, 0, 0, False)


def test_paired_difference_wants_the_same_questions():
    one = rows([True, False])
    with pytest.raises(InputError, match='same questions'): paired_difference([one], [one[::-1]])
    with pytest.raises(InputError, match='as many seeds'): paired_difference([one], [one, one])
    with pytest.raises(InputError): paired_difference([], [])
    with pytest.raises(InputError, match='clip'): paired_difference([[dict(id='0', correct=True)]], [[dict(id='0', correct=True)]])


def test_more_seeds_that_disagree_widen_the_interval():
    calm = [rows([True, True, False, False] * 10)] * 3
    wild = [rows([share] * 40) for share in (True, False, True)]
    base = [rows([False] * 40)] * 3
    width = lambda second: (found := paired_difference(base, second)).high - found.low
    assert width(wild) > width(calm) and seeds_interval([1, 2, 3])[0] == 2


def test_published_tables_are_the_papers():
    assert published_row('table2', 'NVILA-Lite-8B + 4DP-QA')['overall'] == 84.4
    assert published_row('table4', 'NVILA-Lite-8B (VI) = (III) + geometry enc.')['overall'] == 87.7
    trained = published_row('table2', 'Qwen2.5-VL-3B + 4DP-QA')
    ablation = published_row('table4', 'Qwen2.5-VL-3B (III) = (II) + TM')
    assert all(ablation[column] == value for column, value in trained.items())     # the same model in both tables
    spatial = [(trained[name], count) for name, count in dict(depth=340, object_object_distance=183, multiview_depth=148,
                                                              multiview_object_object_distance=134).items()]
    mean = sum(value * count for value, count in spatial) / sum(count for _, count in spatial)
    assert abs(mean - trained['all spatial']) < 0.1                                # item-weighted, unlike the others
    assert len(guess_cells({'depth': [50.0, 3]})) == 2


def test_shipped_results_render():
    shipped = 0
    for experiment in EXPERIMENTS.values():
        try: stored = read_result(None, experiment.name, 'tiny')
        except InputError: continue
        assert len(experiment.render(stored['result'])) > 1
        json.dumps(stored, allow_nan=False)
        shipped += 1
    assert shipped >= 1
