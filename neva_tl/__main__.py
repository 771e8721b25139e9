"""`python -m neva_tl`: the same as the `neva-tl` command."""

from neva_tl.cli.main import main

main()
