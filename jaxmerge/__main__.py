"""`python -m jaxmerge` is the same as `jaxmerge`."""

from jaxmerge.cli.main import run

run()
