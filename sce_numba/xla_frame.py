"""The structures that XLA passes to handlers of its foreign function interface, for ``ctypes``.

They are those of ``xla/ffi/api/c_api.h`` in ``jax.ffi.include_dir()``.  The layout of the fields
that are used has not changed since version 0.1 of the interface, that of jaxlib 0.5.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p

# The versions of the interface that are known to have these structures.
MAJOR, OLDEST_MINOR, MINOR = 0, 1, 3

# Numbers of XLA's enumerations: an extension, a stage, and errors.
METADATA = 1
EXECUTE = 3
RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE = 8, 13, 14


class Extension(Structure):
    """XLA_FFI_Extension_Base, with the metadata that follow in the extension of that type."""


class Version(Structure):
    """XLA_FFI_Api_Version."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("major", c_int),
        ("minor", c_int),
    ]


class Metadata(Structure):
    """The beginning of XLA_FFI_Metadata."""

    _fields_ = [("struct_size", c_size_t), ("version", Version), ("traits", c_uint32)]


Extension._fields_ = [
    ("struct_size", c_size_t),
    ("type", c_int),
    ("next", POINTER(Extension)),
    ("metadata", POINTER(Metadata)),
]


class Failure(Structure):
    """XLA_FFI_Error_Create_Args."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("message", c_char_p),
        ("code", c_int),
    ]


class Api(Structure):
    """The beginning of XLA_FFI_Api."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("version", Version),
        ("internal", c_void_p),
        ("create_error", ctypes.CFUNCTYPE(c_void_p, POINTER(Failure))),
    ]


class Buffer(Structure):
    """XLA_FFI_Buffer."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("dtype", c_int),
        ("data", c_void_p),
        ("rank", c_int64),
        ("shape", POINTER(c_int64)),
    ]


class Buffers(Structure):
    """XLA_FFI_Args and XLA_FFI_Rets."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("size", c_int64),
        ("types", c_void_p),
        ("buffers", POINTER(POINTER(Buffer))),
    ]


class Text(Structure):
    """XLA_FFI_ByteSpan."""

    _fields_ = [("address", c_void_p), ("size", c_size_t)]


class Attributes(Structure):
    """XLA_FFI_Attrs, for attributes that are strings."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", c_void_p),
        ("size", c_int64),
        ("types", c_void_p),
        ("names", c_void_p),
        ("texts", POINTER(POINTER(Text))),
    ]


class Frame(Structure):
    """XLA_FFI_CallFrame."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("extension", POINTER(Extension)),
        ("api", POINTER(Api)),
        ("context", c_void_p),
        ("stage", c_int),
        ("operands", Buffers),
        ("results", Buffers),
        ("attributes", Attributes),
    ]
