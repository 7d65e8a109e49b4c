"""Problems, the grammar of a step, verifiers, judges and rows to learn from. Imports none of the other rooms and no torch.

Names are imported when they are first asked for: a judge worker starts without numpy, a task without the others.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
