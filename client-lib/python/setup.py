"""Builds the package with pip: the extension over librgov's own sources.

The sources lie outside this folder (../*.c, ../../shm-layout), and the compiler's
objects would land beside them; so they are copied into the build folder first, and
everything that a build leaves is in one temporary folder.  The Makefile does not
use this file: python.mk.
"""

import pathlib
import re
import shutil
import tempfile

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# One limited API for 3.10 and every later one: one file serves them all.
LIMITED_API = "0x030A0000"
TAG = "cp310"

# What is compiled, and the headers beside it.
FOLDERS = ("client-lib", "client-lib/python/ext", "shm-layout")


def version():
    """The Makefile has it; nobody else."""
    found = re.search(
        r"^VERSION\s*:=\s*(\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    if found is None:
        raise SystemExit("setup.py: no VERSION in the Makefile at the root")
    return found.group(1)


class BuildFromCheckout(build_ext):
    """Compiles copies of the sources, so that the checkout stays clean."""

    def build_extension(self, ext):
        tree = pathlib.Path(self.build_temp) / "sources"
        sources = []
        for folder in FOLDERS:
            (tree / folder).mkdir(parents=True, exist_ok=True)
            for path in sorted((ROOT / folder).iterdir()):
                if path.suffix in (".c", ".h", ".def", ".map"):
                    shutil.copy(path, tree / folder)
                if path.suffix == ".c":
                    sources.append(str(tree / folder / path.name))
        ext.sources = sources
        ext.include_dirs = [str(tree)]
        ext_map = tree / "client-lib/python/ext/ext.map"
        ext.extra_link_args = [f"-Wl,--version-script,{ext_map}"]
        super().build_extension(ext)


SCRATCH = tempfile.TemporaryDirectory(prefix="rgov-build-")

setup(
    version=version(),
    ext_modules=[
        Extension(
            "rgov._rgov",
            sources=[],
            define_macros=[
                ("_GNU_SOURCE", None),
                ("Py_LIMITED_API", LIMITED_API),
                ("RGOV_VERSION", f'"{version()}"'),
            ],
            extra_compile_args=["-std=gnu11", "-fvisibility=hidden"],
            libraries=["m", "pthread"],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildFromCheckout},
    options={
        "build": {"build_base": SCRATCH.name},
        "egg_info": {"egg_base": SCRATCH.name},
        "bdist_wheel": {"py_limited_api": TAG},
    },
)
