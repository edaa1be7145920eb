# %% [markdown]
# # Solids
# > Where a ray meets an ellipsoid, a box or a frustum (cylinder, cone), for a million rays at once.

# %%
#| default_exp solids

# %% [markdown]
# #| export
# Every solid is intersected in its own axes, divided by its half size, so it is always one of three unit shapes: the unit
# sphere, the cube [-1, 1]³, and the frustum with radius 1 at z = -1 and `taper` at z = +1 (1: cylinder, 0: cone).
# Rays are `origin + t · direction`; all arithmetic is + − × ÷ √ in float32, so results do not depend on batching.

# %% [markdown]
# * **What** three intersection formulas and three normals
# * **Why** cars, people and furniture are built from them; their depth must be exact
# * **Paper** none; the shapes are **[ours]**
# * **Needs** torch
# * **Time** 10 seconds
# * **Before this** nothing

# %%
#| export
import torch

# %%
import matplotlib.pyplot as plt

# %% [markdown]
# ## Three unit shapes
#
# An ellipsoid with any half axes is a unit sphere seen through a stretched ruler. So the ray is stretched instead: its origin
# and direction go into the solid's axes and are divided by the half size. `t` is the same number before and after, and if
# the direction has depth 1 in the camera, `t` *is* the planar depth. No conversion, no rounding in between.

# %%
#| export
ELLIPSOID, BOX, FRUSTUM = 0, 1, 2
FAR = 1e30            # the t of a miss: finite, so that arithmetic on it stays defined
NEAR = 0.05           # hits closer than this are behind or on the camera


# %%
def fan(taper, count=300):
    "Rays from (-3, 0.4, 1.4) to a vertical line of targets, and the tapers."
    origin = torch.tensor([-3.0, 0.4, 1.4])[:, None].expand(3, count)
    target = torch.stack([torch.zeros(count), torch.full((count,), 0.1), torch.linspace(-1.6, 1.6, count)])
    return origin, target - origin, torch.full((count,), taper)
assert fan(0.5)[1].shape == (3, 300)


# %% [markdown]
# ## Sphere and box
#
# The textbook solves $t^2\,d\cdot d+2t\,o\cdot d+o\cdot o-1=0$. In float32 that loses digits when the sphere is far away, because
# $o\cdot o$ is large. Going to the point of closest approach first keeps everything near 1:

