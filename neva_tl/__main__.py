"""The `neva-tl` command as `python -m neva_tl`."""

from neva_tl.cli.main import main

main()
