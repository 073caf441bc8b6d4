"""The command `cubereel`. Each verb is one function call in Python with the same names."""

from pipelines.cli.main import main as main
