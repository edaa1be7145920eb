"Balance, splits, near-duplicates and blind readers on made-up questions with known habits."
import dataclasses
from collections import Counter

import numpy as np
import pytest

from track4d_ref.balance import SPLITS, Balancer, Deduplicator, atoms, balanced, duels, split_of
from track4d_ref.blind import NgramReader, PriorReader, blind_accuracy, chance, possible_answers, right_answer
from track4d_ref.motion import TRENDS
from track4d_ref.questions import Question
from track4d_ref.storage import InputError


def choice(truth, options, kind='camera_movement', labels=(), text='How does it move?'):
    references = tuple(dict(object=n, label=label, mode='caption', frame=0, uv=None) for n, label in enumerate(labels, 1))
    named = {slot: f'the {label}' for slot, label in zip(('{a}', '{b}', '{c}'), labels)}
    texts = tuple(named.get(option, option) for option in options)
    return Question(kind, text, texts, 'ABCD'[options.index(truth)], (0, 1, 2), 0, references, {},
                    dict(form='choice', label=named.get(truth, truth), truth=truth, options=list(options), system='x'))


def claim(said, answer, kind='camera_movement', labels=()):
    references = tuple(dict(object=n, label=label, mode='caption', frame=0, uv=None) for n, label in enumerate(labels, 1))
    return Question(kind, f'Is it so: {said}?', (), answer, (0, 1), 0, references, {}, dict(form='yes_no', label=said, truth=said, claim=said, options=[], system='x'))


@pytest.mark.parametrize('option,expected', [
    ('moves forward', {'forward'}), ('moves forward, left and up, pans right', {'forward', 'left', 'up', 'pans right'}), ('stays still', {'stays still'}),
    (TRENDS[3], {TRENDS[3]}), ('both travel equally far', {'both travel equally far'}), ('{a}', {'{a}'}), ('pans left', {'pans left'})])
def test_atoms(option, expected):
    assert atoms(option) == expected


def test_duels_compare_what_differs():
    options = ['moves forward and left', 'moves backward and left', 'moves forward and right', 'moves backward and right']
    found = {(won, lost) for _, won, lost in duels(choice(options[0], options))}
    assert found == {(('forward',), ('backward',)), (('left',), ('right',)), (('forward', 'left'), ('backward', 'right'))}
    assert duels(choice('{b}', ['{a}', '{b}'], 'depth', ('car', 'ball'))) == [(('depth',), ('ball',), ('car',))]
    assert duels(choice('{b}', ['{a}', '{b}'], 'depth', ('car', 'car'))) == []


def test_a_one_sided_stream_is_cut_to_the_slack():
    options = ['moves left', 'moves right']
    stream = [choice('moves left', options) for _ in range(50)] + [choice('moves right', options) for _ in range(7)]
    assert Counter(question.answer for question in balanced(stream, 2)) == {'A': 2, 'B': 4}
    mixed = [stream[0], stream[-1]] * 40
    assert len(balanced(mixed, 1)) == 80
    with pytest.raises(InputError, match='slack'): Balancer(0)


def test_nouns_must_not_predict_either():
    stream = [choice('{a}', ['{a}', '{b}'], 'moved_distance', ('car', 'ball')) for _ in range(30)]
    stream += [choice('{b}', ['{a}', '{b}'], 'moved_distance', ('ball', 'car')) for _ in range(30)]
    assert len(balanced(stream, 2)) == 2                     # the car wins every time, first or second
    trends = [choice('increases', list(TRENDS[:3]), 'camera_object_distance_change', ('car',)) for _ in range(9)]
    trends += [choice('decreases', list(TRENDS[:3]), 'camera_object_distance_change', ('ball',)) for _ in range(9)]
    assert len(balanced(trends, 2)) <= 4                     # even in total, but the noun tells


def test_claims_are_balanced_per_claim():
    stream = [claim('moves left', 'Yes')] * 20 + [claim('moves right', 'No')] * 20
    assert len(balanced(stream, 2)) == 4
    assert len(balanced([claim('moves left', answer) for answer in ('Yes', 'No')] * 10, 1)) == 20
    directed = [claim('{a}', 'Yes', 'depth', ('car', 'ball'))] * 9 + [claim('{b}', 'No', 'depth', ('car', 'ball'))] * 9
    assert len(balanced(directed, 2)) == 4


def test_tracks_pass():
    track = dataclasses.replace(claim('x', 'frame 1: (0.100, 0.100) visible'), type='visual_tracking')
    assert balanced([track] * 9) == [track] * 9


def test_split_is_by_name_and_near_its_shares():
    names = [split_of(f'drive {n:04d}') for n in range(3000)]
    assert names == [split_of(f'drive {n:04d}') for n in range(3000)]
    for name, share in SPLITS.items(): assert abs(names.count(name) / 3000 - share) < 0.02
    assert [split_of(f'drive {n:04d}', seed=1) for n in range(3000)] != names


def test_near_duplicates():
    seen, one = Deduplicator(), choice('moves left', ['moves left', 'moves right'], text='How does the camera move in this video?')
    assert seen.new(one, 'a') and not seen.new(one, 'a') and seen.new(one, 'b')
    assert not seen.new(dataclasses.replace(one, text='In this video, how does the camera move?'), 'a')
    assert not seen.new(dataclasses.replace(one, choices=one.choices[::-1], answer='B'), 'a')
    assert seen.new(dataclasses.replace(one, frames=(1, 2)), 'a')


def habit(rng, count, word):
    "Choices whose right option can be known from a word in the question."
    questions = []
    for _ in range(count):
        truth = str(rng.choice(['moves left', 'moves right']))
        options = [str(option) for option in rng.permutation(['moves left', 'moves right'])]
        questions.append(choice(truth, options, text=f'How does the {"car" if (truth == "moves left") == word else "ball"} move?' if word is not None else 'How?'))
    return questions


def test_the_ngram_reader_finds_a_habit_and_nothing_where_there_is_none():
    rng = np.random.default_rng(0)
    train, test = habit(rng, 300, True), habit(rng, 200, True)
    assert blind_accuracy(NgramReader(train, np.random.default_rng(1)), test)['all'][0] > 0.95
    assert abs(blind_accuracy(PriorReader(train), test)['all'][0] - 0.5) < 0.12       # the prior cannot read the question
    train, test = habit(rng, 300, None), habit(rng, 400, None)
    assert abs(blind_accuracy(NgramReader(train, np.random.default_rng(1)), test)['all'][0] - 0.5) < 0.1
    again = [NgramReader(train, np.random.default_rng(1)).choose(question) for question in test[:20]]
    assert again == [NgramReader(train, np.random.default_rng(1)).choose(question) for question in test[:20]]


def test_prior_reader_and_chance():
    train = [choice('moves up', ['moves up', 'moves down', 'pans left', 'pans right'])] * 9
    assert PriorReader(train).choose(choice('moves down', ['pans left', 'moves down', 'moves up', 'pans right'])) == 2
    assert possible_answers(claim('x', 'No')) == ('Yes', 'No') and right_answer(claim('x', 'No')) == 1
    assert chance([claim('x', 'No'), train[0]]) == pytest.approx(0.375)
