"""Errors of names and files that only this package part raises; the tree itself is `tallow_protocol.errors`.

BadNameError                 bad_name
|-- NameRefusedError         bad_name       a name or link target that the rules of names.py refuse
`-- NameClashError           name_clash     two names to send that one place would have to hold
"""

from tallow_protocol.errors import BadNameError


class NameRefusedError(BadNameError):
    """A name, path or link target is not one that may be written. Nothing was repaired, nothing written."""


class NameClashError(BadNameError):
    """Two things to send would take one place on the other side."""

    code = "name_clash"
    default_sentence = "two things to send have the same name"
    default_hints = ("rename one of them, or send them one after the other",)
