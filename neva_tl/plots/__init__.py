"""Figures from tables, and CircuitsVis views, without a model and without pyplot."""

from neva_tl.plots.bars import method_bars
from neva_tl.plots.canvas import Look
from neva_tl.plots.circle import circle_plot
from neva_tl.plots.circuit import circuit_plot
from neva_tl.plots.confusion import corrected_heatmaps, mixing_heatmap
from neva_tl.plots.dose import dose_response, gain_leakage
from neva_tl.plots.faithfulness import faithfulness_plot
from neva_tl.plots.files import FIGURES, draw_run, read_table, write_figures
from neva_tl.plots.gain_cost import gain_cost_plot
from neva_tl.plots.gain_curves import gain_curves_plot
from neva_tl.plots.heatmap import leakage_heatmap
from neva_tl.plots.intervals import interval_plot
from neva_tl.plots.judges import judges_plot
from neva_tl.plots.layer_ablation import layer_ablation
from neva_tl.plots.layer_profile import layer_profile
from neva_tl.plots.lens import logit_lens_plot, token_lens_plot
from neva_tl.plots.margins import margin_heatmap
from neva_tl.plots.overlap import overlap_plot, overlaps
from neva_tl.plots.overview import calibration_plot, contrast_profile, gate_profile, prompt_counts
from neva_tl.plots.profile import profile_plot
from neva_tl.plots.sensitivity import sensitivity_plot, sparsity_plot
from neva_tl.plots.style import save_figure
from neva_tl.plots.texts import texts_plot
from neva_tl.plots.two_values import two_values_plot
from neva_tl.plots.value_graph import value_graph_plot
from neva_tl.plots.value_layers import value_layers_plot
from neva_tl.plots.volcano import effect_volcano
from neva_tl.plots.widgets import Widget, attention, bundle, colored_tokens, neuron_activations

__all__ = [
    "FIGURES",
    "Look",
    "Widget",
    "attention",
    "bundle",
    "calibration_plot",
    "circle_plot",
    "circuit_plot",
    "colored_tokens",
    "contrast_profile",
    "corrected_heatmaps",
    "dose_response",
    "draw_run",
    "effect_volcano",
    "faithfulness_plot",
    "gain_cost_plot",
    "gain_curves_plot",
    "gain_leakage",
    "gate_profile",
    "interval_plot",
    "judges_plot",
    "layer_ablation",
    "layer_profile",
    "leakage_heatmap",
    "logit_lens_plot",
    "margin_heatmap",
    "method_bars",
    "mixing_heatmap",
    "neuron_activations",
    "overlap_plot",
    "overlaps",
    "profile_plot",
    "prompt_counts",
    "read_table",
    "save_figure",
    "sensitivity_plot",
    "sparsity_plot",
    "texts_plot",
    "token_lens_plot",
    "two_values_plot",
    "value_graph_plot",
    "value_layers_plot",
    "write_figures",
]
