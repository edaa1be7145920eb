"""Hidden against seen states, turns by clip length, and everybody against the shipped model."""
import numpy as np
import pytest

from track4d_ref.dialogues import Dialogue, Turn
from track4d_ref.presets import load_preset
from track4d_ref.simulator import simulate_clip
from track4d_ref.track4d_parts import (SERIES, STATE_PARTS, TURNING, against_shipped, by_clip, hidden_scores, hiding_dialogues, parts_cells, state_rows,
                                       turn_grid)
from track4d_ref.track4d_training import Lesson


def lesson(number: int, seen=(True, True, True, False), inside=(True, True, True, False)) -> Lesson:
    turn = Turn('trajectory', 'Where?', 'There.', (0, 4), np.arange(4.0), np.ones((4, 3)), np.array(seen), {'occluded': not all(seen), 'inside': list(inside)})
    return Lesson(None, Dialogue(f'd{number}', f'clip{number // 2}', 'scene', 'simulator', 1, 'red ball', False, (0, 4), (turn,)), {})


def row(number: int, errors) -> dict:
    return dict(dialogue=f'd{number}', turn=1, errors=errors, occluded=number % 2 == 0, long=False)


@pytest.fixture
def asked():
    "Even dialogues lose their target in the last state; an error is the place of the state, and 2 m more where hidden."
    lessons = [lesson(n) if n % 2 == 0 else lesson(n, seen=(True,) * 4, inside=(True,) * 4) for n in range(8)]
    return lessons, [row(n, [0.0, 1.0, 2.0, 5.0 if n % 2 == 0 else 3.0]) for n in range(8)]


def test_states_are_counted_once_and_parts_do_not_overlap(asked):
    lessons, rows = asked
    states = state_rows(rows, lessons)
    count = {name: sum(map(belongs, states)) for name, belongs in STATE_PARTS.items()}
    assert len(states) == 32 and count['hidden'] == count['behind something'] + count['outside the picture'] == 4
    assert count['hidden'] + count['seen, same turns'] + count['seen, other turns'] == len(states)
    assert count['last, hidden'] + count['last, seen'] == len(rows)


def test_hidden_against_seen_by_hand(asked):
    lessons, rows = asked
    found = hidden_scores([rows, rows], rows, lessons)
    assert found['hidden']['ade_m'] == [5, 5, 5] and found['seen, same turns']['ade_m'] == [1, 1, 1]
    assert found['apart'] == {'hidden − seen, same turns': [4, 4, 4], 'last, hidden − last, seen': [2, 2, 2]}
    assert found['hidden']['difference'] == [0, 0, 0] and found['behind something']['ade_m'] is None
    assert found['occluded turns']['n'] == found['visible turns']['n'] == 4 and found['occluded turns']['ade_m'] == [2, 2, 2]


def test_an_unreadable_path_is_wrong_in_every_state(asked):
    lessons, rows = asked
    states = state_rows([row(0, None)], lessons)
    assert [state['errors'] for state in states] == [None] * 4
    assert hidden_scores([[row(n, None) for n in range(8)]], rows, lessons)['hidden']['traj_acc'] == [0, 0, 0]


def test_clips_are_resampled_not_dialogues(asked):
    lessons, rows = asked
    assert len({one['dialogue'] for one in by_clip(rows, lessons)}) == 4 == len({one['dialogue'] for one in state_rows(rows, lessons)})


def test_grid_and_differences_to_the_shipped_model():
    rows = [dict(dialogue=str(d), turn=k, errors=[float(k)] * 4, occluded=False, long=d > 5) for d in range(8) for k in (1, 2, 3)]
    grid = turn_grid(rows)
    assert [(one['long'], one['turn'], one['n']) for one in grid] == [(False, 1, 6), (False, 2, 6), (False, 3, 6), (True, 1, 2), (True, 2, 2), (True, 3, 2)]
    worse = [one | {'errors': [e + 1 for e in one['errors']]} for one in rows]
    found = against_shipped([worse, worse], rows)
    assert found['ade_m difference'] == [1, 1, 1] and len(found['each seed']) == 2
    assert turn_grid([one for one in rows if not one['long']])[-1]['traj_acc'] is None


def test_a_distance_is_compared_over_what_could_be_read():
    rows = [dict(dialogue=str(d), turn=1, errors=[float(d)] * 4, occluded=False, long=False) for d in range(4)]
    half = [one | {'errors': [e + 1 for e in one['errors']] if int(one['dialogue']) < 2 else None} for one in rows]
    found = against_shipped([half], rows)
    assert found['ade_m difference'][0] == 1 and found['parse_rate'][0] == 0.5 and found['traj_acc difference'][0] == -0.25


def test_the_second_set_has_hidden_states_and_comes_back_from_its_number():
    preset, found = load_preset('tiny'), []
    for number in range(16):
        clip = simulate_clip(SERIES, preset, number, domain='driving', camera_program=TURNING[number % 4])
        dialogues = hiding_dialogues(clip, preset, number)
        assert not dialogues or any(turn.labels.get('occluded') for dialogue in dialogues for turn in dialogue.turns)
        assert [d.id for d in dialogues] == [d.id for d in hiding_dialogues(clip, preset, number)]
        found += [turn for dialogue in dialogues for turn in dialogue.turns if turn.returns_path]
    assert any(not turn.seen.all() for turn in found) and all(len(turn.labels['inside']) == len(turn.seen) for turn in found)


def test_cells_have_one_width(asked):
    lessons, rows = asked
    result = dict(bench={'shipped': against_shipped([rows], rows)}, hiding={'shipped': hidden_scores([rows], rows, lessons)}, grid={'self': turn_grid(rows)})
    assert {len(line) for line in parts_cells(result)} == {6}
