"""Drawings checked by what they hold: places, colours, gaps, bytes."""
import dataclasses

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade_clip import FRAMES, HEIGHT, WIDTH, make_clip
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb

from track4d_ref.cameras import look_at, project, transform
from track4d_ref.viz import (PALETTE, birds_eye, credit, data_uri, depth_to_rgb, draw_box, draw_tracks, fade, figure_html,
                             figure_png, frame_strip, ground_axes, motion_pair, object_colors, show_frame, time_colors,
                             tint_instances, use_style)


@pytest.fixture(autouse=True)
def closed_figures():
    with matplotlib.rc_context():
        yield
    plt.close('all')


def lines_of(axis):
    return [item for item in axis.collections if isinstance(item, LineCollection)]


def test_style_sets_the_palette_and_keeps_sizes_small():
    use_style()
    assert [entry['color'] for entry in matplotlib.rcParams['axes.prop_cycle']] == list(PALETTE)
    assert matplotlib.rcParams['figure.dpi'] <= 100


def test_colours_of_time_and_objects():
    ramp = time_colors(6)
    assert ramp.shape == (6, 4) and (np.diff(ramp[:, :3] @ (0.2, 0.7, 0.1)) > 0).all()
    assert np.allclose(fade('#0072B2', np.array([0.0, 1.0])), [to_rgb('#0072B2'), (1, 1, 1)])
    clip = make_clip()
    assert object_colors(clip) == {1: PALETTE[0], 2: PALETTE[1]}
    many = dataclasses.replace(clip, objects=tuple(dataclasses.replace(clip.objects[0], id=n) for n in range(1, 12)))
    assert object_colors(many)[9] == PALETTE[0]


def test_frames_lie_in_pixel_coordinates():
    clip, axis = make_clip(), plt.subplots()[1]
    show_frame(axis, clip.view, 2, wash=0.5)
    assert axis.images[0].get_extent() == [0, WIDTH, HEIGHT, 0] and axis.get_ylim() == (HEIGHT, 0)
    assert np.allclose(axis.images[0].get_array(), 0.5 + clip.view.frames[2] / 510)
    missing = dataclasses.replace(clip.view, frame_valid=np.arange(FRAMES) != 2)
    axis = show_frame(plt.subplots()[1], missing, 2)
    assert not axis.images and len(axis.patches) == 1


def test_instances_and_depth_as_colours():
    clip = make_clip()
    tinted = tint_instances(clip.view.frames[0], clip.view.instances[0], object_colors(clip))
    ball = clip.view.instances[0] == 1
    assert tinted.dtype == np.uint8 and np.ptp(tinted[~ball].astype(int), axis=-1).max() == 0
    assert (tinted[ball][:, 2] > tinted[ball][:, 0]).all()                # the first colour is a blue
    coloured = depth_to_rgb(np.array([[1.0, 10.0, 0.0, np.inf]]))
    assert coloured[0, 0].sum() > coloured[0, 1].sum() and (coloured[0, 2:] == 255).all()
    assert np.array_equal(depth_to_rgb(np.array([[2.0]]), 1, 4), depth_to_rgb(np.array([[20.0]]), 10, 40))
    assert (depth_to_rgb(np.zeros((2, 3))) == 255).all()


def test_boxes_are_projected_corners_and_never_behind_the_camera():
    clip, axis = make_clip(), plt.subplots()[1]
    item = clip.object(1)
    draw_box(axis, clip.view, item, 3, 'red', 'ball')
    corners = project(clip.view.K, clip.view.w2c[3], transform(item.world_from_object[3], item.corners_object_m))[0]
    segments = np.array(lines_of(axis)[1].get_segments())
    assert segments.shape == (12, 2, 2)
    assert all(np.isclose(corners, point).all(-1).any() for point in segments.reshape(-1, 2))
    assert sorted(lines_of(axis)[1].get_linewidths())[-4:] == [2.2] * 4 and axis.texts[0].get_text() == 'ball'
    behind = dataclasses.replace(clip.view, w2c=np.tile(look_at((0, 3, 1), (0, 9, 1), (0, 0, 1)), (FRAMES, 1, 1)))
    assert not draw_box(plt.subplots()[1], behind, item, 3, 'red').collections
    assert not draw_box(plt.subplots()[1], clip.view, clip.object(2), 3, 'red').collections      # absent in frame 3


