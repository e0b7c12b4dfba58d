"""Data: videos and trajectories become shards, shards become batches of clips.

Importing this package imports no third-party package.
"""

from data_pipelines.torchvision_on_cpu import install_torchvision_hook

install_torchvision_hook()
