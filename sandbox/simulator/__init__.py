"""The production engine over a virtual clock, a store in memory and a model of AWS and of the bots.

One seed is one world: its bots, its settings, and everything that goes wrong in it. The same seed gives
the same events, so a violation is replayed by its seed.
"""
