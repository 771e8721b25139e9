"""Further commands of `neva-tl`, one file each (or one for a few that belong together).

A module here has `register(app)`, which adds its commands to the typer app, and imports nothing heavy at its top:
`neva-tl --help` must answer at once.
"""

#: Modules of this package whose commands are registered, in the order of `--help`.
MODULES: tuple[str, ...] = ("collect", "annotate", "capability", "judges", "profile")
