"""Figures: functions that draw on a Matplotlib Axes and return it, and functions that return a whole Figure.

A gt has the same colour in all of them. None of them uses pyplot.

with style():
    figure = Figure()
    draw_assignment(figure.subplots(), image, points, assignment, targets)
"""

from otalab.viz.boxes import draw_assignment, draw_boxes, show_image
from otalab.viz.detections import detection_grid, draw_detections, match_detections
from otalab.viz.microscope import microscope, microscope_figure, microscope_strip
from otalab.viz.story import assignment_story, family_figure
from otalab.viz.style import PALETTE, gt_colour, style
from otalab.viz.training import draw_ap, draw_losses, draw_training, training_figure
from otalab.viz.transport import candidate_columns, draw_cost, draw_plan, gt_names

__all__ = [
    "PALETTE",
    "assignment_story",
    "candidate_columns",
    "detection_grid",
    "draw_ap",
    "draw_assignment",
    "draw_boxes",
    "draw_cost",
    "draw_detections",
    "draw_losses",
    "draw_plan",
    "draw_training",
    "family_figure",
    "gt_colour",
    "gt_names",
    "match_detections",
    "microscope",
    "microscope_figure",
    "microscope_strip",
    "show_image",
    "style",
    "training_figure",
]
