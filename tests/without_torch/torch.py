"""Stands before PyTorch on the path of processes that train.

They need none, but tensorboardX imports it where it is: seconds, each time.
"""

raise ImportError("a run needs no PyTorch")
