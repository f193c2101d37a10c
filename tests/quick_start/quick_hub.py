"""`python -m quick_hub`: `quick_classes`, with no garbage looked for while modules are loaded."""

import gc
import importlib

gc.disable()
classes = importlib.import_module("quick_classes")
gc.enable()
classes.JupyterHub.launch_instance()
