# %% [markdown]
# # APIDIS
# > A basketball court: boxes in pixels, times with commas, and no calibration.

# %%
#| default_exp apidis

# %% [markdown]
# #| export
# Converted from: pixel boxes of one camera at UTC seconds written with thousands separators. With a
# calibration (K and w2c in metres, floor z = 0) the foot of each box is carried to the floor. World:
# metres, z up. A person's box is 0.5 × 0.5 × 1.75 m.

# %% [markdown]
# * **What** `read_apidis`, its times and its frame index
# * **Why** Track4D-Bench takes its sports clips from it
# * **Paper** LMM-Track4D, sources of Track4D-Bench; feet on the floor are **[ours]**
# * **Needs** nothing (no sample is at hand: files in its layout are written here)
# * **Time** 10 seconds
# * **Before this** `07e_wildtrack`

# %%
#| export
import dataclasses
import re
import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

# %%
#| export
from track4d_ref.storage import InputError, read_arrays, read_bytes
from track4d_ref.cameras import unproject
from track4d_ref.clips import Clip, View
from track4d_ref.raw import MAX_TEXT_BYTES, array_of, check_rigid, number, sound_clip
from track4d_ref.wildtrack import person, read_xml

# %%
import tempfile
import matplotlib.pyplot as plt

from track4d_ref.cameras import intrinsics, look_at, project
from track4d_ref.viz import birds_eye, draw_box, picture_axis, use_style

use_style()


# %% [markdown]
# ## Times with commas, places without a camera
#
# APIDIS annotates boxes in pixels. Times are written `1,207,759,620.046000s`, with thousands separators. The file names
# carry *local* time, two hours ahead, although they end in Z. And no calibration is published in a form a program could
# read. So the reader asks for one: an npz with `K` and `w2c` per camera. A player's foot is the middle of the lower edge
# of the box; the ray through it meets the floor z = 0, and there the player stands. Without that file there are no
# metres, and the reader says so instead of assuming a camera. Players get the box of a WildTrack pedestrian, a plain guess
# **[ours]** that matters for the height of their boxes alone.

# %%
#| export
def apidis_time_s(text: str, where: str) -> float:
    "'1,207,759,620.046000s' → seconds since 1970."
    if not re.fullmatch(r'[\d,]+(\.\d+)?s?', text.strip()):
        raise InputError(f'{where}: {text[:40]!r} is not a time; correct it')
    return number(text.strip().rstrip('s').replace(',', ''), where)

def apidis_name_time_s(name: str) -> float:
    """UTC seconds since 1970 of a name like camera1_20080409T184600Z, which is local time (UTC+2) in spite
    of its Z."""
    match = re.search(r'(\d{8}T\d{6})Z', name)
    try: local = datetime.strptime(match[1], '%Y%m%dT%H%M%S').replace(tzinfo=timezone.utc)
    except (TypeError, ValueError):
        raise InputError(f'{name[:60]!r}: no time like 20080409T184600Z in the name; rename it') from None
    return (local - timedelta(hours=2)).timestamp()

def read_apidis_index(path: Path | str) -> np.ndarray:
    "UTC seconds (N,) of the frames of an .avi.idx file: a 12-byte header, then 24-byte records."
    content = read_bytes(path, MAX_TEXT_BYTES)
    if len(content) < 36 or (len(content) - 12) % 24:
        raise InputError(f'{path}: {len(content)} bytes are no 12-byte header plus 24-byte records; download '
                         'it again')
    records = [struct.unpack_from('<IIQII', content, place) for place in range(12, len(content), 24)]
    times_s = np.array([second + micro / 1e6 for second, micro, *_ in records])
    if not (np.diff(times_s) > 0).all():
        raise InputError(f'{path}: its times do not increase; download it again')
    return times_s


