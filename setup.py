"""Kept for tools that ask for it; pyproject.toml says everything."""

from setuptools import setup

setup()
