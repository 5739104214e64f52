"""The AWS edge: machines of EC2 as nodes of a run, bought, watched and given back."""
