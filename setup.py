"""The part of the build that pyproject.toml can't describe: see tools/build_backend.py."""

from build_backend import setup_arguments
from setuptools import setup

setup(**setup_arguments)
