# %% [markdown]
# # Cameras
# > The pinhole projection Π(K, T, X), poses, rays and Plücker lines; one set of conventions for the whole project.

# %%
#| default_exp cameras

# %% [markdown]
# #| export
# Conventions: camera axes x right, y down, z forward. `w2c` is the paper's T[t], world to camera, 4×4; `c2w` its inverse.
# Metres, seconds, radians. Depth is planar z. The centre of the pixel in row i and column j is (u, v) = (j + ½, i + ½).
# All functions take numpy arrays and torch tensors alike and broadcast over leading axes.

# %% [markdown]
# * **What** how a point in the world becomes a pixel, and back
# * **Why** all three papers separate what the camera does from what objects do; that takes exact cameras
# * **Paper** 4DP-QA §3, the operator Π of Eq. 1 and 2; the axes are **[ours]** (the paper says only "extrinsics")
# * **Needs** numpy, torch
# * **Time** 10 seconds
# * **Before this** nothing; a little linear algebra

# %%
#| export
import numpy as np
import torch

Array = np.ndarray | torch.Tensor

# %%
import matplotlib.pyplot as plt


# %% [markdown]
# ## The conventions, once
#
# | quantity | convention |
# |---|---|
# | camera axes | x right, y down, z forward (OpenCV) |
# | `w2c` | world → camera, the paper's $\mathbf T[t]=[R\,|\,\mathbf t]$, so $\mathbf x_c = R\,\mathbf X+\mathbf t$ |
# | `c2w` | its inverse; its last column is the camera centre $\mathbf C=-R^\top\mathbf t$ |
# | depth | $z_c$, the distance to the image *plane*, not along the ray |
# | pixel | row i, column j has its centre at $(u, v) = (j+\tfrac12,\ i+\tfrac12)$ |
# | units | metres, seconds, radians; float64 for poses |
#
# Most bugs in 4D projects are a broken row of this table. Every example below therefore uses uneven numbers: an image
# that is not square, $f_x\neq f_y$, a principal point off the centre, and a camera that is rolled. A swapped pair of axes
# shows at once.

# %%
#| export
def intrinsics(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    "Pinhole matrix K (3, 3), all in pixels."
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)


# %%
height, width = 120, 200
K = intrinsics(fx=180.0, fy=150.0, cx=93.0, cy=66.0)
assert width != height and K[0, 0] != K[1, 1] and K[0, 2] != width / 2


# %% [markdown]
# ## Poses
#
# A pose is a rigid motion, so its inverse needs no matrix inversion: transpose the rotation and turn the translation
# back. `transform` applies a pose to rows of points. The naive version below does one point at a time with homogeneous
# coordinates; the exported one does whole batches.

# %%
def transform_v1(pose, xyz):
    return np.stack([(pose @ np.append(point, 1.0))[:3] for point in xyz])


# %%
#| export
def transform(pose: Array, xyz: Array) -> Array:
    "Apply poses (..., 4, 4) to points (..., N, 3)."
    return xyz @ pose[..., :3, :3].mT + pose[..., None, :3, 3]

def invert_pose(pose: Array) -> Array:
    "The inverse of rigid poses (..., 4, 4), so `c2w` from `w2c` and back."
    rotation_back = pose[..., :3, :3].mT
    inverse = pose * 1
    inverse[..., :3, :3] = rotation_back
    inverse[..., :3, 3] = -(rotation_back @ pose[..., :3, 3:])[..., 0]
    return inverse

def camera_center(w2c: Array) -> Array:
    "Camera centres (..., 3) in world metres: C = -Rᵀt."
    return invert_pose(w2c)[..., :3, 3]


# %% [markdown]
# A camera is easiest to place by saying where it stands, what it looks at, and where up is. Because y points *down* in
# the image, the camera's x axis is `forward × up`. `rotation_about` turns around an axis by the right-hand rule.

# %%
#| export
def look_at(eye_m, target_m, up, roll_rad: float = 0.0) -> np.ndarray:
    "`w2c` (4, 4) of a camera at `eye_m` that looks at `target_m`; positive roll tilts its head clockwise."
    eye_m, target_m, up = (np.asarray(value, dtype=np.float64) for value in (eye_m, target_m, up))
    forward = (target_m - eye_m) / np.linalg.norm(target_m - eye_m)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9: raise ValueError('look_at: the view direction is parallel to up')
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    rotation = rotation_about((0, 0, 1), -roll_rad) @ rotation
    return pose_from(rotation, -rotation @ eye_m)

