"""Extraction: the table of strings, hostile input, and agreement with recorded verdicts on real outputs."""
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from track4d_ref.extraction import (extract_answer, extract_like_mllm4d, is_right, mentioned, plain, read_piece,
                                    score_extracted)
from track4d_ref.scoring import rescore, score_rows

CHOICES = {'A': 'left', 'B': 'right', 'C': 'not moving', 'D': 'away from the camera'}
SPELLINGS = [
    ('B', 'B'), ('B.', 'B'), ('(B)', 'B'), ('**B**', 'B'), ('$B', 'B'), ('B: left', 'B'), ('B)', 'B'), ('[B]', 'B'), ('b', 'B'),
    ('"B"', 'B'), ('\nB\n', 'B'), ('The answer is B.', 'B'), ('\\boxed{B}', 'B'), ('$\\boxed{\\text{C}}$', 'C'),
    ('Therefore, the final answer is: $LETTER', ''), ('Therefore, the final answer is: $D', 'D'),
    ('Therefore, the final answer is: **D: away**', 'D'), ('Answer: away from the camera', 'D'), ('not a turn', ''),
    ('', ''), ('   ', ''), ('N/A', ''), ('Final answer: N/A', ''), ('Right.', 'B'), ('to the right', 'B'),
    ('final answer is A. Wait. The final answer is C', 'C'), ('The final answer is: A. So the answer is B?', 'A'),
    ('The correct answer is option (C).', 'C'), ('The answer is "not moving".', 'C'), ('<answer>B</answer>', 'B'),
    ('<thinking>A or C</thinking><answer> C: not moving </answer>', 'C'), ('<answer>left</answer><answer>B</answer>', 'A'),
    ('<answer>maybe</answer> The answer is B', ''), ('<answer>B', 'B'), ('A man walks to the right.', 'B'),
    ('A. left', 'A'), ('A', 'A'), ('The bus goes from left to right.', ''), ('It is moving leftwards.', ''),
    ('The bus is not moving. It just waits.', 'C'), ('I would say D', 'D'), ('Because', ''), ('E', ''), ('ABCD', ''),
]

@pytest.mark.parametrize('response, letter', SPELLINGS)
def test_spellings(response, letter):
    assert extract_answer(response, CHOICES).letter == letter

