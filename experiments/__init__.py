"""What is claimed: training, evaluation, statistics and reports, each started by one verb of the command line."""
