"""circuit(): from neurons, or from a task, to a graph of input tokens, heads, neurons, value tokens and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neva_tl.circuits.graph import CircuitGraph
from neva_tl.circuits.neuron_graph import neuron_graph
from neva_tl.circuits.search.nodes import Nodes
from neva_tl.circuits.search.task import ValueTask
from neva_tl.circuits.task_graph import task_graph
from neva_tl.core.arguments import check_arguments
from neva_tl.core.errors import InputError
from neva_tl.core.neuron_set import NeuronSet
from neva_tl.core.theories import ValueName
from neva_tl.models import Model
from neva_tl.prompts.example import Example


@check_arguments
def circuit(
    model: Model,
    neurons: NeuronSet | Sequence[NeuronSet] = (),
    *,
    task: ValueTask | None = None,
    nodes: Nodes | None = None,
    size: int = 60,
    test: ValueTask | None = None,
    values: Sequence[ValueName] | None = None,
    words: Mapping[ValueName, Sequence[str]] | None = None,
    top_tokens: int = 8,
    n_inputs: int = 10,
    edge_texts: int = 32,
    measure: bool = True,
    corpus: Sequence[str] | Sequence[Example] | None = None,
    examples: Sequence[Example] | None = None,
    chat: bool | None = None,
    seed: int = 0,
    progress: bool = False,
    **search: Any,
) -> CircuitGraph:
    """Build the circuit of a value.

    Without a task: the given neurons, the value tokens they write and the values of these tokens. Edges neuron -> token
    carry `attributed`: the token's logit change, against the average token, when the neuron moves from its mean on the
    - pole to its mean on the + pole (direct path, see `attribution.direct_logits`). Edges neuron -> value carry the
    mean of that over the value's tokens and, with examples, `measured`, `lo`, `hi`: the change of the value's log-odds
    when the neuron alone is ablated (a neuron that promotes a value has `measured` < 0). With examples the final
    norm's scale is measured on them and attributions are in logits; without, the scale is 1 and attributions are in
    logits times the stream's own scale.

    With a task (`value_task`): the heads and neurons that carry it (from `find_circuit`, unless `nodes` names them), their
    inputs, and the input tokens that matter most, in nats of the task (`circuit_effects`); edges to tokens are the
    neuron's contrast between the poles times its output weights. Given neuron sets mark the value neurons among them and
    supply their statistics.

    Args:
        model: A TransformerLens model.
        neurons: One set, or several (one per value).
        task: The behaviour to explain.
        nodes: Heads and neurons of the circuit; by default those that the search finds (needs a task).
        size: Number of heads and neurons to search for (needs a task).
        test: The same task on other texts; its faithfulness and completeness go into `meta` (needs a task).
        values: Values whose tokens are attributed (without a task); by default all ten, so that leaks are visible too.
        words: Words per value (without a task); by default half A of our lists.
        top_tokens: Edges kept per neuron: its value tokens of largest |attribution|. Edges to values use all tokens.
        n_inputs: Number of input tokens (needs a task).
        edge_texts: Texts per pole on which edges are measured (needs a task).
        measure: False skips the ablations that give `measured` (needs a task).
        corpus: Texts for the neurons' top contexts; by default the task's, and no contexts without a task.
        examples: Texts at whose answer tokens effects are measured (without a task).
        chat: As in `inference.encode` (without a task).
        seed: Seed of the search and of the random graphs (needs a task).
        progress: Whether to show progress bars (needs a task).
        search: Options of `find_circuits` (needs a task).

    Raises:
        InputError: There are neither neurons nor a task, a value has no tokens, `top_tokens` is below 1, or nodes or
            search options come without a task.

    Example:
        >>> graph = nv.circuit(model, neurons.head(5), values=["benevolence", "power"], top_tokens=2)
        >>> len(graph.nodes("neuron")), sorted({kind for _, kind in graph.graph.nodes(data="kind")})
        (5, ['neuron', 'token', 'value'])
    """
    sets = [neurons] if isinstance(neurons, NeuronSet) else list(neurons)
    if task is None and not any(len(item) for item in sets):
        raise InputError("a circuit needs at least one neuron, or a task: the sets are empty")
    if top_tokens < 1:
        raise InputError(f"top_tokens must be at least 1, not {top_tokens}")
    if task is None:
        if nodes is not None or search:
            raise InputError(f"nodes and search options ({', '.join(search) or 'nodes'}) need a task")
        return neuron_graph(
            model,
            sets,
            values=values,
            words=words,
            top_tokens=top_tokens,
            corpus=corpus,
            examples=examples,
            chat=chat,
        )
    return task_graph(
        model,
        task,
        sets=sets,
        nodes=nodes,
        size=size,
        test=test,
        top_tokens=top_tokens,
        n_inputs=n_inputs,
        edge_texts=edge_texts,
        measure=measure,
        corpus=corpus,
        seed=seed,
        progress=progress,
        search=search,
    )
