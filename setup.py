"""The extension modules; everything else about the package is in pyproject.toml.

RTCORE_TRACE=1     bounds checks and line tracing, for tests; the release build has neither.
RTCORE_ANNOTATE=1  writes the HTML that shows which lines still touch Python objects.
RTCORE_EXT=a,b     builds only the extensions whose dotted names are listed.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

TRACE = os.environ.get("RTCORE_TRACE") == "1"
ANNOTATE = os.environ.get("RTCORE_ANNOTATE") == "1"
ONLY = os.environ.get("RTCORE_EXT")

SOURCES = [
    "rtcore/_audio.pyx",  # kernels: codecs, levels
    "rtcore/_streams.pyx",  # kernels with state: resampler, concealment
    "rtcore/media/_frames.pyx",  # WebSocket frames
    "rtcore/media/_wire.pyx",  # a socket's octets, as frames
    "rtcore/media/_beats.pyx",  # what came is read, what is due is written
    "rtcore/media/_in_wait.pyx",  # the same where Trio would wait
    "rtcore/media/_paced.pyx",  # which piece of our sound is due when
    "rtcore/protocol/_media.pyx",  # the one-pass media message
    "rtcore/media/_way_out.pyx",  # through these three, from our sound to the kernel
    "rtcore/turn/_guard.pyx",  # the far-end guard
    "rtcore/turn/_every_frame.pyx",  # what every frame passes through
    "rtcore/_far_end.pyx",  # what the caller hears of us meanwhile
    "rtcore/_way_in.pyx",  # from the carrier's message through all of them
]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": TRACE,
    "wraparound": False,
    "initializedcheck": TRACE,
    "cdivision": True,
    "linetrace": TRACE,
}


def extensions() -> list[Extension]:
    wanted = None if ONLY is None else set(ONLY.split(","))
    found = []
    for source in SOURCES:
        name = source.removesuffix(".pyx").replace("/", ".")
        if os.path.exists(source) and (wanted is None or name in wanted):
            found.append(
                Extension(
                    name,
                    [source],
                    extra_compile_args=["-O1" if TRACE else "-O3"],
                    define_macros=[("CYTHON_TRACE_NOGIL", "1")] if TRACE else [],
                )
            )
    return found


setup(
    ext_modules=cythonize(
        extensions(),
        compiler_directives=DIRECTIVES,
        annotate=ANNOTATE,
        build_dir="build/cython-trace" if TRACE else "build/cython",
    )
)
