"""Names of `import neva_tl as nv`: read by lazy_loader at run time, and by editors and type checkers."""

from . import attribution as attribution
from . import circuits as circuits
from . import demo as demo
from . import editing as editing
from . import evaluation as evaluation
from . import methods as methods
from . import models as models
from . import plots as plots
from . import prompts as prompts
from . import selection as selection
from . import study as study
from .activations import ActivationStats as ActivationStats
from .activations import collect as collect
from .circuits import CircuitGraph as CircuitGraph
from .circuits import circuit as circuit
from .core import statistics as statistics
from .core import theories as theories
from .core import values as values
from .core.errors import InputError as InputError
from .core.errors import NevaError as NevaError
from .core.errors import WorkError as WorkError
from .core.neuron_set import NeuronSet as NeuronSet
from .core.theories import VALUES as VALUES
from .core.theories import ValueTheory as ValueTheory
from .editing import Ablate as Ablate
from .editing import AddVector as AddVector
from .editing import Amplify as Amplify
from .editing import Clamp as Clamp
from .editing import ContextAware as ContextAware
from .editing import RolePrompt as RolePrompt
from .editing import Scale as Scale
from .editing import Shift as Shift
from .editing import attach as attach
from .editing import auto_gate as auto_gate
from .editing import calibrate as calibrate
from .editing import edit as edit
from .editing import edit_hf as edit_hf
from .editing import export_edit as export_edit
from .editing import fit_context as fit_context
from .editing import fit_relevance as fit_relevance
from .editing import touched_tokens as touched_tokens
from .editing.bake.write import bake as bake
from .editing.saved import load_edit as load_edit
from .editing.saved import save_edit as save_edit
from .evaluation import capability as capability
from .evaluation import dose_response as dose_response
from .evaluation import leakage as leakage
from .models import fingerprint as fingerprint
from .models import inference as inference
from .models import load as load
from .models.inference import answer_logprobs as answer_logprobs
from .models.inference import generate as generate
from .prompts import ContrastSet as ContrastSet
from .prompts import Example as Example
from .selection import effect_table as effect_table
from .selection import planted as _planted
from .selection import select as select
from .study import Study as Study
from .study import compare as compare
from .study import layer_ablation as layer_ablation
from .study.analyses.reopened_run import Run as Run
from .study.steering import SteeringResult as SteeringResult
from .study.steering import steer as steer

baselines = methods
planting = _planted

__version__: str