def test_tracks_break_where_a_point_is_not_shown():
    uv = np.cumsum(np.ones((6, 2, 2)), 0)
    uv[4, 1] = np.nan
    shown = np.ones((6, 2), bool)
    shown[1, 0] = False
    lines = lines_of(draw_tracks(plt.subplots()[1], uv, ['red', 'time'], shown))
    assert [len(line.get_segments()) for line in lines] == [6, 6]
    assert np.allclose(lines[1].get_segments()[0], uv[2:4, 0])
    assert np.allclose(lines[1].get_segments()[3], uv[:2, 1])
    assert not draw_tracks(plt.subplots()[1], uv, 'red', shown & False).collections
    assert not draw_tracks(plt.subplots()[1], uv[:, :0], 'red').collections
    single = draw_tracks(plt.subplots()[1], uv[:1], 'red').collections
    assert np.allclose(single[-1].get_facecolor()[0, :3], to_rgb('red'))


def test_view_from_above_keeps_metres_and_directions():
    clip = make_clip()
    origin, axes = ground_axes(clip)
    assert np.allclose(axes @ axes.T, np.eye(2)) and np.allclose(axes @ clip.up, 0)
    assert (clip.object(1).centers_m - origin)[:, :] @ axes[1] == pytest.approx(5.9, abs=1.0)
    axis = birds_eye(plt.subplots()[1], clip, 0)
    path = axis.lines[0].get_xydata()
    assert np.allclose(np.linalg.norm(np.diff(path, axis=0), axis=1), np.hypot(0.3, 0.1))
    assert sum(isinstance(item, PolyCollection) for item in axis.collections) == 2
    assert sum(isinstance(item, PolyCollection) for item in birds_eye(plt.subplots()[1], clip, 0, ids=(1,)).collections) == 1


def test_view_from_above_when_the_camera_looks_straight_down():
    clip = make_clip()
    down = np.tile(look_at((0, 0, 8), (0, 0, 0), (0, 1, 0)), (FRAMES, 1, 1))
    clip = dataclasses.replace(clip, views=(dataclasses.replace(clip.view, w2c=down),))
    assert np.allclose(ground_axes(clip)[1], [[1, 0, 0], [0, 1, 0]])


def test_strips_and_pairs_have_the_panels_they_promise():
    clip = make_clip()
    seen = []
    figure = frame_strip(clip, frames=[0, 2, 6], draw=lambda axis, frame: seen.append(frame))
    assert len(figure.axes) == 3 and seen == [0, 2, 6] and (figure.axes[2].get_title() or figure.axes[2].get_title(loc='left')) == '0.60 s'
    uv = np.random.default_rng(0).uniform(0, 50, (FRAMES, 2, 2))
    pair = motion_pair(clip, uv, uv + 1, ['red', 'blue'], reference=2)
    assert np.allclose(lines_of(pair.axes[0])[1].get_segments()[0], uv[:2, 0])
    assert np.allclose(lines_of(pair.axes[1])[1].get_segments()[0], uv[:2, 0] + 1)


def test_licensed_pictures_carry_a_credit_line():
    clip = make_clip()
    for source, expected in (('simulator', False), ('kitti', True), ('adt', True)):
        figure = plt.figure()
        credit(figure, dataclasses.replace(clip, source=source))
        assert (figure._supxlabel is not None) == expected, source


def test_same_figure_same_bytes_and_escaped_words():
    def draw():
        figure, axis = plt.subplots(figsize=(2, 1))
        axis.plot([0, 1])
        return figure
    assert figure_png(draw()) == figure_png(draw()) and figure_png(draw())[:4] == b'\x89PNG'
    assert data_uri(b'abc', 'text/plain') == 'data:text/plain;base64,YWJj'
    assert 'alt="a &quot;b&quot; &lt;c&gt;"' in figure_html(draw(), 'a "b" <c>')
    assert not plt.get_fignums()
