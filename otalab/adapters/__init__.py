"""otalab's assigners inside other detection frameworks: one file for each, imported only when asked for.

from otalab.adapters.torchvision import use_assigner
use_assigner(model, "ota")

None of the frameworks is a dependency of otalab's but torchvision. docs/adapters.md says what each adapter replaces.
"""
