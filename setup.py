"""Which packages ship: those found, and the layouts, which stand beside the package and ship inside it."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["red_tui", "red_tui.*"]), "red_tui.layouts"])