# How models write that were not at hand: chat marks, LaTeX, JSON, other languages, verdicts, refusals.
OTHER_MODELS = [
    ('**Answer: B**', 'B'), ('Answer: **B**', 'B'), ('\\boxed{B}', 'B'), ('$$\\boxed{\\text{B}}$$', 'B'),
    ('So the result is \\boxed{B: right}', 'B'), ('Option B', 'B'), ('option (b)', 'B'), ('Final answer: $B$', 'B'),
    ('Final Answer: B: right', 'B'), ('ASSISTANT: B', 'B'), ('B<|im_end|>', 'B'), ('B</s>', 'B'),
    ('<|header_start|>assistant<|header_end|>\n\nB', 'B'), ('assistant\n\nB', 'B'), ('The correct option is (B).', 'B'),
    ('I would choose option B.', 'B'), ("I'd go with B.", 'B'), ('B is the correct answer.', 'B'),
    ('So, B is the correct answer.', 'B'), ('Hence (B) is correct.', 'B'), ('Therefore, B (right) is the best answer.', 'B'),
    ('答案：B', 'B'), ('最终答案是 B', 'B'), ('答案是B。', 'B'), ('选项B', 'B'), ('La respuesta es B.', 'B'), ('Die Antwort ist B.', 'B'),
    ('La réponse est B.', 'B'), ('Ответ: B', 'B'), ('答え：B', 'B'), ('答えはBです', 'B'), ('정답은 B입니다', 'B'), ('（B）', 'B'), ('Ｂ', 'B'),
    ('```\nB\n```', 'B'), ('{"answer": "B"}', 'B'), ("{'answer': 'B: right'}", 'B'), ('Answer:\nB', 'B'), ('### Answer\nB', 'B'),
    ('- B', 'B'), ('✅ B', 'B'), ('1. B', 'B'), ('B\n\nExplanation: The car is not moving to the left.', 'B'), ('B - right', 'B'),
    ('B) right', 'B'), ('B, right', 'B'), ('b) right', 'B'), ('b: right', 'B'), ('Answer B', 'B'), ('My answer is B', 'B'),
    ('Therefore, the final answer is: $LETTER B', 'B'), ('$LETTER: B', 'B'), ('$LETTER = B', 'B'),
    ('The final answer is: $LETTER: $B', 'B'), ('Final answer: B (right)', 'B'),
    ('The final answer is B.\n\nNote that option A is for things that go left.', 'B'),
    ('The final answer is $\\boxed{\\text{(B) right}}$', 'B'), ('The final answer is: [B]', 'B'),
    ("The final answer is 'B'", 'B'), ('Answer: (C) not moving, because option A is wrong.', 'C'),
    ('C: not moving. Option A would need motion to the left.', 'C'),
    ('Option A is incorrect. Option B is plausible. Option D is ruled out.', 'B'),
    ('Therefore, the final answer is: A or C', ''), ('Final answer: $B$ or $C$ (both fit)', ''), ('The answer is A/B.', ''),
    ('Final Answer: Undetermined', ''), ('The final answer cannot be determined.', ''),
    ('If it goes left, the answer is A. The final answer is: N/A (need context)', ''), ('The answer is B and D is wrong.', 'B'),
    ('The answer is neither A nor B.', ''), ('Therefore, the final answer is: right', 'B'),
    ('The bus is moving to the right, so the answer is right.', 'B'), ('I think the answer is that it is not moving.', 'C'),
    ('The final answer is\n\n**D**', 'D'), ('The car moves towards the right side.', 'B'), ('The best answer is B', 'B'),
    ('The most appropriate answer is B.', 'B'),
    ('Step 1: A appears. Step 2: it leaves.\nTherefore, the final answer is: B', 'B'), ('Letter: B', 'B'), ('Choice: B', 'B'),
    ('A', 'A'), ('A.', 'A'), ('A: left', 'A'), ('A left', 'A'), ('A man is right of it.', 'B'),
    ("I'm sorry, but I can't see the video.", ''), ('Left', 'A'), ('LEFT.', 'A'),
    ('<think>\nThe answer is A? No. Option D is far.\n</think>\n\nB', 'B'), ('<think>So A.</think>The car moves right.', 'B'),
    ('</think>\n\n**B: right**', 'B'), ('<think>It goes left, so the answer is A.</think>', 'A'), ('<think>A or C', ''), ('A or C', ''), ('B/D', ''), ('A and B are wrong. C', 'C'),
    ('<|begin_of_box|>B<|end_of_box|>', 'B'), ('answer: <b>B</b>', 'B'), ('B: right<end_of_utterance>', 'B'),
    ('<p>B</p><br/>', 'B'), ('x < y and y > z, so the answer is B', 'B'),
]

@pytest.mark.parametrize('response, letter', OTHER_MODELS)
def test_spellings_of_other_models(response, letter):
    assert extract_answer(response, CHOICES).letter == letter

def test_text_not_letter_after_answer():
    turns = {'A': 'up', 'B': 'down', 'C': 'left', 'D': 'clockwise'}
    assert extract_answer('answer: clockwise', turns).letter == 'D'
    assert extract_answer('The answer is counter-clockwise', turns).letter == ''
    assert read_piece(': 10', {'A': 1, 'B': 10, 'C': 100}) == 'B' and read_piece(' is 0', {'A': 0, 'B': 1}) == 'A'

def test_longest_option_wins():
    sides = {'A': 'left', 'B': 'left side of the street', 'C': 'right'}
    assert extract_answer('Answer: left side of the street.', sides).letter == 'B'
    assert mentioned('It stands on the left side of the street.', sides) == 'B' and mentioned('It goes left.', sides) == 'A'