def rotation_about(axis, angle_rad: float) -> np.ndarray:
    "Rotation matrix (3, 3) about `axis` by the right-hand rule (Rodrigues' formula)."
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross

def pose_from(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    "Pose (..., 4, 4) from a rotation (..., 3, 3) and a translation (..., 3)."
    shape = np.broadcast_shapes(np.shape(rotation)[:-2], np.shape(translation_m)[:-1])
    pose = np.broadcast_to(np.eye(4), (*shape, 4, 4)).copy()
    pose[..., :3, :3], pose[..., :3, 3] = rotation, translation_m
    return pose


# %%
up = (0.0, 0.0, 1.0)
w2c = look_at(eye_m=(4, -6, 3), target_m=(0, 0, 1), up=up, roll_rad=0.2)
points_m = np.random.default_rng(0).uniform(-1, 1, (7, 3)) + (0, 0, 1)


# %%
def draw_axes(axis, c2w, label, length=1.2):
    for column, (color, name) in enumerate(zip(('#D55E00', '#009E73', '#0072B2'), 'xyz')):
        start, step = c2w[:3, 3], length * c2w[:3, column]
        axis.plot(*np.stack([start, start + step]).T, color=color, linewidth=2)
        axis.text(*(start + 1.15 * step), f'{name}', color=color)
    axis.text(*c2w[:3, 3], f'  {label}', fontsize=8)

figure = plt.figure(figsize=(5, 4), dpi=90)
axis = figure.add_subplot(projection='3d')
draw_axes(axis, np.eye(4), 'world')
draw_axes(axis, invert_pose(w2c), 'camera')
axis.scatter(*points_m.T, color='#444444', s=14)
axis.set(xlabel='x (m)', ylabel='y (m)', zlabel='z (m)',
         title='z of the camera points at the scene, y points down')
axis.set(xlim=(-2, 5), ylim=(-7, 2), zlim=(-1, 4)); axis.set_box_aspect((7, 9, 5), zoom=0.95)
axis.locator_params(nbins=5); axis.view_init(24, -140); plt.show()

# %%
assert np.allclose(transform_v1(w2c, points_m), transform(w2c, points_m), atol=1e-12)
assert np.allclose(invert_pose(w2c) @ w2c, np.eye(4), atol=1e-12)
assert np.allclose(camera_center(w2c), (4, -6, 3))
assert transform(w2c, np.array([[0.0, 0, 1]]))[0, 2] > 0   # the target lies in front of the camera


# %% [markdown]
# ## Projection Π
#
# 4DP-QA writes a pixel as $\mathbf p=\Pi(\mathbf K,\mathbf T,\mathbf X)$. Written out:
#
# $$\mathbf x_c=R\,\mathbf X+\mathbf t,\qquad u=f_x\,x_c/z_c+c_x,\qquad v=f_y\,y_c/z_c+c_y .$$
#
# We return the depth $z_c$ beside the pixel. Whoever uses a projected point needs its sign: a point behind the camera
# also has a $(u, v)$, and it is meaningless.

# %%
def project_v1(K, w2c, xyz_world):
    uv_px, depth_m = [], []
    for X in xyz_world:
        x, y, z = w2c[:3, :3] @ X + w2c[:3, 3]
        uv_px.append((K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2])); depth_m.append(z)
    return np.array(uv_px), np.array(depth_m)


# %%
#| export
def project(K: Array, w2c: Array, xyz_world: Array) -> tuple[Array, Array]:
    "Π(K, T, X) of 4DP-QA Eq. 1: world points (..., N, 3) to pixels (..., N, 2) and planar depth (..., N) in metres."
    xyz_camera = transform(w2c, xyz_world)  # (..., N, 3)
    depth_m = xyz_camera[..., 2]
    uv_px = (xyz_camera @ K.mT)[..., :2] / depth_m[..., None]
    return uv_px, depth_m

def unproject(K: Array, w2c: Array, uv_px: Array, depth_m: Array) -> Array:
    "The inverse of `project`: pixels (..., N, 2) with planar depth (..., N) to world points (..., N, 3)."
    x = (uv_px[..., 0] - K[..., 0, 2, None]) / K[..., 0, 0, None] * depth_m
    y = (uv_px[..., 1] - K[..., 1, 2, None]) / K[..., 1, 1, None] * depth_m
    stack = torch.stack if isinstance(depth_m, torch.Tensor) else np.stack
    return transform(invert_pose(w2c), stack([x, y, depth_m], -1))

