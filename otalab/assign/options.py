"""Parsing of an assigner's options from text."""

from dataclasses import is_dataclass, replace
from inspect import signature

from otalab.errors import InputError, current

RENAMED = {"centre_radius": "center_radius", "pos_iou": "pos_iou_thr", "neg_iou": "neg_iou_thr"}  # since version 0.1
READERS = {int: int, float: float, str: str, bool: {"true": True, "false": False}.__getitem__, type(None): int}


def parse_options(text: str, defaults) -> dict[str, object]:
    """Parse options written as text, for example "q=10,alpha=1".

    Each value is read as the type that the option has in `defaults`, an assigner, or as an int where it has None.
    Options of the assigner's parts, for example its cost and its prior, go by their own names: "alpha" is `cost.alpha`.
    Raises InputError for malformed text, an unknown option, one that text cannot express, and an invalid value.
    """
    parts = {name: getattr(defaults, name) for name in signature(type(defaults)).parameters}
    owners = {None: defaults} | {name: part for name, part in parts.items() if is_dataclass(part)}
    readers, found = {}, {}
    for owner, part in owners.items():  # on equal names, the assigner's own wins
        for name in signature(type(part)).parameters:
            if type(getattr(part, name)) in READERS:
                readers.setdefault(name, (owner, READERS[type(getattr(part, name))]))
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} is not of the form option=value")
        name = current(name, RENAMED)
        if name not in readers:
            known = ", ".join(readers) or "none"
            raise InputError(f"{name!r} is no option that can be given as text; there is {known}")
        owner, read = readers[name]
        try:
            value = read(value)
        except (ValueError, KeyError) as error:
            raise InputError(f"{name} cannot be {value!r}") from error
        if owner is None:
            found[name] = value
        else:
            found[owner] = replace(found.get(owner, owners[owner]), **{name: value})
    return found
