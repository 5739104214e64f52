"""Who drives, and when the named rule takes over: modes, alarms, probation, policy store.

Everything here is a function of observations and of times that are passed in, so that a simulated run, a live run and
a replay of its journal agree on every tick. HTTP and Ray are in `serving`.
"""
