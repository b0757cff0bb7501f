"""One thread for torch here: the networks are tiny, and threads would wait for each other."""

import torch

torch.set_num_threads(1)
