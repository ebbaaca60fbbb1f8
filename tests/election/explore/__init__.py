"""Explores the shipped core of elected claims: every order within a budget of faults, or random ones.

``values`` makes time relative, ``search`` walks and judges, ``world`` is everything outside the core,
``driver`` uses the core as its threads do, ``system`` and ``environment`` yield the steps, ``properties``
are P1 to P9, ``configurations`` the named runs. ``python -m tests.election.explore --help`` runs them.
"""