def in_image(uv_px: Array, depth_m: Array, height: int, width: int) -> Array:
    "Which projected points (..., N) lie in front of the camera and inside the picture."
    u, v = uv_px[..., 0], uv_px[..., 1]
    return (depth_m > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)


# %%
uv_px, depth_m = project(K, w2c, points_m)
figure, axis = plt.subplots(figsize=(5, 3), dpi=90)
dots = axis.scatter(*uv_px.T, c=depth_m, cmap='viridis_r', s=50)
axis.set(xlim=(0, width), ylim=(height, 0), xlabel='u (px)', ylabel='v (px)', aspect='equal',
         title='seven points, as this camera sees them')
axis.plot(K[0, 2], K[1, 2], '+', color='#D55E00', markersize=12)
axis.annotate('principal point', K[:2, 2], (K[0, 2] + 34, K[1, 2] - 30), color='#D55E00', fontsize=8,
              arrowprops=dict(arrowstyle='-', color='#D55E00', linewidth=0.8))
figure.colorbar(dots, label='depth (m)', shrink=0.7); plt.show()

# %%
naive_uv_px, naive_depth_m = project_v1(K, w2c, points_m)
assert np.allclose(uv_px, naive_uv_px, atol=1e-10) and np.allclose(depth_m, naive_depth_m)
assert np.allclose(unproject(K, w2c, uv_px, depth_m), points_m, atol=1e-12)

# %% [markdown]
# The same functions run on torch tensors, in batches, and carry gradients. Two cameras and seven points give (2, 7, 2).

# %%
poses = torch.tensor(np.stack([w2c, look_at((1, -5, 2), (0, 0, 1), up)]))
batch_uv_px, _ = project(torch.tensor(K), poses, torch.tensor(points_m))
assert batch_uv_px.shape == (2, 7, 2)
assert torch.allclose(batch_uv_px[0], torch.tensor(uv_px))
points = torch.tensor(points_m, requires_grad=True)
assert torch.autograd.gradcheck(lambda xyz: project(torch.tensor(K), poses, xyz), points)


# %% [markdown]
# ## Pixels have centres
#
# A picture of width W spans u from 0 to W. The first column's centre is at ½, so that halving the resolution divides
# every coordinate by two and nothing else. Data sets that put integer coordinates at pixel centres (ADT does) are shifted
# by half a pixel when they are read. Without it a resized track is off by up to half a pixel, which is two thousandths
# of a 224-pixel picture: more than the three decimals our questions print.

# %%
#| export
def pixel_centers(height: int, width: int) -> np.ndarray:
    "Centres (H, W, 2) of all pixels, in pixels: row i, column j is at (j + ½, i + ½)."
    v, u = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing='ij')
    return np.stack([u, v], -1)

def resize_intrinsics(K: Array, scale_x: float, scale_y: float) -> Array:
    "K after the picture is scaled by these factors (pixel centres at +½, so it is a pure scaling)."
    scaled = K * 1
    scaled[..., 0, :] *= scale_x
    scaled[..., 1, :] *= scale_y
    return scaled

def crop_intrinsics(K: Array, left_px: float, top_px: float) -> Array:
    "K after `left_px` columns and `top_px` rows are cut away."
    cropped = K * 1
    cropped[..., 0, 2] -= left_px
    cropped[..., 1, 2] -= top_px
    return cropped


# %%
small_K = resize_intrinsics(crop_intrinsics(K, 20, 10), 0.5, 0.25)
small_uv_px, _ = project(small_K, w2c, points_m)
figure, axes = plt.subplots(1, 2, figsize=(6, 2.2), dpi=90)
for axis, (columns, rows), title in zip(axes, ((4, 3), (2, 1.5)), ('4 × 3 pixels', 'the same, halved')):
    centers = pixel_centers(3, 4) * columns / 4
    axis.scatter(*centers.reshape(-1, 2).T, color='#0072B2', s=20)
    axis.set(xlim=(0, columns), ylim=(rows, 0), aspect='equal', title=title, xlabel='u (px)')
    axis.grid(alpha=0.5)
plt.show()

