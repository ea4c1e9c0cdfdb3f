"""otalab: optimal-transport label assignment for object detection.

`otalab.transport` solves transport problems and proves the answers, `otalab.assign` turns predictions
and ground truth into labels, `otalab.detect` trains a detector with them. See README.md.
"""

from importlib.metadata import version

__version__ = version("otalab")
