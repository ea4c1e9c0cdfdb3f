"""The start of fine-tuning: a trained detector, adapted to the classes of other data."""

import logging

from otalab.detect.checkpoint import load_model
from otalab.detect.detector import Detector, build_detector
from otalab.errors import InputError

logger = logging.getLogger(__name__)
ROWS = ("head.logits.weight", "head.logits.bias")  # tensors of the class layer, with one row per class
NETWORK = ("backbone", "weights_backbone", "channels", "num_convs", "style", "anchors")  # settings of the source


def start_from(source: str, settings: dict, class_names: list[str]) -> tuple[Detector, dict]:
    """Build a detector of `settings` with the weights of another; returns it and the settings that it then has.

    source: what `load_model` takes. Network and style are the source's. Assigner, losses and image size remain those of
        `settings`, and weights that an assigner has learnt start anew

    A class that the source knows by name keeps its row of the class layer. Other classes start anew, and a warning
    names them. Raises InputError for a source that cannot be read, or that has another backbone or other anchors.
    """
    other, description = load_model(source)
    given = description["settings"]
    for name in ("backbone", "anchors"):
        has, wanted = given.get(name, "points"), settings.get(name, "points")
        if has != wanted:
            raise InputError(f"{source} has the {name} {has}, not {wanted} (--{name})")
    settings = settings | {name: given[name] for name in NETWORK if name in given}
    model = build_detector(**settings, load_weights=False)
    state, fresh = other.state_dict(), model.state_dict()
    known = {name: row for row, name in enumerate(description["class_names"])}
    here = [row for row, name in enumerate(class_names) if name in known]
    there = [known[class_names[row]] for row in here]
    for name in ROWS:
        fresh[name][here] = state[name][there]
    taken = {name: value for name, value in state.items() if not name.startswith("assigner.") and name not in ROWS}
    model.load_state_dict(fresh | taken)
    if unknown := [name for name in class_names if name not in known]:
        logger.warning("%s does not know %s: what tells them apart starts anew", source, ", ".join(unknown))
    return model, settings
