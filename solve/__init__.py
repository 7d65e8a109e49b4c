"""Answer problems within a budget: `from solve import solve`.

Names are imported when they are first asked for, so that a help text does not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