# %%
#| export
def apidis_boxes(path: Path) -> list[tuple[str, str, float, np.ndarray]]:
    "(track name, caption, time, box x y w h) for every position of an objects.xml."
    found = []
    for index, track in enumerate(read_xml(path).iter('track')):
        kind, team = track.get('type', 'object'), track.get('player-team', '')
        name, caption = track.get('id', str(index)), f'{kind} of team {team}' if team else kind
        for position in track.iter('position'):
            where = f'{path}, track {name}'
            time = position.get('time') or position.findtext('time') or ''
            box = [number(position.findtext(key) or '', f'{where}, {key}') for key in ('x', 'y', 'w', 'h')]
            found.append((f'{kind} {team} {name}', caption, apidis_time_s(time, where), np.array(box)))
    if not found: raise InputError(f'{path}: no positions; is it an APIDIS objects.xml?')
    return found

def foot_on_floor(K: np.ndarray, w2c: np.ndarray, box: np.ndarray) -> np.ndarray:
    "Where (2,) on the floor z = 0 the ray through the middle of the box's lower edge arrives, in metres."
    foot_px = np.array([[box[0] + box[2] / 2, box[1] + box[3]]])
    near, far = (unproject(K, w2c, foot_px, np.array([depth]))[0] for depth in (1.0, 2.0))
    step = far - near
    if step[2] >= -1e-9:
        raise InputError('a box ends above the horizon, so its foot is not on the floor; check the '
                         'calibration')
    return (near - step * near[2] / step[2])[:2]


# %%
#| export
def read_apidis(path: Path | str, calibration: Path | str | None = None, camera: int = 1) -> Clip:
    """An APIDIS objects.xml of one camera as a clip; `calibration` is an npz with K (N, 3, 3) and w2c (N,
    4, 4) in metres, floor z = 0."""
    path = Path(path)
    if calibration is None:
        raise InputError(f'{path}: APIDIS publishes no machine-readable calibration; give an npz with K and '
                         'w2c')
    arrays = read_arrays(calibration)
    Ks = array_of(arrays, 'K', (None, 3, 3), str(calibration))
    poses = check_rigid(array_of(arrays, 'w2c', (len(Ks), 4, 4), str(calibration)), str(calibration))
    if not 1 <= camera <= len(Ks): raise InputError(f'{calibration}: no camera {camera}; it holds {len(Ks)}')
    K, w2c, boxes = Ks[camera - 1], poses[camera - 1], apidis_boxes(path)
    if not (K[0, 0] > 1 and K[1, 1] > 1 and np.abs(K).max() < 1e6 and K[2].tolist() == [0, 0, 1]):
        raise InputError(f'{calibration}: K of camera {camera} is no camera matrix in pixels; correct it')
    clock_s = np.unique([round(time, 3) for _, _, time, _ in boxes])
    objects = []
    for name in sorted({name for name, *_ in boxes}):
        rows = {int(np.searchsorted(clock_s, round(time, 3))): foot_on_floor(K, w2c, box) for key, _, time,
                box in boxes if key == name}
        thing = person(len(objects) + 1, np.array(list(rows)), np.stack(list(rows.values())), len(clock_s))
        caption = next(caption for key, caption, *_ in boxes if key == name)
        objects.append(dataclasses.replace(thing, caption=caption, label=caption.split()[0]))
    view = View(name=f'camera{camera}', K=K, w2c=np.repeat(w2c[None], len(clock_s), 0), height=1200,
                width=1600)
    return sound_clip(Clip(id=f'apidis_{path.stem}', views=(view,), objects=tuple(objects),
                           times_s=clock_s - clock_s[0],
                up=np.array([0.0, 0, 1]),
                source='apidis', licence='APIDIS, non-commercial research',
                meta={'camera_poses_known': True, 'first_time_s': float(clock_s[0])}), path)


# %%
assert apidis_time_s('1,207,759,620.046000s', '') == 1207759620.046


# %% [markdown]
# ## Two players
#
# No sample is at hand, so the test is a file of our own: two players whose feet we know are projected, boxed, written
# and read again.

