"""Policies: rules, the `mpc` rule with knobs, and what a policy file holds. Chosen by name in `controller.policies.registry`."""
