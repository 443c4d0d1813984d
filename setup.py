"""What setup.cfg cannot say: folders of the checkout that the package holds."""

from setuptools import find_packages, setup

HELD = {"tfm_jax.configs": "configs", "tfm_jax.notebooks": "notebooks"}

setup(
    packages=[*find_packages(include=["tfm_jax*", "experiments*"]), *HELD],
    package_dir=HELD,
)
