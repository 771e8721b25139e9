"""Figures from tables, and CircuitsVis views. No function here knows a model; none touches pyplot."""

from neva_tl.plots.bars import method_bars
from neva_tl.plots.circle import circle_plot
from neva_tl.plots.dose import dose_response, gain_leakage
from neva_tl.plots.files import FIGURES, draw_run, read_table, write_figures
from neva_tl.plots.heatmap import leakage_heatmap
from neva_tl.plots.layer_ablation import layer_ablation
from neva_tl.plots.layer_profile import layer_profile
from neva_tl.plots.style import save_figure
from neva_tl.plots.volcano import effect_volcano
from neva_tl.plots.widgets import Widget, attention, bundle, colored_tokens, neuron_activations

__all__ = [
    "FIGURES",
    "Widget",
    "attention",
    "bundle",
    "circle_plot",
    "colored_tokens",
    "dose_response",
    "draw_run",
    "effect_volcano",
    "gain_leakage",
    "layer_ablation",
    "layer_profile",
    "leakage_heatmap",
    "method_bars",
    "neuron_activations",
    "read_table",
    "save_figure",
    "write_figures",
]