def test_numbers_and_equal_texts():
    assert extract_answer('I can see three people.', {'A': 2, 'B': 3, 'C': 0, 'D': 5}).letter == 'B'
    twins = {'A': 'left', 'B': 'right', 'C': 'away', 'D': 'Away. '}
    assert is_right('C', twins, 'away') and is_right('D', twins, 'away') and not is_right('', twins, 'away')
    assert is_right('A', {'A': 0, 'B': 1}, 0) and is_right('A', {'A': 0, 'B': 1}, '0')

@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.dictionaries(st.sampled_from('ABCD'), st.text(max_size=12) | st.integers(0, 30), min_size=1))
def test_never_fails_and_returns_an_option_or_nothing(response, choices):
    found = extract_answer(response, choices)
    assert (found.letter in choices and found.rule != 'none') or (found.letter, found.rule) == ('', 'none')

@settings(max_examples=100, deadline=None)
@given(st.sampled_from('ABCD'), st.sampled_from(['{}', '({})', '**{}**', 'The final answer is: {}', '<answer>{}</answer>', '${}.']),
       st.sampled_from(['', 'First I look at the frames.\n', 'Hmm, left or right? ']))
def test_decoration_does_not_change_the_letter(letter, shape, before):
    before = before if 'answer' in shape else ''
    assert extract_answer(before + shape.format(letter), CHOICES).letter == letter

@pytest.mark.parametrize('piece', ['<answer>', 'answer ', 'final answer is ', 'left right ', '(', 'A ', '\\text{', '. ', 'A\n', '$'])
def test_megabytes_in_bounded_time(piece):
    start = time.perf_counter()
    extract_answer(piece * (2_000_000 // len(piece)), CHOICES)
    extract_like_mllm4d(piece * (2_000_000 // len(piece)))
    assert time.perf_counter() - start < 3

def test_scorer_fits_records():
    rows = [dict(id=1, truth='B', choices=('x', 'y'), answer='The answer is (B).'), dict(id=2, truth='Yes', answer='Yes, it is'),
            dict(id=3, truth='No', answer='The answer is yes'), dict(id=4, truth='2.4 m', answer='2.4 m.')]
    strict = score_rows(rows)
    kinder, moved = rescore(strict, score_extracted)
    assert [r['correct'] for r in kinder] == [True, True, False, True] and moved == ['1', '2', '4']

MLLM4D = {'<answer>right</answer>': '', '<answer>C: left</answer>': 'C', '<answer>not a turn</answer>': 'A',
          'so the final answer is: B': 'B', 'answer: clockwise': 'C', 'Answer: away from me': 'A', 'The answer is B.': '',
          '(A)': '', 'B: left': '', 'foo B.': '', 'c': 'C'}

@pytest.mark.parametrize('response, letter', MLLM4D.items())
def test_the_other_extractor_keeps_its_errors(response, letter):
    assert extract_like_mllm4d(response) == letter

def test_plain_keeps_apostrophes():
    assert plain("the robot's 'left' **foot**") == "the robot's left foot"

data = os.environ.get('TRACK4D_DATA')

@pytest.mark.skipif(not data, reason='TRACK4D_DATA is not set')
def test_agreement_with_recorded_verdicts():
    agreed = {'cot': [], 'direct-output': []}
    for path in sorted(Path(data, 'vlm4d', 'processed_outputs_paper_results').glob('*/*.json')):
        rows = json.loads(path.read_text())
        verdicts = [is_right(extract_answer(r['response'], r['choices']).letter, r['choices'], r['ground_truth_answer'])
                    == r['correct'] for r in rows]
        print(f'{path.parent.name}/{path.stem}: {sum(verdicts) / len(rows):.4f}')
        agreed[path.parent.name.split('_')[-1]] += verdicts
    for kind, least in (('cot', 0.97), ('direct-output', 0.999)):
        share = sum(agreed[kind]) / len(agreed[kind])
        print(kind, len(agreed[kind]), f'{share:.4f}')
        assert share >= least
