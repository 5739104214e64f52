"""EC2 rehearsed: what a stand-in lacks of the real service's behaviour, and the checks that are made on it."""
