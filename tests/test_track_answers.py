"""Told tracks: scores by hand, and Figure 4 shows truth, told points and the way between them."""
import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade_clip import make_clip
from matplotlib.markers import MarkerStyle

from track4d_ref.questions import ask_all
from track4d_ref.storage import InputError
from track4d_ref.track_answers import TrackAnswer, figure_4, track_answer, track_text_scores
from track4d_ref.track_questions import write_track


def answer(told, visible=(True, True), told_visible=(True, False)) -> TrackAnswer:
    "Two target frames; the point goes from (0.5, 0.5) to (0.5, 0.75) in fractions of the picture."
    xy = np.array([[0.5, 0.5], [0.5, 0.75]])
    return TrackAnswer('visual_tracking', np.array([0.5, 0.5]), xy, np.array(visible), np.array(told, float),
                       np.array(told_visible))


def test_scores_by_hand():
    three_px = 3 / 256                             # within the radii 4, 8 and 16 of 1, 2, 4, 8, 16
    scores = track_text_scores([answer([[0.5, 0.5 + three_px], [0.5, 0.75]])])
    assert scores['delta_average'] == pytest.approx((3 / 5 + 1) / 2) and scores['still_delta_average'] == 0.5
    assert scores['occlusion_accuracy'] == 0.5 and scores['always_visible'] == 1 and scores['readable'] == 1
    hidden = track_text_scores([answer([[0.5, 0.5], [9, 9]], visible=(True, False))])
    assert hidden['delta_average'] == 1 and hidden['occlusion_accuracy'] == 1       # hidden points have no place to hit
    unreadable = track_text_scores([answer([[np.nan, np.nan]] * 2)])
    assert unreadable['delta_average'] == 0 == unreadable['readable']
    with pytest.raises(InputError, match='no track to score'): track_text_scores([])


def tracking_questions() -> tuple:
    clip = make_clip()
    return clip, ask_all(clip, np.random.default_rng(0), ('visual_tracking', 'true_motion_tracking'), 2)


def test_a_text_with_other_frames_or_other_words_is_unreadable():
    _, questions = tracking_questions()
    truth = questions[0].targets
    assert track_answer(questions[0], questions[0].answer).readable
    late = write_track([frame + 1 for frame in truth['frames']], np.array(truth['xy']), truth['visible'])
    for text in (late, '', 'The point moves left.', questions[0].answer[:-9]):
        assert not track_answer(questions[0], text).readable


def test_figure_4_has_a_panel_per_case_with_star_truth_and_crosses():
    clip, questions = tracking_questions()
    told = [track_answer(question, question.answer) for question in questions]
    figure = figure_4([(clip, questions[:1], told[:1]), (clip, questions[:2], told[:2])], ['one', 'two'])
    assert [axis.get_title('left') + axis.get_title() for axis in figure.axes] == ['one', 'two']
    size = np.array([clip.view.width, clip.view.height])
    for axis, count in zip(figure.axes, (1, 2)):
        assert len(axis.collections) == 3 * count
        circles, star, crosses = axis.collections[:3]
        order = np.argsort(questions[0].targets['frames'])
        assert np.allclose(circles.get_offsets(), told[0].xy[order] * size)
        assert np.allclose(star.get_offsets(), [told[0].query * size]) and np.allclose(crosses.get_offsets(), told[0].told_xy[order] * size)
        assert len(star.get_paths()[0]) == len(MarkerStyle('*').get_path())
    plt.close(figure)
