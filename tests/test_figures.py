"""Figure 2 and the numbers behind it, on a hand-made clip and on the real samples."""
import dataclasses
import os
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade_clip import FRAMES, HEIGHT, WIDTH, make_clip
from matplotlib.collections import LineCollection

from track4d_ref.figures import (ObjectMotion, displacement_chart, figure_2, motion_rows, object_motions, static_medians)
from track4d_ref.storage import InputError
from track4d_ref.tracks import true_motion_track, visual_track

DATA = os.environ.get('TRACK4D_DATA')


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close('all')


def sample(name: str) -> Path:
    if not DATA or not (Path(DATA) / name).is_dir(): pytest.skip(f'TRACK4D_DATA holds no {name}')
    return Path(DATA) / name


def test_numbers_agree_with_the_definition():
    clip, reference = make_clip(), 2
    view = clip.view
    for line in object_motions(clip, reference):
        item = clip.object(line.id)
        centers = item.centers_m[:, None]
        for track, found in ((visual_track(view.K, view.w2c, centers), line.visual_px),
                             (true_motion_track(view.K, view.w2c, centers, reference), line.true_motion_px)):
            moved = np.linalg.norm(track[0][:, 0] - track[0][reference, 0], axis=-1)
            assert found == pytest.approx(moved[item.present].max())
        offset = item.centers_m[item.present] - item.centers_m[item.present].mean(0)
        assert line.world_spread_m == pytest.approx(np.sqrt((offset ** 2).sum(1).mean()))
        assert line.frames == item.present.sum()


def test_frames_without_a_known_camera_do_not_count_for_visual_tracks():
    clip = make_clip()
    known = np.arange(FRAMES) < 3
    some = dataclasses.replace(clip, meta={'camera_known': known.tolist()})
    all_lines, some_lines = object_motions(clip, 1), object_motions(some, 1)
    assert some_lines[0].visual_px < all_lines[0].visual_px
    assert some_lines[0].true_motion_px == all_lines[0].true_motion_px
    with pytest.raises(InputError, match='frame 5 has no camera'): object_motions(some, 5)
    with pytest.raises(InputError, match='frame 7'): object_motions(clip, FRAMES)


def test_only_objects_of_the_reference_frame_in_front_of_its_camera():
    clip = make_clip()
    assert [line.id for line in object_motions(clip, 3)] == [1]             # the box is absent in frame 3
    behind = clip.object(2).world_from_object.copy()
    behind[:, 1, 3] = -50
    moved = dataclasses.replace(clip, objects=(clip.objects[0], dataclasses.replace(clip.objects[1], world_from_object=behind)))
    assert [line.id for line in object_motions(moved, 0)] == [1]


def test_medians_and_rows_by_hand():
    lines = [ObjectMotion(1, 'car', 9, 0.1, 300.0, 4.0), ObjectMotion(2, 'van', 9, 0.2, 500.0, 8.0),
             ObjectMotion(3, 'bus', 9, 7.0, 1.0, 900.0)]
    assert static_medians(lines) == (2, 400.0, 6.0)
    assert motion_rows(lines)[2] == ('2', 'van', '9', '0.200', '500.0', '8.0')
    with pytest.raises(InputError, match='no object spreads'): static_medians(lines[2:])
    axis = displacement_chart(lines).axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()][0] == 'car 1 · spread 0.10 m'
    assert axis.collections[1].get_offsets()[:, 0].tolist() == [300, 500, 1]


def test_figure_draws_both_kinds_of_track_in_their_panels():
    clip = make_clip()
    figure = figure_2(clip, reference_frame=1, ids=[1])
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ['red ball'] * 2
    centers = clip.object(1).centers_m[:, None]
    expected = visual_track(clip.view.K, clip.view.w2c, centers)[0], true_motion_track(clip.view.K, clip.view.w2c, centers, 1)[0]
    for axis, track in zip(figure.axes, expected):
        drawn = [np.array(item.get_segments()) for item in axis.collections if isinstance(item, LineCollection)]
        wanted = np.stack([track[:-1, 0], track[1:, 0]], 1)
        assert any(segments.shape == wanted.shape and np.allclose(segments, wanted) for segments in drawn)
    part = figure_2(clip, window_px=(10, 5, 60, 20))
    assert part.axes[0].get_xlim() == (10, 60) and part.axes[0].get_ylim() == (20, 5)
    assert figure.axes[0].get_xlim() == (0, WIDTH) and figure.axes[0].get_ylim() == (HEIGHT, 0)


def test_labels_of_neighbours_do_not_lie_on_each_other():
    clip = make_clip()
    twins = tuple(dataclasses.replace(clip.objects[0], id=number) for number in (1, 2, 3))
    figure = figure_2(dataclasses.replace(clip, objects=twins))
    places = np.array([text.get_position() for text in figure.axes[0].texts])
    assert [text.get_text() for text in figure.axes[0].texts] == ['1', '2', '3']
    assert (np.diff(np.sort(places[:, 1])) > 0.06 * HEIGHT).all()


def test_parked_cars_of_kitti_0001_stand_still_in_true_motion():
    kitti = pytest.importorskip('track4d_ref.kitti')
    lines = object_motions(kitti.read_kitti_tracking(sample('kitti_tracking'), 1, 0, 21))
    count, visual_px, true_px = static_medians(lines)
    for row in motion_rows(lines): print('{:>4} {:<10} {:>6} {:>17} {:>12} {:>17}'.format(*row))
    print(f'KITTI 0001, {count} static objects: median visual {visual_px:.1f} px, median true motion {true_px:.1f} px')
    assert count >= 5 and visual_px >= 300 and true_px <= 10


def test_fork_and_spoon_are_what_moves_in_adt():
    aria = pytest.importorskip('track4d_ref.aria')
    lines = object_motions(aria.read_adt_pinhole(sample('adt_pinhole')))
    moving = [line for line in lines if line.true_motion_px > 5]
    print({line.caption: round(line.true_motion_px, 1) for line in moving}, 'of', len(lines))
    assert {line.caption for line in moving} == {'wooden fork', 'wooden spoon'}
    assert {line.caption for line in lines if line.world_spread_m > 0.01} == {'wooden fork', 'wooden spoon'}