# %%
def ellipsoid_hit_v1(o, d):
    a, b, c = (d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - 1
    return (-b - (b * b - a * c).sqrt()) / a


# %%
#| export
def _else_far(t: torch.Tensor, miss: torch.Tensor) -> torch.Tensor:
    return t + miss.float() * FAR

def ellipsoid_hit(origin: torch.Tensor, direction: torch.Tensor, taper: torch.Tensor | None) -> torch.Tensor:
    "t (N,) where rays (3, N) enter the unit sphere; FAR where they miss."
    squared = (direction * direction).sum(0)
    closest = -(origin * direction).sum(0) / squared
    nearest = origin + closest * direction
    gap = 1 - (nearest * nearest).sum(0)
    t = closest - (gap.clamp(min=0) / squared).sqrt()
    return _else_far(t, (gap <= 0) | (t < NEAR))


# %%
far = torch.tensor([[-300.0], [1.0], [2.0]])
aim = torch.tensor([[300.0], [-0.7], [-2.2]])
exact = ellipsoid_hit_v1(far.double(), aim.double()).item()
print(f'relative error of the textbook {abs(ellipsoid_hit_v1(far, aim).item() / exact - 1):.1e}, of ours '
      f'{abs(ellipsoid_hit(far, aim, None).item() / exact - 1):.1e}')
assert abs(ellipsoid_hit(far, aim, None).item() / exact - 1) < 1e-6


# %% [markdown]
# A box is where three slabs overlap. Per axis the ray is inside between `middle - reach` and `middle + reach`; it enters the
# box when it has entered the last slab, and misses if it left another one before.

# %%
#| export
def box_hit(origin: torch.Tensor, direction: torch.Tensor, taper: torch.Tensor | None) -> torch.Tensor:
    "t (N,) where rays (3, N) enter the cube [-1, 1]³ (slab test); FAR where they miss."
    inverse = 1 / (direction + 1e-12)
    middle, reach = -origin * inverse, inverse.abs()
    t, leave = (middle - reach).amax(0), (middle + reach).amin(0)
    return _else_far(t, (t >= leave) | (t < NEAR))


# %%
o, d, taper = fan(1.0)
t = box_hit(o, d, None)
hit = t < FAR / 2
# on the surface
assert torch.allclose((o + t * d)[:, hit].abs().amax(0), torch.ones(int(hit.sum())), atol=1e-5)


# %% [markdown]
# ## Cylinder, cone and all between
#
# One shape, the frustum, covers wheels, legs, lampshades and cones. Its side is the quadric $x^2+y^2=(m+nz)^2$, cut at
# $z=\pm1$; its caps are discs. Four candidate hits are computed and the nearest valid one is kept.

# %%
#| export
def _frustum_side(x, y, z, direction, mean, slope) -> tuple[torch.Tensor, torch.Tensor]:
    "Both roots of x² + y² = (mean + slope z)² along the rays; FAR where there are none."
    dx, dy, dz = direction
    radius, rate = mean + slope * z, slope * dz
    a = dx * dx + dy * dy - rate * rate
    b = x * dx + y * dy - rate * radius
    inside = b * b - a * (x * x + y * y - radius * radius)
    root, inverse = inside.clamp(min=0).sqrt(), 1 / (a + 1e-12)
    return _else_far((-b - root) * inverse, inside <= 0), _else_far((-b + root) * inverse, inside <= 0)

def frustum_hit(origin: torch.Tensor, direction: torch.Tensor, taper: torch.Tensor) -> torch.Tensor:
    "t (N,) where rays (3, N) enter the frustum of `taper` (N,); FAR where they miss."
    # start there: float32 stays accurate
    closest = -(origin * direction).sum(0) / (direction * direction).sum(0)
    x, y, z = origin + closest * direction
    dx, dy, dz = direction
    mean, slope = (taper + 1) / 2, (taper - 1) / 2
    best = torch.full_like(x, FAR)
    for t in _frustum_side(x, y, z, direction, mean, slope):
        best = torch.minimum(best, _else_far(t, ((z + t * dz).abs() > 1) | (t + closest < NEAR)))
    for level in (-1, 1):
        t = (level - z) / (dz + 1e-12)
        at_x, at_y, limit = x + t * dx, y + t * dy, mean + slope * level
        best = torch.minimum(best, _else_far(t, (at_x * at_x + at_y * at_y > limit * limit)
                                             | (t + closest < NEAR)))
    return best + closest

INTERSECT = (ellipsoid_hit, box_hit, frustum_hit)

# %%
figure, axes = plt.subplots(1, 5, figsize=(9.5, 2.3), dpi=90, sharey=True)
for axis, (kind, taper, name) in zip(axes, [(ELLIPSOID, 1., 'ellipsoid'), (BOX, 1., 'box'),
                                            (FRUSTUM, 1., 'cylinder'),
                                            (FRUSTUM, .5, 'frustum'), (FRUSTUM, 0., 'cone')]):
    o, d, tapers = fan(taper)
    t = INTERSECT[kind](o, d, tapers)
    hit = t < FAR / 2
    axis.plot(*(o + t * d)[[0, 2]][:, hit], '.', ms=2)
    for ray in range(0, 300, 30): axis.plot(*torch.stack([o, o + d * 1.3])[:, [0, 2], ray].T, lw=0.4,
                                            color='0.7')
    axis.set(title=name, aspect='equal', xlim=(-3.1, 1.3), xlabel='x')
axes[0].set_ylabel('z'); plt.show()

# %% [markdown]
# Grey: a fan of rays from the left. Blue: where they enter. The ray origin is off the middle plane, so round outlines are cuts
# beside the centre. Every hit lies on its surface:

# %%
o, d, tapers = fan(0.5)
t = frustum_hit(o, d, tapers)
x, y, z = (o + t * d)[:, t < FAR / 2]
on_side, on_cap = ((x * x + y * y).sqrt() - (0.75 - 0.25 * z)).abs() < 1e-5, (z.abs() - 1).abs() < 1e-5
assert (on_side | on_cap).all() and on_side.any() and on_cap.any()


# %% [markdown]
# ## Normals
#
# Light needs the direction in which the surface faces. It is the gradient of the shape's equation; in stretched axes it is
# divided by the half size once more. For a box only the axis that reached 1 counts.

# %%
#| export
def solid_normal(kind: int, point: torch.Tensor, half_m: torch.Tensor, taper: torch.Tensor) -> torch.Tensor:
    "Outward unit normals (3, N) in the solid's axes at surface points (3, N) given in unit coordinates."
    if kind == ELLIPSOID: normal = point
    elif kind == BOX:
        size = point.abs()
        normal = point * (size >= size.amax(0)).float()
    else:
        x, y, z = point
        slope = (taper - 1) / 2
        radius = (1 + taper) / 2 + slope * z
        side = 1 - (x * x + y * y - radius * radius < z * z - 1).float()
        normal = torch.stack([x * side, y * side, z * (1 - side) - slope * radius * side])
    normal = normal / half_m
    return normal / (normal * normal).sum(0).sqrt()


# %%
def shaded(kind, taper, size=120):
    "A picture of one solid from an oblique direction, lit from the camera's left."
    v, u = torch.meshgrid(*[torch.linspace(-0.42, 0.42, size)] * 2, indexing='ij')
    right, down, ahead = (torch.tensor(a)[:, None] for a in ([.3, -.95, 0.], [.28, .09, -.95],
                                                             [.91, .29, .29]))
    ahead = -torch.linalg.cross(down, right, dim=0)
    d = ahead + right * u.reshape(1, -1) + down * v.reshape(1, -1)
    o, half, tapers = (-5 * ahead).expand_as(d), torch.ones_like(d), torch.full((d.shape[1],), taper)
    t = INTERSECT[kind](o, d, tapers)
    normal = solid_normal(kind, o + t.clamp(max=9) * d, half, tapers)
    light = (-ahead - right - down)
    return torch.where(t < FAR / 2, (normal * light).sum(0).clamp(min=0.15), 1.6).reshape(size, size)

figure, axes = plt.subplots(1, 5, figsize=(9.5, 2.1), dpi=90)
for axis, (kind, taper) in zip(axes, [(ELLIPSOID, 1.), (BOX, 1.), (FRUSTUM, 1.), (FRUSTUM, .5),
                                      (FRUSTUM, 0.)]):
    axis.imshow(shaded(kind, taper), cmap='gray', vmin=0, vmax=1.6)
    axis.axis('off')

# %%
angle = torch.linspace(0, 6.2, 50)
points = torch.stack([angle.cos(), 0 * angle, angle.sin()])
normals = solid_normal(ELLIPSOID, points, torch.ones(3, 50), torch.ones(50))
assert torch.allclose(normals, points, atol=1e-6)  # a sphere faces away from its centre

# %% [markdown]
# The effect of the half size shows on a flat ellipsoid: its normals lean towards the short axis.

# %%
half = torch.tensor([1.0, 1.0, 0.3])[:, None].expand(3, 50)
flat = solid_normal(ELLIPSOID, points, half, torch.ones(50))
figure, axis = plt.subplots(figsize=(4, 2), dpi=90)
axis.quiver(*(points * half)[[0, 2]], *flat[[0, 2]], width=0.004)
axis.set(aspect='equal', xlabel='x (m)', ylabel='z (m)', title='normals of a flat ellipsoid')
assert (flat[2].abs() >= normals[2].abs() - 1e-6).all()

# %% [markdown]
# ## What we proved
#
# * hits lie on the surface to 1e-5, also far from the camera, where the textbook formula loses digits
# * one frustum covers cylinders and cones
# * normals are unit vectors that point outwards
#
# ## Try it
#
# 1. Add a torus. Its equation is of fourth degree: what does that do to the rule "only + − × ÷ √"?
# 2. Let a ray start inside a box. What does `box_hit` return, and why does that suit shadows?
#
# <details><summary>Solutions</summary>
#
# 1. A quartic has a solution in roots, so + − × ÷ √ would still do, if cube roots were allowed; and its intermediate
#    values lose digits badly. Practical ray casters iterate instead, and an iteration's last bit depends on the
#    hardware's order of operations.
# 2. The far face: entering happened behind the start, at a negative distance. A shadow ray that starts on a face
#    inside its own box must not be blocked by the face it starts from, but must be by the one it leaves through.
#
# </details>
