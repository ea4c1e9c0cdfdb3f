"""otalab's assigners inside other detection frameworks: one module per framework, imported only on request.

from otalab.adapters.torchvision import use_assigner
use_assigner(model, "ota")

Of the frameworks, only torchvision is a dependency of otalab. docs/adapters.md says what each adapter replaces.
"""