# %%
def write_small_apidis(folder: Path) -> tuple[Path, Path]:
    court_K, court_w2c = intrinsics(1100.0, 1080.0, 790.0, 610.0), look_at((14, -6, 7), (14, 8, 0), (0, 0, 1))
    np.savez(folder / 'cameras.npz', K=court_K[None], w2c=court_w2c[None])
    tracks = []
    for team, x_m in (('A', 11.0), ('B', 17.0)):
        rows = ''
        for t in range(4):
            foot_px = project(court_K, court_w2c, np.array([[x_m + 0.8 * t, 7.5, 0]]))[0][0]
            rows += (f'<position time="1,207,759,62{t}.046000s"><x>{foot_px[0] - 20}</x>'
                     f'<y>{foot_px[1] - 90}</y><w>40</w><h>90</h></position>')
        tracks.append(f'<track type="player" player-team="{team}" id="{team}4">{rows}</track>')
    (folder / 'camera1.objects.xml').write_text(f'<objects>{"".join(tracks)}</objects>')
    return folder / 'camera1.objects.xml', folder / 'cameras.npz'

court = read_apidis(*write_small_apidis(Path(tempfile.mkdtemp())))
figure, axis = plt.subplots(figsize=(4.6, 2.4), dpi=85)
for thing in court.objects:
    draw_box(axis, court.view, thing, 0, '#0072B2', thing.caption[-1]); draw_box(axis, court.view, thing, 3,
                                                                             '#D55E00')
picture_axis(axis, 1200, 1600, 'first moment blue, last orange'); plt.show()

# %%
assert np.allclose(court.objects[0].centers_m[:, :2], [(11 + 0.8 * t, 7.5) for t in range(4)], atol=1e-6)
assert [thing.caption for thing in court.objects] == ['player of team A', 'player of team B']
assert apidis_time_s('1,207,759,620.046000s', '') == 1207759620.046
# the same minute, in UTC
assert apidis_name_time_s('camera3_20080409T184700Z.avi') == 1207759620

# %% [markdown]
# ## How sure is a foot?
#
# A box is drawn by hand, a few pixels too high or too low. How far does the player move on the floor if the lower edge
# is five pixels off? Nearly nothing right below the camera, and a third of a metre at the far end of the court.

# %%
near_m = np.linspace(-2, 16, 40)
feet_px, _ = project(court.view.K, court.view.w2c[0], np.stack([np.full(40, 14.0), near_m, np.zeros(40)], -1))
shifted_m = np.array([foot_on_floor(court.view.K, court.view.w2c[0], np.array([u - 20, v - 95, 40, 90]))
                      for u, v in feet_px])
error_m = shifted_m[:, 1] - near_m
figure, axis = plt.subplots(figsize=(4.6, 2.2), dpi=85)
axis.plot(near_m, error_m, color='#0072B2')
axis.set(xlabel='true place across the court (m)', ylabel='error (m)',
         title='five pixels too high'); plt.show()

# %%
assert (np.diff(error_m) > 0).all() and error_m[0] < 0.1 < error_m[-1]

# %%
figure, axis = plt.subplots(figsize=(4, 3), dpi=85)
birds_eye(axis, court, 3); axis.set_title('the two players from above', fontsize=8); plt.show()

# %% [markdown]
# ## What we proved
#
# * With a calibration, pixel boxes on a court become players on a floor; without one the reader says so.
# * Times with commas and names in local time become the same UTC second.
#
# ## Try it
#
# 1. Where on the court is the error of a foot ten centimetres? Draw that line into the view from above.
# 2. Raise the camera to 15 metres and repeat the error curve.
#
# <details><summary>Solutions</summary>
#
# 1. The error of a foot is its pixel error times depth over focal length, divided by the sine of the viewing angle.
#    Draw the level line at 0.10 m.
# 2. Higher cameras look down more steeply: the error along the view falls, the one across grows with the distance.
#
# </details>
