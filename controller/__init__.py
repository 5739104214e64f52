"""Decisions of the serving controller: what to rent, which variant runs on it, and who is answered by what.

Nothing is imported here, so that `import controller` stays cheap; import the module that holds the type you need.
"""
