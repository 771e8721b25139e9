"""Code to copy from the report, and its citations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from neva_tl import __version__
from neva_tl.study.report.numbers import finite
from neva_tl.study.report.roles import Methods, family, main_method

#: Prompt of the code where the run wrote no texts.
PROMPT = "What matters most in life?"
#: Characters of a prompt in the code.
LONGEST = 80


def snippets(
    results: Mapping[str, Any], example: Mapping[str, Any] | None, run: Path | None = None
) -> list[tuple[str, str]]:
    """Return code that opens the run, saves one of its edits and puts it on a model.

    Args:
        results: Content of results.json.
        example: Result of `example.example`; its value and prompt appear in the code.
        run: The run folder, of which the code has the name alone.

    Returns:
        Title and code of each block; empty for a run without methods.
    """
    methods: Methods = results.get("methods", {})
    main, values = main_method(methods), results.get("values") or ()
    if main is None or not values:
        return []
    folder = (run.resolve().name if run is not None else "") or "RUN"
    value = str(example["value"]) if example and example["value"] in values else str(values[0])
    prompt = str(example["prompt"])[:LONGEST].strip() if example else PROMPT
    edit = f"{value}-{main}".replace("/", "-")
    blocks = [
        (
            "Open the run and steer its model",
            f"""import neva_tl as nv

run = nv.Run.open({folder!r})  # the folder of this page
print(run.table("methods"))  # each table draws itself: run.table("methods").show()
model = run.load_model()  # the run's weights are checked
folder = run.save_edit({value!r}, {main!r}, {edit!r}, model=model)  # the edit itself, with its card
edit = nv.load_edit(folder, model=model).edit
print(nv.generate(model, [{prompt!r}], max_new_tokens=40))
with nv.edit(model, edit):
    print(nv.generate(model, [{prompt!r}], max_new_tokens=40))
""",
        ),
        (
            "The same in the shell",
            f"neva-tl card {quote(folder)} --value {quote(value)} --method {main} --out {quote(edit)}\n"
            f"neva-tl generate --edit {quote(edit)} {quote(prompt)}\n"
            f"neva-tl report {quote(folder)}  # writes this page again\n",
        ),
    ]
    if family(main) in ("neurons", "vectors"):
        blocks.append(
            (
                "Attach the edit to a plain transformers model",
                f"""import neva_tl as nv
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/the/run's/model")
handle = nv.attach(model, {edit!r})
handle.off()  # unedited; handle.on(), handle.dose = 2.0, handle.remove()
""",
            )
        )
    return blocks


def citations(results: Mapping[str, Any], manifest: Mapping[str, Any] | None) -> str:
    """Return BibTeX of this software, of the NeVA paper and of this run.

    Args:
        results: Content of results.json.
        manifest: Content of manifest.json, or None.
    """
    manifest = manifest or {}
    version = _plain(manifest.get("versions", {}).get("neva_tl") or __version__)
    model = _plain(results.get("model", {}).get("name") or "a language model")
    facts = [f"neva_tl {version}", f"judge {_plain(results.get('judge', 'unknown'))}"]
    facts += [f"weights {_plain(weights)[:12]}"] if (weights := manifest.get("model", {}).get("weights_hash")) else []
    facts += [f"prompts {_plain(prompts)[:12]}"] if (prompts := manifest.get("prompt_hash")) else []
    facts += [f"seed {seed:.0f}"] if (seed := finite(manifest.get("seed"))) is not None else []
    return f"""@software{{neva_tl,
  title   = {{neva_tl: value neurons in language models on TransformerLens}},
  author  = {{{{The neva_tl authors}}}},
  year    = {{2026}},
  version = {{{version}}},
  license = {{MIT}}
}}
@article{{neva,
  title   = {{Controllable Value Alignment in Large Language Models through Neuron-Level Editing}},
  journal = {{arXiv:2602.07356}},
  year    = {{2026}}
}}
@misc{{neva_tl_run,
  title = {{A neva_tl study of {model}}},
  note  = {{{", ".join(facts)}}}
}}
"""


def _plain(text: Any) -> str:
    """A name without characters that BibTeX reads as its own."""
    return "".join(" " if char in "{}\\@\n\r" else char for char in str(text))
