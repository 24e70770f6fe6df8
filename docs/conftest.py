"""Leave out pages about what is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["torch.md"]
