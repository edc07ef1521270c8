"""Networks and checkpoints: what a model is, what it sees, and the file that it comes from.

``architecture`` and ``checkpoint`` run without torch, so that planning does; ``unet`` and ``weights`` need it.
"""
