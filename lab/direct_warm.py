"""What a call in direct mode loads, loaded: the one module that the fork server of ``lab.direct`` imports.

Libraries load modules and fill caches at their first use. That is done here once with throw-away objects;
nothing of the product is changed, and of the libraries two functions remember what they have answered.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 (of a host's name)
import os
from datetime import datetime
from functools import cache
from typing import Any

from botocore import hooks

from cni_floatip import plugin  # noqa: F401 (with all that it works with)
from cni_floatip.edges.ec2 import sessions

datetime.strptime("", "")  # noqa: DTZ007 (loads what reads a date)

# Half of what it costs botocore to make a session are two questions that have the same answer each time.
_hooks: Any = hooks
_aliased = cache(_hooks.EventAliaser(None)._alias_event_name)
_hooks.EventAliaser._alias_event_name = lambda _, name: _aliased(name)
_hooks.accepts_kwargs = cache(_hooks.accepts_kwargs)

# A client is made only where there are credentials; each fork has an environment of its own.
_ANY = {"AWS_ACCESS_KEY_ID": "warm", "AWS_SECRET_ACCESS_KEY": "warm"}
os.environ.update(_ANY)
sessions.Sdk({}).client("eu-central-1", "", lambda ask: ask())
for _name in _ANY:
    del os.environ[_name]
