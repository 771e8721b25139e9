"""What a study decided where its options said `auto` or nothing."""

from __future__ import annotations

from neva_tl.study.run.config import StudyConfig

#: Fields that name the study itself, which no option decides.
GIVEN = ("model", "methods", "overrides", "profile", "seed", "dtype", "theory")


def decisions(options: StudyConfig, config: StudyConfig) -> str:
    """Describe the decisions of a study in one line.

    Args:
        options: The study as its options were given.
        config: The same study with every `auto` decided.
    """
    before, after = options.to_json(), config.to_json()
    changed = {name: after[name] for name in after if name not in GIVEN and after[name] != before.get(name)}
    changed["pooling"] = config.pooling
    return ", ".join(
        f"{name} {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
        for name, value in changed.items()
    )
