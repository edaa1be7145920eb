# %% [markdown]
# # track4d_ref
# > Teaching a vision-language model to understand the world in 4D, one notebook at a time.

# %% [markdown]
# A clip whose 4D truth is known can teach, question, train and grade a vision-language model. Everything in this course is
# a step on that one road:
#
# ```
#  Clip ──► tracks ──► questions / dialogues ──► records ──► batch ──► VLM ──► answers + trajectories ──► scores
#   ▲ simulator                                   one schema   one clip,  Qwen2.5-VL class,               tables and figures,
#   │ readers of real data                        five writers many       tiny or real                    the paper's number beside
#   └ stereo                                                   questions
# ```
#
# Three papers walk it. **4DP-QA** asks thirteen kinds of questions about motion and adds *true-motion tracking*: where would
# a point appear if the camera had stayed where it was? **LMM-Track4D** keeps a state through a dialogue and returns metric
# trajectories. **MLLM-4D** learns from stereo video and is rewarded for getting the geometry right.
#
# ## Where to begin
#
# * **Five minutes:** [00_tour](00_tour.ipynb), from a video to a question, an answer and a score.
# * **With the mouse:** `track4d app`, explained in [28e_app](28e_app.ipynb): point at anything, drag time, ask in words.
# * **The idea that carries the rest:** [05_tracks](05_tracks.ipynb), one equation that separates camera motion from object motion.
# * **The speed-up:** [20_packing](20_packing.ipynb), one video prefix for dozens of questions, exactly equal to separate samples.
#
# Each notebook holds one idea and exports one module of `track4d_ref`. The number is the reading order, and imports only go
# backwards. Every section ends with something to see and an assertion that proves the sentence above it. What is not in a
# paper is marked **[ours]**.
#
# A notebook opens with what it does, why, where in the papers, what it needs and how long it takes; it closes with what was proved
# and with exercises. Their solutions are folded below them: try first.
#
# **In a cloud notebook** run `!git clone REPOSITORY track4d_ref` and `!pip install -c track4d_ref/constraints.txt ./track4d_ref` in a
# first cell; every notebook runs there after it.
