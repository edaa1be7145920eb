# %% [markdown]
# # Readers
# > Every data set of the papers, by name.

# %%
#| default_exp readers

# %%
#| export
from track4d_ref.kitti import read_kitti_tracking
from track4d_ref.aria import read_adt_pinhole