# %%
assert np.allclose(small_uv_px, (uv_px - (20, 10)) * (0.5, 0.25))
assert pixel_centers(3, 4)[2, 1].tolist() == [1.5, 2.5]


# %% [markdown]
# ## Rays and Plücker lines
#
# A pixel without depth is a ray: an origin $\mathbf o=\mathbf C$ and a unit direction $\mathbf d\propto R^\top K^{-1}[u,v,1]^\top$. The
# moment $\mathbf m=\mathbf o\times\mathbf d$ does not change when the origin slides along the ray, so $(\mathbf m,\mathbf d)$ names the line
# itself. LMM-Track4D's ray–time encoding (`16_rtge`) tags every visual token with this line.

# %%
#| export
def camera_rays(K: Array, w2c: Array, uv_px: Array) -> tuple[Array, Array]:
    "Origins and unit directions (..., N, 3) in the world of the rays through pixels (..., N, 2)."
    ones = uv_px[..., 0] * 0 + 1
    far = unproject(K, w2c, uv_px, ones)  # (..., N, 3), one metre deep
    origin_m = camera_center(w2c)[..., None, :] + far * 0
    direction = far - origin_m
    return origin_m, direction / (direction ** 2).sum(-1)[..., None] ** 0.5

def pluecker(origin_m: Array, direction: Array) -> Array:
    "Plücker coordinates (..., 6) = [moment o × d, direction d] of lines."
    if isinstance(origin_m, torch.Tensor):
        return torch.cat([torch.linalg.cross(origin_m, direction), direction], -1)
    return np.concatenate([np.cross(origin_m, direction), direction], -1)


# %%
origin_m, direction = camera_rays(K, w2c, uv_px)
figure = plt.figure(figsize=(5, 3.6), dpi=90)
axis = figure.add_subplot(projection='3d')
for start, step, length in zip(origin_m, direction, np.linalg.norm(points_m - origin_m, axis=1)):
    axis.plot(*np.stack([start, start + step * length]).T, color='#0072B2', linewidth=0.8)
axis.scatter(*points_m.T, color='#D55E00', s=18)
axis.set(xlabel='x (m)', ylabel='y (m)', zlabel='z (m)', title='each ray ends in its point')
axis.set_box_aspect((5, 8, 3), zoom=0.95)
axis.locator_params(nbins=4); axis.view_init(24, -140); plt.show()

# %%
lines = pluecker(origin_m, direction)
assert np.allclose(lines,
    pluecker(origin_m + 3.7 * direction, direction))     # sliding along the ray changes nothing
assert np.allclose((lines[:, :3] * lines[:, 3:]).sum(-1), 0, atol=1e-12)         # m · d = 0
along = ((points_m - origin_m) * direction).sum(-1, keepdims=True)
assert np.allclose(origin_m + along * direction, points_m, atol=1e-10)           # every point lies on its ray
assert (along[:, 0] > depth_m).all()                                             # ray length exceeds planar depth off the axis

# %% [markdown]
# ## What we proved
#
# * Projection and unprojection are inverse on a non-square, off-centre, rolled camera, in loops and in batches.
# * Cropping and resizing K equals cropping and resizing the pixels.
# * A Plücker line does not depend on where its origin sits.
#
# ## Try it
#
# 1. Swap $f_x$ and $f_y$ in `K`. Which assertion fails first? Which would still pass on a square camera?
# 2. A rigid motion applied to all points *and* all cameras must not change a pixel. Prove it with `project`.
# 3. Compare ray length and planar depth at the corner of a 90° camera. By how many per cent do they differ?
#
# <details><summary>Solutions</summary>
#
# 1. The first comparison of `project` with the naive loop passes, for both use the same wrong K; what fails is the
#    check against pixels known from outside. With $f_x = f_y$ nothing would fail at all, which is why no example here
#    has a square camera.
# 2. For a rigid `M`: `project(K, w2c @ invert_pose(M), transform(M, xyz))` equals `project(K, w2c, xyz)`, because
#    $w2c\,M^{-1} M X = w2c\,X$. Only relative poses are visible in pictures.
# 3. At the corner of a square 90° camera the ray is $(1, 1, 1)$ for a depth of 1: length $\sqrt 3$, so 73 % longer.
#    For a picture of another shape it is $\sqrt{1 + 1 + (H/W)^2}$.
#
# </details>
